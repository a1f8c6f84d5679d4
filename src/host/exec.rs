//! Making the unit in which a command enters a workspace. PID 1 starts it as the account, its process is moved into the
//! workspace's cgroup (Podman refuses to enter a container from another), and it then waits to be told which command it is.
//! The daemon forks nothing.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use crate::host::systemd::{Systemd, SystemdError, number};
use crate::model::desired::{Machine, Workspace};
use crate::model::exec::{self, START_SECONDS};
use crate::model::unit;

#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error(
        "there are too many commands at once: {} in a workspace and {} in all",
        exec::MOST_EACH,
        exec::MOST
    )]
    TooMany,
    #[error("can't {doing}")]
    Io {
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("the command's process is not there")]
    NoProcess,
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    #[error("the command was not done within {} s", .0.as_secs())]
    Deadline(Duration),
}

/// A command's unit, in the workspace's cgroup.
#[derive(Debug)]
pub struct Waiting {
    pub unit: String,
    /// Leads to its process, which ends if this is closed before it was told everything.
    pub orders: UnixStream,
}

/// Starts units one after the other, so that those there are can be counted.
#[derive(Debug)]
pub struct Starter(Semaphore);

impl Default for Starter {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

impl Starter {
    pub async fn start(
        &self,
        systemd: &Systemd,
        machine: &Machine,
        workspace: &Workspace,
    ) -> Result<Waiting, ExecError> {
        // Never closed, so that there always is a permit.
        let _turn = self.0.acquire().await.ok();
        let units = systemd.list(&[exec::UNITS.to_owned()]).await?;
        if !exec::has_room(&workspace.name, units.iter().map(|row| row.name.as_str())) {
            return Err(ExecError::TooMany);
        }
        let program = std::env::current_exe().map_err(|source| ExecError::Io {
            doing: "find the path of csm itself",
            source,
        })?;
        let spec = exec::unit(workspace, machine, &program.to_string_lossy(), number());
        let (orders, theirs) = UnixStream::pair()
            .and_then(|(near, far)| Ok((near, OwnedFd::from(far.into_std()?))))
            .map_err(|source| ExecError::Io {
                doing: "make a pair of sockets",
                source,
            })?;
        systemd
            .start(
                &spec,
                vec![("StandardInputFileDescriptor", theirs)],
                Duration::from_secs(START_SECONDS + 5),
            )
            .await?;
        let pid = main_pid(systemd, &spec.name).await?;
        systemd
            .attach(&unit::service_name(&workspace.name), "/runtime", vec![pid])
            .await?;
        Ok(Waiting {
            unit: spec.name,
            orders,
        })
    }
}

/// The process of a unit that was started.
async fn main_pid(systemd: &Systemd, name: &str) -> Result<u32, ExecError> {
    let rows = systemd.list(&[name.to_owned()]).await?;
    let row = rows.first().ok_or(ExecError::NoProcess)?;
    let properties = systemd
        .properties(&row.name, &row.path, "org.freedesktop.systemd1.Service")
        .await?;
    properties
        .get("MainPID")
        .and_then(|pid| u32::try_from(pid).ok())
        .filter(|pid| *pid != 0)
        .ok_or(ExecError::NoProcess)
}
