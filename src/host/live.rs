//! The real engine: systemd, rootless Podman and the file system of this host. Carries out what it is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::host::disk::{self, DiskError};
use crate::host::exec::{ExecError, Starter, Waiting};
use crate::host::facts::{crowded, fact, file_troubles, frozen, link_there, mounts, networks};
use crate::host::failures::{disk, failed, image_failed, mount_failed, not_started, program_missing, start_failed};
use crate::host::files::{self, Doing as _, FileError};
use crate::host::images::Images;
use crate::host::kills::Kills;
use crate::host::listing::{Answer, Listing, OURS, Rows};
use crate::host::logs::{self, Log, LogError, Query};
use crate::host::systemd::{self, Systemd, SystemdError};
use crate::host::watch::Watch;
use crate::host::{Engine, EngineError, accounts, editor, homes};
use crate::model::account::Account;
use crate::model::config::Limits;
use crate::model::desired::{Desired, Machine, Workspace};
use crate::model::layout::{ADMIN_GROUP, Places};
use crate::model::names::WorkspaceName;
use crate::model::plan::{Directories, Fact, HostSighting, HostStep, Running, Service, Sighting, Step};
use crate::model::status::Trouble;
use crate::model::systemd::UnitSpec;
use crate::model::unit::{self, Live, MOUNTS, Mount, SpecHash};

const START: Duration = Duration::from_secs(unit::START_SECONDS + 5);
/// What fails later did not fail for a word that was missed.
const SOON: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(unit::STOP_SECONDS + 10);
const CHECK: Duration = Duration::from_secs(unit::STORAGE_CHECK_SECONDS);
const CHECK_STOP: Duration = Duration::from_secs(3);
const MOUNT: Duration = Duration::from_secs(30);

pub struct LiveEngine {
    pub systemd: Arc<Systemd>,
    pub listing: Listing<Systemd>,
    pub watch: Arc<Watch>,
    pub images: Images,
    pub commands: Starter,
    pub kills: Kills,
    pub machine: Machine,
}

impl LiveEngine {
    fn places(&self, name: &WorkspaceName) -> Places {
        self.machine.layout.of(name)
    }

    async fn rows(&self, name: &WorkspaceName, places: &Places) -> Answer {
        let mut units = vec![unit::service_name(name)];
        // systemd matches with FNM_NOESCAPE (fnmatch(3)): the backslashes of escaped names are plain characters.
        units.extend(MOUNTS.iter().map(|mount| mount.unit_name(places)));
        self.listing.look(units).await
    }

