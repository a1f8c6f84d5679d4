//! How much disk a home takes: du(1) in a unit of its own, as the workspace's account and behind everything else. Root does
//! not walk a tree that a workspace writes, and nobody walks it unless somebody asks.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Semaphore;

use crate::host::logs::find;
use crate::host::systemd::{Systemd, SystemdError, number};
use crate::model::desired::Workspace;
use crate::model::systemd::{ANY_LINE, UnitSpec, Value, exec};
use crate::model::unit;

/// A home that takes longer is not counted.
const DEADLINE: Duration = Duration::from_secs(60);
/// So many at once: disks that seek are not made for more.
static TURNS: Semaphore = Semaphore::const_new(2);
/// du keeps in mind every file with several names.
const MEMORY: u64 = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("du is not on the daemon's PATH")]
    NoDu,
    #[error("can't make a pipe to du")]
    Pipe(#[source] std::io::Error),
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    #[error("counting was not done within {} s", DEADLINE.as_secs())]
    Deadline,
    #[error("du said nothing that could be read")]
    Strange,
}

/// Bytes that a workspace's home takes on the disk. What its owner has locked even against itself is not in it.
pub async fn used(systemd: &Systemd, path: &str, workspace: &Workspace) -> Result<u64, DiskError> {
    let du = find("du", path).ok_or(DiskError::NoDu)?;
    // Never closed, so that there always is a permit.
    let _turn = TURNS.acquire().await;
    let mut arguments = ["--summarize", "--total", "--block-size=1", "--"]
        .map(str::to_owned)
        .to_vec();
    arguments.extend(["workspace", "config", "home"].map(|part| format!("{SEEN}/{part}")));
    let spec = UnitSpec {
        // Two hyphens: no workspace's own unit is ever called that.
        name: format!("csm-{}--disk-{}.service", workspace.name, number()),
        properties: vec![
            (
                "Description",
                Value::Text(format!("code-server-multi disk use of {}", workspace.name)),
            ),
            ("Type", Value::Text("exec".to_owned())),
            ("Slice", Value::Text(unit::SLICE.to_owned())),
            ("User", Value::Text(workspace.account.to_string())),
            // The way to the homes is root's alone.
            (
                "BindReadOnlyPaths",
                Value::Binds(vec![(workspace.home.to_string_lossy().into_owned(), SEEN.to_owned())]),
            ),
            ("ProtectSystem", Value::Text("strict".to_owned())),
            ("PrivateNetwork", Value::Bool(true)),
            ("NoNewPrivileges", Value::Bool(true)),
            ("WorkingDirectory", Value::Text("/".to_owned())),
            ("StandardError", Value::Text("null".to_owned())),
            ANY_LINE,
            ("Nice", Value::I32(19)),
            ("IOSchedulingClass", Value::I32(IDLE)),
            ("MemoryMax", Value::U64(MEMORY)),
            // For when there is no daemon any more: it gives up first, and says so.
            ("RuntimeMaxUSec", Value::U64((DEADLINE.as_secs() + 5) * 1_000_000)),
            ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
            ("ExecStart", Value::Execs(vec![exec(&du, arguments)])),
        ],
    };
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|errno| DiskError::Pipe(errno.into()))?;
    let reader = Receiver::from_owned_fd(reader).map_err(DiskError::Pipe)?;
    systemd
        .start(&spec, vec![("StandardOutputFileDescriptor", writer)], DEADLINE)
        .await?;
    let mut printed = String::new();
    let mut reader = reader.take(64 * 1024);
    let read = reader.read_to_string(&mut printed);
    match tokio::time::timeout(DEADLINE, read).await {
        Ok(Ok(_)) => total(&printed).ok_or(DiskError::Strange),
        Ok(Err(error)) => Err(DiskError::Pipe(error)),
        Err(_) => Err(DiskError::Deadline),
    }
}

/// Where du sees the home; every host has the directory, and only du sees this in its place.
const SEEN: &str = "/tmp";
/// IOPRIO_CLASS_IDLE (ioprio_set(2)).
const IDLE: i32 = 3;

/// The line that `--total` adds.
fn total(printed: &str) -> Option<u64> {
    let (bytes, what) = printed.trim_end().lines().next_back()?.split_once('\t')?;
    (what == "total").then(|| bytes.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_total() {
        for (printed, bytes) in [
            ("4096\t/tmp/workspace\n8192\t/tmp/config\n12288\ttotal\n", Some(12288)),
            ("4096\t/tmp/workspace\n", None),
            ("many\ttotal\n", None),
            ("", None),
        ] {
            assert_eq!(total(printed), bytes, "{printed}");
        }
    }
}
