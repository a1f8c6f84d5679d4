//! NGINX: puts a generation of files in force and proves it; takes it back when nginx refuses it, and finds the file at
//! fault. Decides nothing about what the files say (`model::nginx`), never starts, stops or configures nginx itself.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::model::names::WorkspaceName;
use crate::model::nginx::PROBE_SOCKET;
use crate::model::nginx::generation::Generation;

pub mod probe;
mod search;
pub mod store;
mod trial;
mod unit;

use store::{Link, Store, StoreError};

/// The directory of the probe's socket, as nginx's unit must name it in `RuntimeDirectory=`.
pub const RUNTIME_DIRECTORY: &str = "code-server-multi-nginx";

/// Code and remedy where nginx's unit lacks the drop-in: a reload is then only known by its job's result.
pub const DROP_IN_MISSING: (&str, &str) = (
    "nginx-drop-in-missing",
    "install nginx.service.d/code-server-multi.conf, then systemctl daemon-reload and systemctl restart nginx",
);

/// nginx needs some 100 ms to put new workers in place.
const POLL: Duration = Duration::from_millis(25);

/// What this file needs of systemd.
pub trait Reloader {
    fn state(&self, unit: &str) -> impl Future<Output = Result<UnitState, ReloadError>> + Send;

    /// `ReloadUnit(unit, "replace")` and the result of its job.
    fn reload(&self, unit: &str) -> impl Future<Output = Result<JobResult, ReloadError>> + Send;

    /// What nginx said when its last reload failed, one line: a hint for people, so nothing when it can't be had.
    fn complaint(&self, _unit: &str) -> impl Future<Output = Option<String>> + Send {
        std::future::ready(None)
    }

    /// The unit's `RuntimeDirectory=`, names below /run.
    fn runtime_directories(&self, unit: &str) -> impl Future<Output = Result<Vec<String>, ReloadError>> + Send;
}

/// `ActiveState` of a unit, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitState {
    /// Also while reloading.
    Active,
    /// Activating, or between two automatic restarts.
    Starting,
    /// Also while stopping, and when there is no such unit.
    Inactive,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobResult {
    Done,
    /// The word in `JobRemoved`: `failed`, `timeout`, `canceled`, `dependency`, `skipped`.
    Failed(String),
}

/// systemd gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("ask systemd about {unit}")]
pub struct ReloadError {
    pub unit: String,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Where things are, and how long to wait for them.
#[derive(Debug, Clone)]
pub struct Settings {
    pub snippet_dir: PathBuf,
    pub unit: String,
    pub group: String,
    pub probe_socket: PathBuf,
    /// For a reload job, and for nginx to finish starting.
    pub job_deadline: Duration,
    /// For nginx to answer with the new generation after its reload.
    pub probe_deadline: Duration,
}

impl Settings {
    pub fn new(nginx: &crate::model::config::Nginx) -> Self {
        Self {
            snippet_dir: nginx.snippet_dir.clone(),
            unit: nginx.unit.clone(),
            group: nginx.group.clone(),
            probe_socket: PROBE_SOCKET.into(),
            job_deadline: Duration::from_secs(30),
            probe_deadline: Duration::from_secs(5),
        }
    }
}

/// A generation that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub digest: String,
    pub reloaded: bool,
    pub proof: Proof,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// nginx answers with it.
    Served,
    /// The reload job succeeded; nginx can't be asked ([`DROP_IN_MISSING`]).
    Reloaded,
    /// nginx isn't running and reads it when it starts.
    NotRunning,
}

/// What is known of nginx; `Err` is why something is unknown, which is never the same as absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// What `current` names.
    pub current: Result<Option<String>, String>,
    /// What nginx answers with; nothing when it isn't running.
    pub served: Result<Option<String>, String>,
    pub state: Result<UnitState, String>,
}

/// A file that nginx refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Culprit {
    pub file: String,
    /// Nothing for the file that all workspaces share.
    pub workspace: Option<WorkspaceName>,
    /// The loopback port that it needs: the one thing of a workspace's own that can be taken.
    pub port: Option<u16>,
    pub reason: String,
}

