//! Running a command inside a workspace. PID 1 starts a unit of its own for it as the account; its process waits until it
//! has been moved into the workspace's cgroup (Podman refuses to enter a container from another), and then becomes
//! `podman exec`. The daemon forks nothing.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};

use crate::host::systemd::{Systemd, SystemdError, number};
use crate::model::desired::{Machine, Workspace};
use crate::model::podman;
use crate::model::systemd::{UnitSpec, Value, exec};
use crate::model::unit;

/// The hidden subcommand of `csm` that writes one byte, waits for one on its standard input, and then becomes the rest of its
/// arguments.
pub const WAITER: &str = "exec-when-told";

#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("can't make a pipe")]
    Pipe(#[source] std::io::Error),
    #[error("can't find the path of csm itself")]
    Own(#[source] std::io::Error),
    #[error("the command's process is not there")]
    NoProcess,
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    #[error("the command was not done within {} s", .0.as_secs())]
    Deadline(Duration),
}

/// Runs a command to its end; the answer is what it printed on standard output, at most 64 KiB. Its own exit code
/// counts for nothing.
pub async fn run(
    systemd: &Systemd,
    machine: &Machine,
    workspace: &Workspace,
    command: &[String],
    terminal: bool,
    deadline: Duration,
) -> Result<String, ExecError> {
    let own = std::env::current_exe().map_err(ExecError::Own)?;
    let mut arguments = vec![
        WAITER.to_owned(),
        "--".to_owned(),
        machine.podman.to_string_lossy().into_owned(),
    ];
    arguments.extend(podman::exec(command, terminal));
    let places = machine.layout.of(&workspace.name);
    let spec = UnitSpec {
        // Two hyphens: no workspace's own unit is ever called that.
        name: format!("csm-{}--exec-{}.service", workspace.name, number()),
        properties: [
            (
                "Description",
                Value::Text(format!("code-server-multi command in {}", workspace.name)),
            ),
            // The job ends with the command.
            ("Type", Value::Text("oneshot".to_owned())),
            ("Slice", Value::Text(unit::SLICE.to_owned())),
            ("User", Value::Text(workspace.account.to_string())),
            ("WorkingDirectory", Value::Text("/".to_owned())),
            ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
            (
                "TimeoutStartUSec",
                Value::U64(u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX)),
            ),
            ("Environment", Value::Texts(unit::podman_environment(&places, machine))),
            ("ExecStart", Value::Execs(vec![exec(&own.to_string_lossy(), arguments)])),
        ]
        .into_iter()
        // The command isn't the service's child, and would go without.
        .chain(unit::inherited())
        .collect(),
    };
    let (input_end, input) = pipe()?;
    let (output, output_end) = pipe()?;
    let mut input = Sender::from_owned_fd(input).map_err(ExecError::Pipe)?;
    let mut output = Receiver::from_owned_fd(output).map_err(ExecError::Pipe)?;
    let fds = vec![
        ("StandardInputFileDescriptor", input_end),
        ("StandardOutputFileDescriptor", output_end),
    ];
    let job = systemd.begin(&spec, fds).await?;
    let work = async {
        output.read_u8().await.map_err(|_| ExecError::NoProcess)?;
        let pid = main_pid(systemd, &spec.name).await?;
        systemd
            .attach(&unit::service_name(&workspace.name), "/runtime", vec![pid])
            .await?;
        // The waiter goes on; nothing more is said to the command.
        let _ = input.write_all(b"\n").await;
        drop(input);
        let mut printed = Vec::new();
        let _ = output.take(64 * 1024).read_to_end(&mut printed).await;
        let _ = job.ended(deadline).await;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    };
    if let Ok(printed) = tokio::time::timeout(deadline, work).await {
        return printed;
    }
    let _ = systemd.stop(&spec.name, Duration::from_secs(10)).await;
    Err(ExecError::Deadline(deadline))
}

fn pipe() -> Result<(OwnedFd, OwnedFd), ExecError> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|errno| ExecError::Pipe(errno.into()))
}

/// The process of a unit that was just started. systemd answers calls in order, so it has forked by now or soon will.
async fn main_pid(systemd: &Systemd, name: &str) -> Result<u32, ExecError> {
    let pattern = [name.to_owned()];
    for _ in 0..50 {
        let rows = systemd.list(&pattern).await?;
        if let Some(row) = rows.first() {
            let properties = systemd
                .properties(&row.name, &row.path, "org.freedesktop.systemd1.Service")
                .await?;
            if let Some(pid) = properties
                .get("MainPID")
                .and_then(|pid| u32::try_from(pid).ok())
                .filter(|pid| *pid != 0)
            {
                return Ok(pid);
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(ExecError::NoProcess)
}
