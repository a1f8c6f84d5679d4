//! `csm daemon`: wiring, supervision, reload and an ordered end. The only file that starts top-level tasks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::host::accounts::{self, LookError};
use crate::host::exec::Starter;
use crate::host::files::{self, Access, FileError};
use crate::host::images::Images;
use crate::host::intents::{IntentError, Intents};
use crate::host::kills::Kills;
use crate::host::listing::Listing;
use crate::host::live::LiveEngine;
use crate::host::systemd::{Chain, Event, Systemd};
use crate::host::watch::Watch;
use crate::host::{addresses, logs};
use crate::model::account::AccountProblem;
use crate::model::config::Problem;
use crate::model::desired::Machine;
use crate::model::layout::{self, ADMIN_GROUP, GATEWAY_ACCOUNT, IMAGES_ACCOUNT, Layout, WEB_GROUP};
use crate::model::names::AccountName;
use crate::model::podman;
use crate::serve::app::{App, read_config};
use crate::serve::events::Event as Told;
use crate::serve::nginx::{self, NginxReport};
use crate::serve::pace::Pace;
use crate::serve::passwords::Keeper;
use crate::serve::reconcile::Controller;
use crate::serve::triggers::{follow, follow_kills, remember_kills};
use crate::serve::vital::Vital;
use crate::serve::{admin, config_file, gateway_socket, http};

/// How long the first connection to systemd is waited for.
const CONNECT: Duration = Duration::from_secs(5);
/// Held requests and steps under way get this long at the end.
const GRACE: Duration = Duration::from_secs(10);
/// Callers are few and local.
const SOCKETS: http::Bounds = http::Bounds {
    connections: 128,
    head: Duration::from_secs(10),
    head_bytes: 16 * 1024,
    grace: GRACE,
    descriptors: false,
    way_out: "the gateway alone uses it; `csm` talks to admin.sock",
};