    async fn service(&self, rows: &Rows, name: &WorkspaceName) -> Result<Service, SystemdError> {
        let Some(row) = rows.get(&unit::service_name(name)) else {
            return Ok(Service::Absent);
        };
        match row.active.as_str() {
            "active" => {}
            "activating" | "reloading" | "refreshing" => return Ok(Service::Starting),
            "deactivating" => return Ok(Service::Stopping),
            _ => return Ok(Service::Absent),
        }
        let properties = self
            .systemd
            .properties(&row.name, &row.path, "org.freedesktop.systemd1.Service")
            .await?;
        let property = |name: &'static str| SystemdError::Property {
            unit: row.name.clone(),
            property: name,
        };
        let number = |name: &'static str| -> Result<u64, SystemdError> {
            properties
                .get(name)
                .and_then(|value| u64::try_from(value).ok())
                .ok_or_else(|| property(name))
        };
        let denied = networks(&properties).ok_or_else(|| property("IPAddressDeny"))?;
        let limits = Limits {
            memory_max: number("MemoryMax")?,
            memory_high: number("MemoryHigh")?,
            memory_low: number("MemoryLow")?,
            cpu_quota_usec: number("CPUQuotaPerSecUSec")?,
            cpu_weight: number("CPUWeight")?,
            tasks_max: number("TasksMax")?,
        };
        let started = number("ExecMainStartTimestamp").ok().filter(|at| *at != 0);
        Ok(Service::Running(Box::new(Running {
            spec: SpecHash::parse(&row.description),
            live: Live { limits, denied },
            frozen: frozen(&properties),
            started,
            oom: self.kills.look(name, started),
            main_pid: properties
                .get("MainPID")
                .and_then(|pid| u32::try_from(pid).ok())
                .filter(|pid| *pid != 0),
        })))
    }

    async fn answers(&self, service: &Fact<Service>, places: &Places) -> Fact<bool> {
        match service {
            Fact::Known(Service::Running(running)) if !running.frozen => {
                Fact::Known(editor::answers(&places.socket).await)
            }
            _ => Fact::Known(false),
        }
    }

    async fn await_ready(&self, name: &WorkspaceName, places: &Places) -> Result<(), EngineError> {
        let service = unit::service_name(name);
        let mut events = self.systemd.events();
        let ended = async {
            loop {
                match events.recv().await {
                    Ok(systemd::Event::Unit(unit)) if unit != service => {}
                    _ => match self.systemd.list(std::slice::from_ref(&service)).await {
                        Ok(rows) if rows.iter().any(|row| row.active == "active") => {}
                        Ok(_) => break,
                        Err(_) => std::future::pending().await,
                    },
                }
            }
        };
        if editor::ready(&self.watch, &places.socket, ended).await {
            return Ok(());
        }
        let trouble = Trouble::new(
            "editor-exited",
            "the editor ended before it answered",
            format!("`csm logs {name}` shows its last words"),
        );
        Err(EngineError {
            doing: "wait until the editor answers".to_owned(),
            trouble,
            source: None,
        })
    }

    async fn start(&self, name: &WorkspaceName, spec: &UnitSpec) -> Result<(), EngineError> {
        // A socket that a killed editor left would be taken for a new one.
        let _ = std::fs::remove_file(self.places(name).socket);
        let begun = Instant::now();
        let mut started = self.start_unit(spec).await;
        // A PID 1 that is busy or was reloaded may miss the word of a Podman that has ended by then, and ends a container
        // that runs (result `protocol`). That can't be told from other failures once the unit is gone; a second one counts.
        if matches!(started, Err(SystemdError::Job { .. })) && begun.elapsed() < SOON {
            started = self.start_unit(spec).await;
        }
        match started {
            Ok(()) => Ok(()),
            Err(error) => Err(self.why_not_started(name, spec, error).await),
        }
    }

    async fn start_unit(&self, spec: &UnitSpec) -> Result<(), SystemdError> {
        match self.systemd.start(spec, Vec::new(), START).await {
            Err(error) if systemd::is(&error, "org.freedesktop.systemd1.UnitExists") => {
                // One that failed and was not forgotten yet holds the name.
                // guard: F13-forgotten
                self.systemd.reset_failed(&spec.name).await?;
                self.systemd.start(spec, Vec::new(), START).await
            }
            started => started,
        }
    }

    /// What a start that failed lacked: one of its programs, or a store of its own that is whole.
    async fn why_not_started(&self, name: &WorkspaceName, spec: &UnitSpec, error: SystemdError) -> EngineError {
        // guard: F33-which-program
        if !self.machine.podman.is_file() || logs::find("crun", &self.machine.path).is_none() {
            return program_missing(&self.machine, error);
        }
        if !matches!(error, SystemdError::Job { .. }) {
            return start_failed(name, error);
        }
        let program = self.machine.podman.to_string_lossy();
        let check = unit::storage_check(name, spec, &program);
        let checked = self.systemd.start(&check, Vec::new(), CHECK).await;
        if matches!(checked, Err(SystemdError::Deadline { .. })) {
            self.end_check(name).await;
        }
        not_started(name, &self.places(name), error, &checked)
    }

    /// It works in the account's store, which nobody else may meanwhile.
    async fn end_check(&self, name: &WorkspaceName) {
        if let Err(error) = self.systemd.stop(&unit::storage_check_name(name), CHECK_STOP).await {
            tracing::warn!(workspace = %name, error = %systemd::Chain(&error), "{name}: a check of its storage was not stopped");
        }
    }

    async fn stop(&self, name: &WorkspaceName) -> Result<(), EngineError> {
        let service = unit::service_name(name);
        if crowded(&service) {
            // Podman could not be forked to end the container, and systemd would wait for what does not end by itself.
            if let Err(error) = self.systemd.kill(&service).await {
                tracing::warn!(workspace = %name, error = %systemd::Chain(&error), "{name}: a crowded container was not killed");
            }
        }
        let stopped = match self.systemd.stop(&service, STOP).await {
            Ok(()) => self.systemd.reset_failed(&service).await,
            Err(error) => Err(error),
        };
        stopped.map_err(|error| {
            let way_out = format!("`systemctl status {service}` shows what holds it");
            failed(
                "stop the container",
                Trouble::new("stop-failed", "the container could not be stopped", way_out),
                error,
            )
        })
    }
}

