//! How a step's failure is told: what was attempted, a stable code, and the way out.

use crate::host::EngineError;
use crate::host::files::FileError;
use crate::host::images::ImageError;
use crate::host::systemd::{Chain, SystemdError};
use crate::model::names::WorkspaceName;
use crate::model::plan::{HostStep, Step};
use crate::model::status::Trouble;

pub(crate) fn failed(
    doing: &str,
    trouble: Trouble,
    source: impl std::error::Error + Send + Sync + 'static,
) -> EngineError {
    EngineError {
        doing: doing.to_owned(),
        trouble,
        source: Some(Box::new(source)),
    }
}

pub(crate) fn start_failed(name: &WorkspaceName, error: SystemdError) -> EngineError {
    let way_out = format!("`csm logs {name}` shows what Podman said; `csm doctor` checks the host");
    failed(
        "start the container",
        Trouble::new("start-failed", "the container did not start", way_out),
        error,
    )
}

pub(crate) fn mount_failed(step: &Step, unit: &str, error: SystemdError) -> EngineError {
    let way_out = format!("`journalctl -u '{unit}'` shows what mount(8) said; `csm doctor` checks the host");
    failed(
        &step.describe(),
        Trouble::new("mount-failed", format!("can't {}", step.describe()), way_out),
        error,
    )
}

pub(crate) fn disk(step: &Step, error: FileError) -> EngineError {
    let message = Chain(&error).to_string();
    failed(
        &step.describe(),
        Trouble::new(
            "disk-refused",
            message,
            "make room or make it writable; it is tried again",
        ),
        error,
    )
}

pub(crate) fn image_failed(step: &HostStep, error: ImageError) -> EngineError {
    let message = Chain(&error).to_string();
    let way_out = "mend what it says; it is tried again, and `csm reload` tries at once";
    failed(step.describe(), Trouble::new("image-failed", message, way_out), error)
}
