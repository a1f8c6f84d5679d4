//! A made-up host with daemons on it: the real controller and workers on [`super::fake`]'s world.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use code_server_multi::api::State;
use code_server_multi::host::intents::Intents;
use code_server_multi::host::systemd::Event;
use code_server_multi::host::watch::Watch;
use code_server_multi::model::account::Account;
use code_server_multi::model::config::{self, Config};
use code_server_multi::model::desired::{Machine, Workspace};
use code_server_multi::model::layout::Layout;
use code_server_multi::model::names::{AccountName, WorkspaceName};
use code_server_multi::model::unit::{self, Live};
use code_server_multi::serve::app::App;
use code_server_multi::serve::nginx::NginxReport;
use code_server_multi::serve::passwords::Keeper;
use code_server_multi::serve::reconcile::Controller;
use code_server_multi::serve::triggers::follow;
use code_server_multi::serve::worker::Report;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fake::FakeEngine;
use super::fake::world::{Shared, Unit, World, account, image, lock};

/// Long enough for every pause, deadline and retry to pass.
pub const LONG: Duration = Duration::from_secs(900);

pub fn name(text: &str) -> WorkspaceName {
    WorkspaceName::parse(text).unwrap()
}

/// What every configuration begins with.
pub const TOP: &str = "domain = 'code.example.org'\n[image]\nname = 'localhost/workspace:1'\narchive = '/srv/image.tar'\n\
     [nginx]\ncertificate = '/etc/ssl/c.pem'\ncertificate_key = '/etc/ssl/k.pem'\n";

/// A configuration with these `[workspaces.*]` sections.
pub fn config(sections: &str) -> Config {
    config::parse(&format!("{TOP}{sections}")).unwrap()
}

/// Refuses to go on where an intent file can't be given to root: a test that returned early would count as passed.
pub fn needs_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "only root can own the daemon's files: run this test as root, as tests/run does, or leave out those that need it \
         with `-- --skip engine:: --skip answers::`"
    );
}

/// In memory where there is such a place: every intent is synced to its disk.
pub fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

pub struct Host {
    pub world: Shared,
    pub directory: TempDir,
}

impl Host {
    pub fn new() -> Self {
        needs_root();
        let directory = directory();
        let intents = directory.path().join("intent");
        std::fs::create_dir(&intents).unwrap();
        Self {
            world: Arc::new(Mutex::new(World::new(intents))),
            directory,
        }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    pub fn machine(&self) -> Machine {
        Machine {
            layout: Layout {
                state: self.directory.path().to_owned(),
                run: "/run/code-server-multi".into(),
            },
            podman: "/usr/bin/podman".into(),
            path: "/usr/bin".to_owned(),
            images: Account {
                name: AccountName::service("code-server-multi-images"),
                uid: 900,
                gid: 900,
                subuid: 100_000,
                subgid: 100_000,
            },
            web_gid: 950,
            own_addresses: vec!["192.0.2.7".parse().unwrap()],
        }
    }

    /// Starts a daemon, as `serve::daemon` does.
    pub fn daemon(&self, config: Config) -> Daemon {
        let dead = Arc::new(AtomicBool::new(false));
        let (tasks, token) = (TaskTracker::new(), CancellationToken::new());
        let controller = Controller::new(
            Arc::new(FakeEngine::new(self.world.clone(), dead.clone())),
            Intents::new(self.directory.path().join("intent")),
            config,
            self.machine(),
            tasks.clone(),
            token.clone(),
        );
        let controller = Arc::new(controller.unwrap());
        self.world().follow(&controller);
        let own = controller.clone();
        tasks.spawn(async move { own.run_image().await });
        let signals = self.world().signals.clone();
        let connected = watch::Sender::new(false);
        tasks.spawn(follow(
            signals.subscribe(),
            controller.clone(),
            connected,
            token.clone(),
        ));
        // The connection is there.
        let _ = signals.send(Event::Resync);
        controller.begin();
        let daemon = Daemon {
            controller,
            world: self.world.clone(),
            token,
            dead,
        };
        daemon.note_wishes();
        daemon
    }

    /// What the sockets of a daemon answer from, with its configuration in that file. Everything else says nothing.
    pub fn app(&self, daemon: &Daemon, file: PathBuf) -> Arc<App<FakeEngine>> {
        let passwords = self.directory.path().join("passwords");
        std::fs::create_dir(&passwords).unwrap();
        let keeper = Keeper::new(passwords, Arc::new(Watch::new().unwrap())).unwrap();
        Arc::new(App::new(
            file,
            daemon.controller.clone(),
            Arc::new(keeper),
            watch::Sender::new(NginxReport::default()).subscribe(),
            watch::Sender::new(daemon.controller.config()),
            watch::Sender::new(true).subscribe(),
            daemon.token.clone(),
        ))
    }

    /// What was done since the last time.
    pub fn log(&self) -> String {
        std::mem::take(&mut self.world().log).join("\n")
    }

    /// The world in a few words for each workspace.
    pub fn picture(&self) -> String {
        let mut text = String::new();
        for (name, place) in &self.world().places {
            let unit = match &place.unit {
                Unit::Running(editor) => {
                    format!("running with {} MiB", editor.live.limits.memory_max / 1024 / 1024)
                }
                Unit::Absent => "absent".to_owned(),
                Unit::Starting { .. } => "starting".to_owned(),
                Unit::Stopping => "stopping".to_owned(),
            };
            let mounts: Vec<_> = place.mounts.keys().map(|mount| mount.word()).collect();
            let (front, home) = (
                if place.front { ", on the web" } else { "" },
                if place.home { ", has a home" } else { "" },
            );
            let _ = writeln!(text, "{name}: {unit}, mounted {mounts:?}{front}{home}");
        }
        text
    }

    pub fn assert_nothing_forbidden(&self) {
        let violations = self.world().violations.clone();
        assert!(violations.is_empty(), "{violations:#?}\nlog: {:#?}", self.world().log);
    }
}

pub struct Daemon {
    pub controller: Arc<Controller<FakeEngine>>,
    world: Shared,
    token: CancellationToken,
    dead: Arc<AtomicBool>,
}

impl Daemon {
    /// What should run, for the world to judge steps by.
    fn note_wishes(&self) {
        let desired = self.controller.desired();
        let wishes = desired.workspaces.iter();
        lock(&self.world).wished = wishes
            .map(|(name, workspace)| (name.clone(), workspace.should_run()))
            .collect();
    }