impl Engine for LiveEngine {
    async fn observe_host(&self, desired: &Desired) -> HostSighting {
        let image = match self
            .images
            .look(&self.systemd, &self.machine, &desired.image.name)
            .await
        {
            Ok(id) => Fact::Known(id),
            Err(error) => Fact::Unknown(systemd::Chain(&error).to_string()),
        };
        HostSighting { image }
    }

    async fn observe(&self, name: &WorkspaceName, wanted: Option<&Workspace>) -> Sighting {
        let places = self.places(name);
        let home = wanted.map(|workspace| workspace.home.as_path());
        let (service, mounts) = match self.rows(name, &places).await {
            Ok(rows) => (
                fact(Box::pin(self.service(&rows, name)).await),
                Fact::Known(mounts(&rows, &places, home, &self.machine.layout.image_store())),
            ),
            Err(error) => {
                let why = systemd::Chain(&*error).to_string();
                (Fact::Unknown(why.clone()), Fact::Unknown(why))
            }
        };
        if service == Fact::Known(Service::Absent) {
            self.kills.forget(name);
        }
        let leftovers = match (&service, &mounts) {
            (Fact::Known(Service::Absent), Fact::Known(up)) if up.contains_key(&Mount::Run) => {
                fact(std::fs::read_dir(&places.run).map(|mut entries| entries.next().is_some()))
            }
            _ => Fact::Known(false),
        };
        let account = match wanted.map(|workspace| accounts::look(&workspace.account, ADMIN_GROUP)) {
            Some(looked) => fact(looked),
            None => Fact::Unknown("not in the configuration".to_owned()),
        };
        let directories = match (wanted, &account) {
            (Some(workspace), Fact::Known(Ok(account))) => fact(homes::look(workspace, account, &self.machine)),
            _ => Fact::Unknown("the account is not known".to_owned()),
        };
        let rotated = match (&service, wanted) {
            (Fact::Known(Service::Running(_)), Some(workspace)) => fact(homes::rotated(workspace, &self.machine)),
            _ => Fact::Known(false),
        };
        Sighting {
            answers: self.answers(&service, &places).await,
            leftovers,
            front: fact(link_there(&places.front)),
            files: Fact::Known(wanted.map(file_troubles).unwrap_or_default()),
            account,
            directories,
            service,
            mounts,
            rotated,
        }
    }

    async fn present(&self) -> Result<BTreeSet<WorkspaceName>, EngineError> {
        let failed_to = |error| {
            let trouble = Trouble::new(
                "systemd-unreachable",
                "systemd did not list its units",
                "`systemctl status dbus`",
            );
            failed("list what runs", trouble, error)
        };
        let rows = self.systemd.list(&OURS.map(str::to_owned)).await.map_err(failed_to)?;
        let mut names: BTreeSet<WorkspaceName> = rows
            .iter()
            .filter_map(|row| unit::owner_of(&row.name, &row.description))
            .collect();
        if let Ok(entries) = std::fs::read_dir(self.machine.layout.fronts()) {
            names.extend(
                entries
                    .flatten()
                    .filter_map(|entry| WorkspaceName::parse(entry.file_name().to_str()?.strip_suffix(".sock")?).ok()),
            );
        }
        Ok(names)
    }