#[derive(Debug, thiserror::Error)]
pub enum NginxError {
    #[error("keep the nginx files")]
    Store(#[from] StoreError),
    #[error("the group {0} of nginx does not exist")]
    NoGroup(String),
    #[error("look up the group {group} of nginx")]
    Group {
        group: String,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Systemd(#[from] ReloadError),
    #[error("nginx refuses {}", complaints(culprits))]
    Refused {
        culprits: Vec<Culprit>,
        /// The generation that nginx serves instead: all that it takes of the new one.
        in_force: String,
    },
    #[error("{unit} refuses its configuration without our change too: {reason}")]
    Foreign { unit: String, reason: String },
    #[error("{unit} is not running after a failure")]
    Down { unit: String },
}

impl NginxError {
    /// Stable code and what to do.
    pub fn remediation(&self) -> (&'static str, String) {
        match self {
            Self::Store(error) => (
                "nginx-snippets-unwritable",
                format!(
                    "make {} writable for the daemon, on a file system with free space",
                    error.path.display()
                ),
            ),
            Self::NoGroup(group) | Self::Group { group, .. } => (
                "nginx-group-missing",
                format!("create the group {group}, or set nginx.group to the group that nginx runs as"),
            ),
            Self::Systemd(_) => (
                "systemd-unreachable",
                "see systemctl status and journalctl -u dbus".to_owned(),
            ),
            Self::Refused { culprits, .. } => ("nginx-snippet-refused", refused_remedy(culprits)),
            Self::Foreign { .. } => (
                "nginx-config-foreign",
                "run nginx -t and mend what it names; the workspaces are served as before, changes to them follow then"
                    .to_owned(),
            ),
            Self::Down { unit } => (
                "nginx-failed",
                format!(
                    "see journalctl -u {unit}, then systemctl restart {unit}; it finds the files that it last served"
                ),
            ),
        }
    }
}

fn complaints(culprits: &[Culprit]) -> String {
    let each: Vec<String> = culprits
        .iter()
        .map(|Culprit { file, reason, .. }| format!("{file} ({reason})"))
        .collect();
    each.join(", ")
}

fn refused_remedy(culprits: &[Culprit]) -> String {
    let ports: Vec<String> = culprits
        .iter()
        .filter_map(|culprit| culprit.port)
        .map(|port| port.to_string())
        .collect();
    let cause = if culprits.iter().any(|culprit| culprit.workspace.is_none()) {
        "often a certificate that it can't read".to_owned()
    } else if ports.is_empty() {
        "see its line in the journal".to_owned()
    } else {
        format!(
            "see with ss -ltnp who has port {} on 127.0.0.1, or configure another",
            ports.join(", ")
        )
    };
    format!("find the cause with journalctl -u nginx: {cause}; everything follows by itself once it is gone")
}

/// One nginx.
pub struct Publisher<R> {
    settings: Settings,
    reloader: R,
    /// One publication at a time; what the last refusal taught.
    refusal: Mutex<Option<Refusal>>,
}

struct Refusal {
    wanted: String,
    in_force: String,
    culprits: Vec<Culprit>,
}

impl<R: Reloader + Sync> Publisher<R> {
    pub fn new(settings: Settings, reloader: R) -> Self {
        Self {
            settings,
            reloader,
            refusal: Mutex::new(None),
        }
    }

    /// Whether generations may have the probe: nginx fails when the directory of its socket isn't there.
    pub async fn can_probe(&self) -> Result<bool, NginxError> {
        let Settings { unit, probe_socket, .. } = &self.settings;
        if !self
            .reloader
            .runtime_directories(unit)
            .await?
            .iter()
            .any(|name| name == RUNTIME_DIRECTORY)
        {
            return Ok(false);
        }
        // A drop-in that came while nginx was running counts from its next start.
        let running = self.reloader.state(unit).await? == UnitState::Active;
        Ok(!running || probe_socket.parent().is_some_and(std::path::Path::is_dir))
    }

    pub async fn observe(&self) -> Observed {
        let state = self
            .reloader
            .state(&self.settings.unit)
            .await
            .map_err(|error| error.to_string());
        let served = match &state {
            Ok(UnitState::Active | UnitState::Starting) => probe::served(&self.settings.probe_socket)
                .await
                .map(Some)
                .map_err(|error| error.to_string()),
            Ok(UnitState::Inactive | UnitState::Failed) => Ok(None),
            Err(why) => Err(why.clone()),
        };
        let current = self
            .store(|store| store.link(Link::Current))
            .await
            .map_err(|error| error.to_string());
        Observed { current, served, state }
    }

    /// Makes nginx serve `wanted`. On `Refused` it serves what it takes of it, on any other error what it served before.
    pub async fn publish(&self, wanted: &Generation) -> Result<Published, NginxError> {
        let mut refusal = self.refusal.lock().await;
        let unit = &self.settings.unit;
        self.write(wanted).await?;
        let digest = wanted.digest().to_owned();
        match self.settled_state().await? {
            UnitState::Active => {}
            UnitState::Inactive => {
                self.point(Link::Current, Some(wanted)).await?;
                self.prune(wanted).await?;
                return Ok(Published {
                    digest,
                    reloaded: false,
                    proof: Proof::NotRunning,
                });
            }
            // It may have failed on what `current` names: with what it last served it can start again.
            UnitState::Starting | UnitState::Failed => {
                // guard: F7-last-good
                self.store(|store| store.point(Link::Current, store.link(Link::Good)?.as_deref()))
                    .await?;
                return Err(NginxError::Down { unit: unit.clone() });
            }
        }

        if self.is_in_force(wanted).await? {
            self.point(Link::Good, Some(wanted)).await?;
            let proof = if wanted.has_probe() {
                Proof::Served
            } else {
                Proof::Reloaded
            };
            return Ok(Published {
                digest,
                reloaded: false,
                proof,
            });
        }
        let before = self.last_good().await?;
        let reason = match self.attempt(wanted, &before).await? {
            Ok(proof) => {
                *refusal = None;
                self.settle(wanted, &before).await?;
                info!(generation = digest, "nginx serves the new generation");
                return Ok(Published {
                    digest,
                    reloaded: true,
                    proof,
                });
            }
            Err(reason) => reason,
        };
        warn!(generation = digest, reason, "nginx refuses the new generation");

        let known = refusal
            .as_ref()
            .filter(|known| known.wanted == digest && known.in_force == before.digest());
        if let Some(known) = known
            && self.served().await.as_deref() == Some(before.digest())
        {
            // Every reload leaves old workers behind that editors are connected to: not again for what is known.
            return Err(NginxError::Refused {
                culprits: known.culprits.clone(),
                in_force: known.in_force.clone(),
            });
        }
        let (in_force, culprits) = self.largest_good(wanted, &before, reason).await?;
        self.settle(&in_force, &before).await?;
        let in_force = in_force.digest().to_owned();
        *refusal = Some(Refusal {
            wanted: digest,
            in_force: in_force.clone(),
            culprits: culprits.clone(),
        });
        Err(NginxError::Refused { culprits, in_force })
    }

    fn foreign(&self, reason: String) -> NginxError {
        NginxError::Foreign {
            unit: self.settings.unit.clone(),
            reason,
        }
    }

    /// Remembers that nginx serves `generation`, and deletes all but this and the one before it.
    async fn settle(&self, generation: &Generation, before: &Generation) -> Result<(), NginxError> {
        self.point(Link::Good, Some(generation)).await?;
        let keep = [generation.digest().to_owned(), before.digest().to_owned()];
        self.store(move |store| store.prune(&keep.each_ref().map(String::as_str)))
            .await
    }

    /// Deletes what neither `wanted` nor the way back needs.
    async fn prune(&self, wanted: &Generation) -> Result<(), NginxError> {
        let wanted = wanted.digest().to_owned();
        self.store(move |store| {
            let good = store.link(Link::Good)?.unwrap_or_default();
            store.prune(&[&wanted, &good])
        })
        .await
    }

    async fn served(&self) -> Option<String> {
        probe::served(&self.settings.probe_socket).await.ok()
    }

    async fn write(&self, generation: &Generation) -> Result<(), NginxError> {
        let generation = generation.clone();
        self.store(move |store| {
            if generation.is_empty() {
                Ok(())
            } else {
                store.write(&generation)
            }
        })
        .await
    }

    async fn point(&self, link: Link, generation: Option<&Generation>) -> Result<(), NginxError> {
        let digest = generation
            .filter(|generation| !generation.is_empty())
            .map(|one| one.digest().to_owned());
        self.store(move |store| store.point(link, digest.as_deref())).await
    }

    /// Work on the files, off the runtime's thread: syncing waits for the disk.
    async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, NginxError> {
        let (dir, group) = (self.settings.snippet_dir.clone(), self.settings.group.clone());
        let task = tokio::task::spawn_blocking(move || {
            let gid = match nix::unistd::Group::from_name(&group) {
                Ok(Some(found)) => found.gid.as_raw(),
                Ok(None) => return Err(NginxError::NoGroup(group)),
                Err(errno) => {
                    return Err(NginxError::Group {
                        group,
                        source: errno.into(),
                    });
                }
            };
            Ok(work(&Store { dir, gid })?)
        });
        match task.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Cancelled: the runtime is going down, and this with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

#[cfg(test)]
mod tests;
