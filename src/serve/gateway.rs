//! GATEWAY: who may come in, and pages for those who can't yet. Asked by nginx on a unix socket; learns from the daemon
//! which workspaces there are and which argon2 string each is signed in to with. Starts nothing, reads no secret file,
//! opens no network socket. `csm gateway` runs it under its own account.

pub mod answers;
pub mod checker;
pub mod facts;
pub mod pages;
pub mod server;
pub mod sign_in;
pub mod state;
pub mod store;
pub mod watch;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::process::DumpableBehavior;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::auth::PasswordError;
use crate::model::auth::request::Source;
use crate::model::layout;
use crate::model::names::WorkspaceName;
use crate::serve::events::{Event, Events};
use crate::serve::gateway::checker::Checker;
use crate::serve::gateway::state::State;
use crate::serve::gateway::store::{Saver, Store};
use crate::serve::pace::Pace;

/// Used when systemd gives no `$STATE_DIRECTORY`.
const STATE_DIR: &str = "/var/lib/code-server-multi-gateway";

/// More checks at once than this gain nobody anything and cost memory (up to 256 MiB each).
const CHECKS_MAX: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("no unix socket was handed over to listen on")]
    NoListener(#[source] Option<std::io::Error>),
    #[error("the socket that was handed over can't be listened on")]
    Listener(#[source] std::io::Error),
    #[error("the state directory {} can't be used", path.display())]
    StateDirectory { path: PathBuf, source: std::io::Error },
    #[error("the password that stands in for missing ones can't be used")]
    Password(#[from] PasswordError),
    #[error("the process can't be protected from being read by others of its account")]
    Protect(#[source] std::io::Error),
}

impl GatewayError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoListener(_) | Self::Listener(_) => {
                "start code-server-multi-gateway.socket; it starts this service when it is needed"
            }
            Self::StateDirectory { .. } => "the directory must belong to the account that the gateway runs as",
            Self::Password(_) | Self::Protect(_) => "`csm doctor` checks the host",
        }
    }
}

pub struct GatewayOptions {
    /// Where the sessions are written down.
    pub state_dir: PathBuf,
    /// Where nginx asks.
    pub listener: UnixListener,
    pub daemon_socket: PathBuf,
    pub bounds: Bounds,
}

impl GatewayOptions {
    /// As systemd starts the service: the socket is descriptor 3, the directory is in `$STATE_DIRECTORY`.
    pub fn from_systemd() -> Result<Self, GatewayError> {
        let listener = listenfd::ListenFd::from_env()
            .take_unix_listener(0)
            .map_err(|error| GatewayError::NoListener(Some(error)))?
            .ok_or(GatewayError::NoListener(None))?;
        Ok(Self {
            state_dir: std::env::var_os("STATE_DIRECTORY").map_or_else(|| STATE_DIR.into(), PathBuf::from),
            listener,
            daemon_socket: layout::GATEWAY_SOCKET.into(),
            bounds: Bounds::default(),
        })
    }
}

/// What one client, or all of them, can make the gateway spend.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub connections: usize,
    /// From the start of a connection or the end of the last answer to the end of the next request's head. Longer than
    /// nginx keeps idle connections (60 s), so that it is nginx that ends them and no request falls in between.
    pub head: Duration,
    pub body: Duration,
    /// How long a sign-in may wait for its turn and its check.
    pub check: Duration,
    /// How many sign-ins are checked at once, and how many wait.
    pub checks: usize,
    pub queue: usize,
    /// After the start, how long requests wait for the daemon to say what there is.
    pub first_sync: Duration,
    /// How long requests that are being answered may take when the service stops.
    pub grace: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            connections: 512,
            head: Duration::from_secs(75),
            body: Duration::from_secs(10),
            check: Duration::from_secs(20),
            checks: cores.saturating_sub(1).clamp(1, CHECKS_MAX),
            queue: 32,
            first_sync: Duration::from_secs(5),
            grace: Duration::from_secs(10),
        }
    }
}

