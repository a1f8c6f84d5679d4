//! How a step's failure is told: what was attempted, a stable code, and the way out.

use crate::host::EngineError;
use crate::host::files::FileError;
use crate::host::images::ImageError;
use crate::host::systemd::{Chain, SystemdError};
use crate::model::desired::Machine;
use crate::model::layout::Places;
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

/// Podman or crun went away, or went elsewhere, since the daemon was started.
pub(crate) fn program_missing(machine: &Machine, error: SystemdError) -> EngineError {
    let way_out = "install it again, and it is tried again by itself; if it is elsewhere now: systemctl restart code-server-multi";
    let trouble = if machine.podman.is_file() {
        let what = format!("crun is nowhere on the daemon's PATH ({})", machine.path);
        Trouble::new("crun-missing", what, way_out)
    } else {
        let what = format!("podman is not at {} any more", machine.podman.display());
        Trouble::new("podman-missing", what, way_out)
    };
    failed("start the container", trouble, error)
}

/// A start that failed, and how the job of the check that followed it ended.
pub(crate) fn not_started(
    name: &WorkspaceName,
    places: &Places,
    error: SystemdError,
    checked: &Result<(), SystemdError>,
) -> EngineError {
    match checked {
        // The check ran and found something. A job that ended otherwise (timeout, dependency, canceled, lost) found nothing.
        // guard: F11-whole-storage
        Err(SystemdError::Job { result, .. }) if result == "failed" => storage_corrupt(name, places, error),
        _ => start_failed(name, error),
    }
}

/// The account's own store holds nothing but the container, which is made anew with each start.
fn storage_corrupt(name: &WorkspaceName, places: &Places, error: SystemdError) -> EngineError {
    let way_out = format!(
        "it holds the container alone, and the home lies elsewhere: csm stop {name}; rm -r {}; csm start {name}",
        places.container_store.display()
    );
    let what = "the account's container storage is damaged (`podman system check` says so)";
    failed(
        "start the container",
        Trouble::new("storage-corrupt", what, way_out),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::layout::Layout;

    /// Whatever kept the check from its end was told as a damaged store, with an `rm -r` as the way out.
    #[test]
    fn only_a_check_that_failed_found_a_damaged_store() {
        let name = WorkspaceName::parse("dan").unwrap();
        let places = Layout::default().of(&name);
        let unit = || "csm-dan--check-1.service".to_owned();
        let job = |result: &str| SystemdError::Job {
            unit: unit(),
            result: result.to_owned(),
        };
        for (checked, code) in [
            (Ok(()), "start-failed"),
            (Err(job("failed")), "storage-corrupt"),
            (Err(job("timeout")), "start-failed"),
            (Err(job("dependency")), "start-failed"),
            (Err(job("canceled")), "start-failed"),
            (Err(job("skipped")), "start-failed"),
            (
                Err(job("lost: systemd or the bus was restarted meanwhile")),
                "start-failed",
            ),
            (
                Err(SystemdError::Deadline {
                    unit: unit(),
                    deadline: Duration::from_secs(8),
                }),
                "start-failed",
            ),
            (Err(SystemdError::Disconnected), "start-failed"),
            (
                Err(SystemdError::Silent {
                    call: "StartTransientUnit",
                    unit: unit(),
                }),
                "start-failed",
            ),
        ] {
            let error = not_started(&name, &places, job("failed"), &checked);
            assert_eq!(error.trouble.code, code, "{checked:?}");
        }
    }
}