#[derive(Debug, Clone)]
pub struct DaemonOptions {
    pub config: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("{} has problems", path.display())]
    Configuration { path: PathBuf, problems: Vec<Problem> },
    #[error("another csm daemon is running")]
    Running,
    #[error("podman is not on the daemon's PATH ({0})")]
    NoPodman(String),
    #[error("there is no group {0}")]
    NoGroup(&'static str),
    #[error("there is no account {0}")]
    NoAccount(&'static str),
    #[error("the account of the images can't carry them")]
    Images(#[source] AccountProblem),
    #[error(transparent)]
    Look(#[from] LookError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Intent(#[from] IntentError),
    #[error("can't {doing}")]
    Io {
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("can't watch directories")]
    Watch(#[source] notify::Error),
    #[error("{0} panicked")]
    Panicked(&'static str),
}

impl DaemonError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Configuration { .. } => "mend every key named; `csm check-config FILE` says the same",
            Self::Panicked(_) => {
                "a fault of csm itself; please report what `journalctl -u code-server-multi` says about it"
            }
            Self::Running => "`systemctl status code-server-multi` shows it",
            Self::NoPodman(_) => "install Podman 5 or newer",
            Self::NoGroup(_) | Self::NoAccount(_) | Self::Images(_) => {
                "docs/operations.md lists the accounts and groups to make; `csm doctor` checks them"
            }
            _ => "`csm doctor` checks the host",
        }
    }
}

/// Runs until SIGTERM. Workspaces go on running afterwards: they are systemd's.
#[expect(clippy::too_many_lines, reason = "the wiring, from top to bottom")]
pub async fn run(options: DaemonOptions) -> Result<(), DaemonError> {
    let config = read_config(&options.config).map_err(|problems| DaemonError::Configuration {
        path: options.config.clone(),
        problems,
    })?;
    let layout = Layout::default();
    let _lock = lock(&layout)?;
    let machine = machine(layout)?;
    prepare(&machine)?;

    let token = CancellationToken::new();
    let tasks = TaskTracker::new();
    let vital = Vital::new(tasks.clone(), token.clone());
    let watch = Arc::new(Watch::new().map_err(DaemonError::Watch)?);
    let systemd = Arc::new(Systemd::default());
    let engine = Arc::new(LiveEngine {
        systemd: systemd.clone(),
        listing: Listing::new(systemd.clone()),
        watch: watch.clone(),
        images: Images::default(),
        commands: Starter::default(),
        kills: Kills::new(Watch::new().map_err(DaemonError::Watch)?),
        machine: machine.clone(),
    });
    let intents = Intents::new(machine.layout.intents());
    let controller = Arc::new(Controller::new(
        engine.clone(),
        intents,
        config,
        machine.clone(),
        tasks.clone(),
        token.child_token(),
    )?);
    controller.events().keep_in_journal();
    boot(&machine, &controller)?;
    let keeper = Arc::new(Keeper::new(machine.layout.passwords(), watch.clone())?);
    let config = watch::channel(controller.config()).0;
    let nginx_report = watch::Sender::new(NginxReport::default());
    let connected = watch::channel(false).0;
    let app = Arc::new(App::new(
        options.config.clone(),
        controller.clone(),
        keeper.clone(),
        nginx_report.subscribe(),
        config.clone(),
        connected.subscribe(),
        token.child_token(),
    ));

    // guard: A15-mode
    let admin_socket = listen(Path::new(layout::ADMIN_SOCKET), 0o660, group(ADMIN_GROUP)?)?;
    let gateway = accounts::ids(GATEWAY_ACCOUNT)?.ok_or(DaemonError::NoAccount(GATEWAY_ACCOUNT))?;
    let gateway_socket = listen(Path::new(layout::GATEWAY_SOCKET), 0o660, gateway.gid)?;

    let mut events = systemd.events();
    vital.spawn("the connection to systemd", {
        let (systemd, token) = (systemd.clone(), token.clone());
        async move { systemd.watch(token).await }
    });
    // Before there is a connection nothing can be seen; without one the daemon still serves what it has.
    let first = tokio::time::timeout(CONNECT, events.recv()).await;
    connected.send_replace(matches!(first, Ok(Ok(Event::Resync))));
    vital.spawn(
        "what follows systemd",
        follow(events, controller.clone(), connected, token.clone()),
    );
    vital.spawn("the image's worker", {
        let controller = controller.clone();
        async move { controller.run_image().await }
    });
    vital.spawn("the passwords", {
        let (config, controller, token) = (config.subscribe(), controller.clone(), token.clone());
        async move { keeper.run(config, |name| controller.kick(name), token).await }
    });
    let kills = follow_kills(engine.clone(), controller.clone(), token.clone());
    vital.spawn("kills for want of memory", kills);
    let earlier = remember_kills(engine.clone(), controller.clone(), app.connected.clone());
    vital.spawn("earlier kills", earlier);
    let addresses = watch_addresses(controller.clone(), token.clone());
    vital.spawn("the host's addresses", addresses);
    let file = config_file::watch(app.clone(), watch, options.config, token.clone());
    vital.spawn("the configuration file", file);
    let router = admin::router(app.clone(), Some(admin::Host { engine }));
    let may_ask = tells("admin.sock", controller.clone(), admin::may_administer);
    let bounds = http::Bounds {
        descriptors: true,
        way_out: "run csm as root, or have your account put into the group csm-admin",
        ..SOCKETS
    };
    let serving = http::serve(admin_socket, router, may_ask, bounds, token.clone());
    vital.spawn("the admin's socket", serving);
    let router = gateway_socket::router(app.clone());
    let may_ask = tells("gateway.sock", controller.clone(), move |uid| {
        uid == 0 || uid == gateway.uid
    });
    let serving = http::serve(gateway_socket, router, may_ask, SOCKETS, token.clone());
    vital.spawn("the gateway's socket", serving);
    let publishing = nginx::run(systemd, config.subscribe(), nginx_report, token.clone());
    vital.spawn("nginx's files", publishing);
    controller.events().tell(Told::DaemonStarted {
        workspaces: controller.config().workspaces.len(),
    });
    controller.begin();

    signals(&app, &token).await?;
    token.cancel();
    tasks.close();
    let _ = tokio::time::timeout(GRACE, tasks.wait()).await;
    for socket in [layout::ADMIN_SOCKET, layout::GATEWAY_SOCKET] {
        let _ = std::fs::remove_file(socket);
    }
    vital.panicked().map_or(Ok(()), |part| Err(DaemonError::Panicked(part)))
}

/// Only one daemon: two would undo each other's work. The lock ends with the process.
fn lock(layout: &Layout) -> Result<std::fs::File, DaemonError> {
    use crate::host::files::Doing as _;
    files::ensure_directory(&layout.run, Access::root(0o711))?;
    let path = layout.run.join("daemon.lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .doing("open", &path)?;
    // guard: F32-lock
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DaemonError::Running),
        Err(errno) => Err(errno).doing("lock", &path)?,
    }
}

/// What the daemon has to know of its host before it can do anything.
fn machine(layout: Layout) -> Result<Machine, DaemonError> {
    let path = std::env::var("PATH").unwrap_or_default();
    let podman = logs::find("podman", &path).ok_or_else(|| DaemonError::NoPodman(path.clone()))?;
    let name = AccountName::service(IMAGES_ACCOUNT);
    let images = accounts::look(&name, ADMIN_GROUP)?.map_err(DaemonError::Images)?;
    let own_addresses = addresses::own().map_err(|errno| DaemonError::Io {
        doing: "list the host's addresses",
        source: errno.into(),
    })?;
    Ok(Machine {
        layout,
        podman: podman.into(),
        path,
        images,
        web_gid: group(WEB_GROUP)?,
        own_addresses,
    })
}

fn group(name: &'static str) -> Result<u32, DaemonError> {
    accounts::group_id(name)?.ok_or(DaemonError::NoGroup(name))
}

fn prepare(machine: &Machine) -> Result<(), DaemonError> {
    let layout = &machine.layout;
    for (path, mode) in [
        (layout.state.clone(), 0o711),
        (layout.intents(), 0o700),
        (layout.passwords(), 0o700),
        (layout.state.join("podman"), 0o711),
        (layout.state.join("accounts"), 0o711),
        (layout.fronts(), 0o711),
        (layout.run.join("run"), 0o711),
        (layout.run.join("mounts"), 0o711),
        (layout.run.join("secrets"), 0o711),
    ] {
        files::ensure_directory(&path, Access::root(mode))?;
    }
    if !files::holds(&layout.entrypoint(), podman::ENTRYPOINT.as_bytes()) {
        files::write_whole(&layout.entrypoint(), podman::ENTRYPOINT.as_bytes(), Access::root(0o755))?;
    }
    Images::prepare(machine)?;
    Ok(())
}

/// Tells the first start after a boot from a restart of the daemon, and lets intents follow `start_on_boot` in the former.
fn boot(machine: &Machine, controller: &Controller<LiveEngine>) -> Result<(), DaemonError> {
    let marker = machine.layout.booted();
    if !marker.exists() {
        controller.apply_boot_policy()?;
        files::write_whole(&marker, b"", Access::root(0o600))?;
    }
    Ok(())
}

/// A socket at a path of ours; what is there was left by a daemon that was killed, since we hold the lock.
fn listen(path: &Path, mode: u32, gid: u32) -> Result<UnixListener, DaemonError> {
    use crate::host::files::Doing as _;
    // guard: F18-socket-place
    files::remove(path)?;
    let listener = UnixListener::bind(path).doing("listen on", path)?;
    std::os::unix::fs::chown(path, Some(0), Some(gid)).doing("set the group of", path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
        .doing("set the mode of", path)?;
    Ok(listener)
}

/// Who may call, and an event when somebody else did.
fn tells(
    socket: &'static str,
    controller: Arc<Controller<LiveEngine>>,
    may: impl Fn(u32) -> bool,
) -> impl Fn(u32) -> bool {
    let pace = Pace::default();
    move |uid| {
        let may = may(uid);
        if let Some(more) = (!may).then(|| pace.count(uid)).flatten() {
            controller.events().tell(Told::CallerRefused { socket, uid, more });
        }
        may
    }
}

/// Keeps the list of this host's addresses, which no workspace may reach, current.
async fn watch_addresses(controller: Arc<Controller<LiveEngine>>, token: CancellationToken) {
    let changes = match addresses::Changes::subscribe() {
        Ok(changes) => changes,
        Err(error) => {
            tracing::warn!(%error, "can't hear of changed addresses");
            return;
        }
    };
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            changed = changes.next() => if changed.is_err() { return },
        }
        match addresses::own() {
            // guard: A1-later-address
            Ok(own) => controller.set_addresses(own),
            Err(error) => tracing::warn!(%error, "can't list the host's addresses"),
        }
    }
}