/// What every request has at hand.
pub struct Gateway {
    state: Mutex<State>,
    pub checker: Checker,
    pub saver: Saver,
    events: Events,
    refusals: Pace<(WorkspaceName, &'static str)>,
    /// Of the connections, those that may be for pages at once.
    pub pages: Semaphore,
    pub bounds: Bounds,
    started: Instant,
    /// Whether the daemon has said at least once what there is.
    synced: tokio::sync::watch::Sender<bool>,
}

impl Gateway {
    fn new(state: State, bounds: Bounds) -> Result<Self, GatewayError> {
        Ok(Self {
            state: Mutex::new(state),
            checker: Checker::new(bounds.checks, bounds.queue)?,
            saver: Saver::default(),
            events: Events::default(),
            refusals: Pace::default(),
            pages: Semaphore::new(bounds.connections.div_ceil(4) * 3),
            bounds,
            started: Instant::now(),
            synced: tokio::sync::watch::Sender::new(false),
        })
    }

    /// Never held across an await.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the first picture after the start, though not for long; says whether there is one.
    pub async fn first_sync(&self) -> bool {
        let mut synced = self.synced.subscribe();
        let deadline = self.started + self.bounds.first_sync;
        *synced.borrow()
            || tokio::time::timeout_at(deadline, synced.wait_for(|synced| *synced))
                .await
                .is_ok()
    }

    /// Somebody was not signed in. However many try from however many places, it is told once a minute for each reason.
    pub fn refused(&self, workspace: &WorkspaceName, source: Source, why: &'static str) {
        if let Some(more) = self.refusals.count((workspace.clone(), why)) {
            self.events.tell(Event::SignInRefused {
                workspace: workspace.clone(),
                why,
                source,
                more,
            });
        }
    }

    /// For limits.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Seconds since 1970, for what outlives the process.
pub fn unix_time() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}

/// For whoever starts it by hand.
pub const HINT: &str = "it is started by systemd: systemctl start code-server-multi-gateway.socket";

/// Runs as systemd started it, until SIGTERM.
pub async fn run_as_service() -> Result<(), GatewayError> {
    let options = GatewayOptions::from_systemd()?;
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(GatewayError::Listener)?;
    let asked = async {
        terminate.recv().await;
        shutdown.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = run(options, shutdown.clone()) => result,
        () = asked => Ok(()),
    }
}

/// Answers nginx until `shutdown`, then finishes what is being answered and writes the sessions down.
pub async fn run(options: GatewayOptions, shutdown: CancellationToken) -> Result<(), GatewayError> {
    // guard: A4-memory
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| GatewayError::Protect(error.into()))?;
    let GatewayOptions {
        state_dir,
        listener,
        daemon_socket,
        bounds,
    } = options;
    let store = Store::open(&state_dir).map_err(|source| GatewayError::StateDirectory {
        path: state_dir,
        source,
    })?;
    let gateway = Arc::new(Gateway::new(store.load(unix_time()), bounds)?);
    gateway.events.keep_in_journal();
    listener.set_nonblocking(true).map_err(GatewayError::Listener)?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(GatewayError::Listener)?;

    let background = TaskTracker::new();
    let stop_background = CancellationToken::new();
    background.spawn(watch::run(gateway.clone(), daemon_socket, stop_background.clone()));
    background.spawn(store::run(gateway.clone(), store, stop_background.clone()));
    background.spawn(watchdog(stop_background.clone()));

    notify(NotifyState::Ready);
    tracing::info!("answering");
    server::run(&gateway, listener, &shutdown).await;
    notify(NotifyState::Stopping);
    stop_background.cancel();
    background.close();
    background.wait().await;
    tracing::info!("stopped");
    Ok(())
}

/// Tells systemd that the loop turns, twice as often as it asks for.
async fn watchdog(shutdown: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return;
    };
    let mut ticks = tokio::time::interval(limit / 2);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        notify(NotifyState::Watchdog);
    }
}

fn notify(state: NotifyState) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd was not told");
    }
}