    async fn apply_host(&self, desired: &Desired, step: &HostStep) -> Result<(), EngineError> {
        let done = match (step, &desired.image.archive) {
            (HostStep::LoadImage, Some(archive)) => self.images.load(&self.systemd, &self.machine, archive).await,
            _ => {
                self.images
                    .pull(&self.systemd, &self.machine, &desired.image.name)
                    .await
            }
        };
        done.map_err(|error| image_failed(step, error))?;
        match self
            .images
            .look(&self.systemd, &self.machine, &desired.image.name)
            .await
        {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(EngineError {
                doing: step.describe().to_owned(),
                trouble: Trouble::new(
                    "image-name",
                    format!(
                        "the archive was loaded, but holds no image named {}",
                        desired.image.name
                    ),
                    "set image.name to the name in the archive (its manifest's RepoTags)",
                ),
                source: None,
            }),
            Err(error) => Err(image_failed(step, error)),
        }
    }

    async fn given_up(&self, name: &WorkspaceName) {
        // guard: F11-check-ends
        self.end_check(name).await;
    }

    async fn apply(&self, name: &WorkspaceName, step: &Step) -> Result<(), EngineError> {
        let places = self.places(name);
        match step {
            Step::UnlinkFront => files::remove(&places.front).map_err(|error| disk(step, error)),
            Step::LinkFront => link(&places).map_err(|error| disk(step, error)),
            Step::Stop => self.stop(name).await,
            Step::Unmount(mount) => {
                let unit = mount.unit_name(&places);
                self.systemd
                    .stop(&unit, MOUNT)
                    .await
                    .map_err(|error| mount_failed(step, &unit, error))
            }
            Step::Mount(_, spec) => {
                self.systemd
                    .reset_failed(&spec.name)
                    .await
                    .map_err(|error| mount_failed(step, &spec.name, error))?;
                self.systemd
                    .start(spec, Vec::new(), MOUNT)
                    .await
                    .map_err(|error| mount_failed(step, &spec.name, error))
            }
            Step::MakeDirectories(workspace, account) => self.make_directories(step, workspace, account),
            Step::WriteSecrets(workspace, account) => {
                homes::write_secrets(workspace, account, &self.machine).map_err(|error| {
                    let trouble = Trouble::new(
                        "secret-unusable",
                        error.to_string(),
                        "mend the file; it is looked at again at once",
                    );
                    failed("write the secrets", trouble, error)
                })
            }
            Step::Start(spec) => self.start(name, spec).await,
            Step::SetLive(live) => {
                let set = self
                    .systemd
                    .set_properties(&unit::service_name(name), &live.properties())
                    .await;
                set.map_err(|error| {
                    let trouble = Trouble::new(
                        "limits-refused",
                        "systemd refused the limits",
                        "`csm doctor` says what the host lacks",
                    );
                    failed("set the limits", trouble, error)
                })
            }
            Step::AwaitReady => self.await_ready(name, &places).await,
        }
    }
}

impl LiveEngine {
    /// Opens a workspace's log.
    pub async fn log(&self, name: &WorkspaceName, lines: u32, follow: bool) -> Result<Log, LogError> {
        let query = Query::of_unit_in(unit::LOG_NAMESPACE, &unit::service_name(name), lines, follow);
        self.journal(&query).await
    }

    /// Opens the journal.
    pub async fn journal(&self, query: &Query) -> Result<Log, LogError> {
        logs::open(&self.systemd, &self.machine.path, query).await
    }

    /// Counts what a home takes on the disk.
    pub async fn disk(&self, workspace: &Workspace) -> Result<u64, DiskError> {
        disk::used(&self.systemd, &self.machine.path, workspace).await
    }

    /// Makes the unit of a command in a workspace, which then has to be told which.
    pub async fn start_command(&self, workspace: &Workspace) -> Result<Waiting, ExecError> {
        self.commands.start(&self.systemd, &self.machine, workspace).await
    }

    fn make_directories(&self, step: &Step, workspace: &Workspace, account: &Account) -> Result<(), EngineError> {
        match homes::ensure(workspace, account, &self.machine) {
            Ok(Directories::Obstructed(trouble)) => Err(EngineError {
                doing: step.describe(),
                trouble,
                source: None,
            }),
            Ok(_) => Ok(()),
            Err(error) => Err(disk(step, error)),
        }
    }
}

fn link(places: &Places) -> Result<(), FileError> {
    // guard: F18-front-link
    files::remove(&places.front)?;
    std::os::unix::fs::symlink(&places.front_target, &places.front).doing("make the link", &places.front)
}