    pub async fn start(&self, workspace: &str) {
        let asked = self.controller.intend(&name(workspace), true, "csm start").await;
        asked.unwrap();
        self.note_wishes();
    }

    pub async fn stop(&self, workspace: &str) {
        // It may be stopped before the answer is here.
        lock(&self.world).wished.insert(name(workspace), false);
        let asked = self.controller.intend(&name(workspace), false, "csm stop").await;
        asked.unwrap();
        self.note_wishes();
    }

    pub async fn restart(&self, workspace: &str) {
        lock(&self.world).excused.insert(name(workspace));
        let asked = self.controller.restart(&name(workspace), "csm restart").await;
        asked.unwrap();
        self.note_wishes();
    }

    pub fn configure(&self, config: Config) {
        self.controller.configure(config);
        self.note_wishes();
        let desired = self.controller.desired();
        let mut world = lock(&self.world);
        for (name, wanted) in &desired.workspaces {
            let (_, spec) = unit::service(wanted, &account(name), &desired.machine, &image());
            let differs = match &world.place(name).unit {
                Unit::Running(editor) => editor.spec.as_ref() != Some(&spec),
                Unit::Starting { .. } => true,
                Unit::Absent | Unit::Stopping => false,
            };
            // It may be stopped only for what it was not started with.
            if wanted.apply == config::Apply::Now && differs {
                world.excused.insert(name.clone());
            }
        }
    }

    /// As by `kill -9`: whatever it was about to do, it no longer does.
    pub fn kill(self) {
        self.dead.store(true, Ordering::SeqCst);
        self.token.cancel();
    }

    pub fn report(&self, workspace: &str) -> Report {
        self.controller.report(&name(workspace)).unwrap().borrow().clone()
    }

    pub fn states(&self) -> BTreeMap<WorkspaceName, State> {
        let reports = self.controller.reports();
        let shown = reports.iter().filter(|(_, report)| !report.borrow().gone);
        shown
            .map(|(name, report)| (name.clone(), report.borrow().state))
            .collect()
    }

    /// Everything is as the configuration and the intents say, and nothing more is to be done.
    pub async fn assert_as_desired(&self, host: &Host) {
        let plan = self.controller.plan().await;
        assert!(plan.is_empty(), "still to do: {plan:#?}");
        let desired = self.controller.desired();
        let world = host.world();
        for (name, place) in &world.places {
            let wanted = desired.workspaces.get(name);
            match &place.unit {
                Unit::Running(editor) => {
                    let workspace = wanted.unwrap_or_else(|| panic!("{name} runs and is not configured"));
                    assert!(workspace.should_run(), "{name} runs and should not");
                    assert!(place.front, "{name} runs off the web");
                    assert_eq!(editor.live, Live::of(workspace, &desired.machine), "{name}");
                }
                Unit::Absent => {
                    assert!(!wanted.is_some_and(Workspace::should_run), "{name} should run");
                    assert!(!place.front, "{name} is on the web");
                    let mounts = if wanted.is_some_and(|own| own.enabled) { 3 } else { 0 };
                    assert_eq!(place.mounts.len(), mounts, "{name}");
                }
                other => panic!("{name} is {other:?}"),
            }
        }
        for (name, workspace) in &desired.workspaces {
            let place = world
                .places
                .get(name)
                .unwrap_or_else(|| panic!("{name} was never made"));
            assert_eq!(matches!(place.unit, Unit::Running(_)), workspace.should_run(), "{name}");
            assert!(!self.controller.busy(name), "{name} is busy for ever");
            let expected = match (workspace.enabled, workspace.intent.running) {
                (false, _) => State::Disabled,
                (true, false) => State::Stopped,
                (true, true) => State::Ready,
            };
            assert_eq!(self.report(name.as_str()).state, expected, "{name}");
        }
        drop(world);
        host.assert_nothing_forbidden();
    }
}