/// Serves signals until one ends the daemon, and systemd's watchdog meanwhile (sd_notify(3)).
async fn signals(app: &App<LiveEngine>, token: &CancellationToken) -> Result<(), DaemonError> {
    let on = |kind| {
        signal(kind).map_err(|source| DaemonError::Io {
            doing: "listen for signals",
            source,
        })
    };
    let mut end = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut hup = on(SignalKind::hangup())?;
    let mut watchdog = sd_notify::watchdog_enabled().map(|period| tokio::time::interval(period / 2));
    notify(&[NotifyState::Ready]);
    tracing::info!(workspaces = app.controller.config().workspaces.len(), "daemon ready");
    loop {
        tokio::select! {
            _ = end.recv() => break,
            _ = interrupt.recv() => break,
            () = token.cancelled() => break,
            _ = hup.recv() => {
                if let Ok(now) = NotifyState::monotonic_usec_now() {
                    notify(&[NotifyState::Reloading, now]);
                }
                // What it says of problems is in the status and the journal.
                let _ = app.reload();
                notify(&[NotifyState::Ready]);
            }
            () = async { match &mut watchdog { Some(timer) => { timer.tick().await; } None => std::future::pending().await } } => {
                notify(&[NotifyState::Watchdog]);
            }
        }
    }
    notify(&[NotifyState::Stopping]);
    Ok(())
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(error = %Chain(&error), "systemd was not told");
    }
}
