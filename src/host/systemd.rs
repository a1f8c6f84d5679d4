//! PID 1 over D-Bus (org.freedesktop.systemd1(5)): transient units, waiting for what became of a job, looking at units.
//! One connection, made again when it breaks; every call has a deadline. Never asks for a daemon-reload.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};
use zbus_systemd::systemd1::ManagerProxy;

use crate::model::systemd::{UnitSpec, Value};

mod jobs;
mod values;

pub use jobs::Job;
use jobs::{Goal, JobEnd};
use values::{owned, properties};

/// A method call that PID 1 has not answered by then has failed.
const CALL: Duration = Duration::from_secs(15);
/// How many calls may wait for their answers. dbus-daemon(1) refuses those of a connection that waits for more than 128
/// (max_replies_per_connection).
const UNANSWERED: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    #[error("there is no connection to systemd at present")]
    Disconnected,
    #[error("systemd refused: {call} of {unit}")]
    Call {
        call: &'static str,
        unit: String,
        #[source]
        source: zbus::Error,
    },
    #[error("systemd did not answer {call} of {unit} within {} s", CALL.as_secs())]
    Silent { call: &'static str, unit: String },
    #[error("the job of {unit} ended as \"{result}\"")]
    Job { unit: String, result: String },
    #[error("the job of {unit} was not done within {} s", deadline.as_secs())]
    Deadline { unit: String, deadline: Duration },
    #[error("{unit} has no usable property {property}")]
    Property { unit: String, property: &'static str },
}

/// Something happened to a unit, or to the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A unit's job ended, or it was unloaded.
    Unit(String),
    /// Signals may have been missed: the connection is a new one, PID 1 is, or it answers again.
    Resync,
    /// There is no connection, or nobody answers at its other end.
    Lost,
}

/// A loaded unit in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub description: String,
    pub active: String,
    /// Whether a job of it is queued or under way.
    pub has_job: bool,
    pub path: OwnedObjectPath,
}

/// The handle everyone shares.
#[derive(Debug)]
pub struct Systemd {
    manager: Mutex<Option<ManagerProxy<'static>>>,
    jobs: broadcast::Sender<JobEnd>,
    events: broadcast::Sender<Event>,
    /// Whether the last call was not answered in time.
    silent: AtomicBool,
    turns: Semaphore,
}

impl Default for Systemd {
    fn default() -> Self {
        Self {
            manager: Mutex::new(None),
            jobs: broadcast::channel(1024).0,
            events: broadcast::channel(1024).0,
            silent: AtomicBool::new(false),
            turns: Semaphore::new(UNANSWERED),
        }
    }
}

impl Systemd {
    /// Keeps the connection, hands on what systemd signals, and ends with the token.
    pub async fn watch(&self, token: CancellationToken) {
        let mut pause = Duration::from_millis(100);
        while !token.is_cancelled() {
            let ended = tokio::select! {
                () = token.cancelled() => break,
                ended = self.watch_once(&mut pause) => ended,
            };
            self.set(None);
            self.tell(Event::Lost);
            match ended {
                Ok(()) => tracing::warn!("connection to systemd ended"),
                Err(error) => tracing::warn!(error = %Chain(&error), "no connection to systemd"),
            }
            tokio::select! {
                () = token.cancelled() => break,
                // guard: F4-again F4-pause
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(10)),
            }
        }
    }

    async fn watch_once(&self, pause: &mut Duration) -> zbus::Result<()> {
        let connect = async {
            let connection = zbus::Connection::system().await?;
            let manager = ManagerProxy::new(&connection).await?;
            manager.subscribe().await?;
            let signals = (
                manager.receive_job_removed().await?,
                manager.receive_unit_removed().await?,
                manager.receive_reloading().await?,
                manager.inner().receive_owner_changed().await?,
            );
            zbus::Result::Ok((manager, signals))
        };
        // A bus that takes the connection and then says nothing is none.
        let (manager, (mut jobs, mut removals, mut reloads, mut owners)) =
            match tokio::time::timeout(CALL, connect).await {
                Ok(connected) => connected?,
                Err(_) => return Err(zbus::Error::InputOutput(Arc::new(std::io::ErrorKind::TimedOut.into()))),
            };
        self.set(Some(manager.clone()));
        self.silent.store(false, Ordering::SeqCst);
        *pause = Duration::from_millis(100);
        self.tell(Event::Resync);
        // Not awaited where it is called: an answer comes behind the signals, which have to be read for it to arrive.
        let mut subscribing = FuturesUnordered::new();
        loop {
            tokio::select! {
                owner = owners.next() => match owner {
                    // Another PID 1, as after `systemctl daemon-reexec`, may know nothing of who wants its signals.
                    Some(Some(_)) => subscribing.push(tokio::time::timeout(CALL, manager.subscribe())),
                    Some(None) => {}
                    None => return Ok(()),
                },
                Some(subscribed) = subscribing.next() => {
                    if let Ok(answer) = subscribed {
                        answer.or_else(already_subscribed)?;
                    }
                    self.tell(Event::Resync);
                }
                signal = reloads.next() => {
                    let Some(signal) = signal else { return Ok(()) };
                    // While it reloads it signals nothing else.
                    if !signal.args()?.active {
                        self.tell(Event::Resync);
                    }
                }
                signal = jobs.next() => {
                    let Some(signal) = signal else { return Ok(()) };
                    let end = signal.args()?;
                    // Nobody waiting is no error.
                    let _ = self.jobs.send(JobEnd { job: end.job.clone(), result: end.result.clone() });
                    self.tell(Event::Unit(end.unit.clone()));
                }
                signal = removals.next() => {
                    let Some(signal) = signal else { return Ok(()) };
                    self.tell(Event::Unit(signal.args()?.id.clone()));
                }
            }
        }
    }

    /// What happens to units from now on. A receiver that lagged behind has to look at everything again.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Every call goes through here. One that is not answered in time says that nobody is there, the next one that is
    /// says that somebody is again.
    async fn call<T>(
        &self,
        name: &'static str,
        unit: &str,
        answer: impl Future<Output = zbus::Result<T>>,
    ) -> Result<T, SystemdError> {
        // Waiting here says nothing about systemd, and ends: whoever is before us has a deadline.
        let turn = self.turns.acquire().await;
        // guard: F4-deadline F6-slow
        let answered = tokio::time::timeout(CALL, answer).await;
        drop(turn);
        let silent = answered.is_err();
        if self.silent.swap(silent, Ordering::SeqCst) != silent {
            self.tell(if silent { Event::Lost } else { Event::Resync });
        }
        match answered {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(SystemdError::Call {
                call: name,
                unit: unit.to_owned(),
                source,
            }),
            Err(_) => Err(SystemdError::Silent {
                call: name,
                unit: unit.to_owned(),
            }),
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listening is no error.
        let _ = self.events.send(event);
    }

    fn set(&self, manager: Option<ManagerProxy<'static>>) {
        *self.manager.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = manager;
    }

    fn manager(&self) -> Result<ManagerProxy<'static>, SystemdError> {
        let manager = self.manager.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        manager.clone().ok_or(SystemdError::Disconnected)
    }

    /// Creates and starts a transient unit and waits for its job. `fds` are handed over as properties of that name
    /// (StandardInputFileDescriptor and the like).
    pub async fn start(
        &self,
        spec: &UnitSpec,
        fds: Vec<(&'static str, OwnedFd)>,
        deadline: Duration,
    ) -> Result<(), SystemdError> {
        self.begin(spec, fds).await?.ended(deadline).await
    }

    /// The same without waiting: systemd has queued the job.
    pub async fn begin(&self, spec: &UnitSpec, fds: Vec<(&'static str, OwnedFd)>) -> Result<Job<'_>, SystemdError> {
        let manager = self.manager()?;
        let mut properties = properties(&spec.name, &spec.properties)?;
        for (name, fd) in fds {
            let value = owned(&spec.name, name, Variant::from(zbus::Fd::from(fd)))?;
            properties.push((name.to_owned(), value));
        }
        let start = manager.start_transient_unit(spec.name.clone(), "fail".to_owned(), properties, Vec::new());
        self.job("StartTransientUnit", &spec.name, Goal::Running, start).await
    }

    /// Stops a unit and waits. One that isn't loaded is stopped.
    pub async fn stop(&self, unit: &str, deadline: Duration) -> Result<(), SystemdError> {
        let manager = self.manager()?;
        let stop = manager.stop_unit(unit.to_owned(), "replace".to_owned());
        match self.job("StopUnit", unit, Goal::Gone, stop).await {
            Ok(job) => job.ended(deadline).await,
            Err(error) if is(&error, "org.freedesktop.systemd1.NoSuchUnit") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Kills every process of a unit, at once. One that isn't loaded has none.
    pub async fn kill(&self, unit: &str) -> Result<(), SystemdError> {
        let manager = self.manager()?;
        let signal = rustix::process::Signal::KILL.as_raw();
        match self
            .call(
                "KillUnit",
                unit,
                manager.kill_unit(unit.to_owned(), "all".to_owned(), signal),
            )
            .await
        {
            Err(error) if !is(&error, "org.freedesktop.systemd1.NoSuchUnit") => Err(error),
            _ => Ok(()),
        }
    }

    /// Reloads a unit and waits; the error says how its job ended.
    pub async fn reload(&self, unit: &str, deadline: Duration) -> Result<(), SystemdError> {
        let manager = self.manager()?;
        // guard: F3-reload
        let reload = manager.reload_unit(unit.to_owned(), "replace".to_owned());
        let job = self.job("ReloadUnit", unit, Goal::Running, reload).await?;
        job.ended(deadline).await
    }

    /// Has a job queued. Its end is listened for before.
    async fn job(
        &self,
        name: &'static str,
        unit: &str,
        goal: Goal,
        answer: impl Future<Output = zbus::Result<OwnedObjectPath>>,
    ) -> Result<Job<'_>, SystemdError> {
        let (ends, events) = (self.jobs.subscribe(), self.events.subscribe());
        Ok(Job {
            systemd: self,
            unit: unit.to_owned(),
            goal,
            path: self.call(name, unit, answer).await?,
            ends,
            events,
        })
    }

    /// Forgets that a unit failed, so that its name is free again. One that isn't loaded is as good.
    pub async fn reset_failed(&self, unit: &str) -> Result<(), SystemdError> {
        match self
            .call(
                "ResetFailedUnit",
                unit,
                self.manager()?.reset_failed_unit(unit.to_owned()),
            )
            .await
        {
            Err(error) if !is(&error, "org.freedesktop.systemd1.NoSuchUnit") => Err(error),
            _ => Ok(()),
        }
    }

    /// Changes properties of a running unit; for this boot only, as the unit itself.
    pub async fn set_properties(&self, unit: &str, changed: &[(&'static str, Value)]) -> Result<(), SystemdError> {
        let manager = self.manager()?;
        let changed = properties(unit, changed)?;
        self.call(
            "SetUnitProperties",
            unit,
            manager.set_unit_properties(unit.to_owned(), true, changed),
        )
        .await
    }

    /// Moves processes into a part of a unit's cgroup.
    pub async fn attach(&self, unit: &str, part: &str, pids: Vec<u32>) -> Result<(), SystemdError> {
        let manager = self.manager()?;
        self.call(
            "AttachProcessesToUnit",
            unit,
            manager.attach_processes_to_unit(unit.to_owned(), part.to_owned(), pids),
        )
        .await
    }

    /// The loaded units whose names match any of the patterns (glob(7)).
    pub async fn list(&self, patterns: &[String]) -> Result<Vec<Row>, SystemdError> {
        let manager = self.manager()?;
        let rows = self
            .call(
                "ListUnitsByPatterns",
                &patterns.join(" "),
                manager.list_units_by_patterns(Vec::new(), patterns.to_vec()),
            )
            .await?;
        Ok(rows
            .into_iter()
            .filter(|row| row.2 == "loaded")
            .map(|row| Row {
                name: row.0,
                description: row.1,
                active: row.3,
                has_job: row.7 != 0,
                path: row.6,
            })
            .collect())
    }

    /// Where a unit is on the bus; loads it if it isn't running, which is when it isn't listed.
    pub async fn load(&self, unit: &str) -> Result<OwnedObjectPath, SystemdError> {
        self.call("LoadUnit", unit, self.manager()?.load_unit(unit.to_owned()))
            .await
    }

    /// All properties of one interface of a unit, such as `org.freedesktop.systemd1.Service`.
    pub async fn properties(
        &self,
        unit: &str,
        path: &OwnedObjectPath,
        interface: &'static str,
    ) -> Result<HashMap<String, OwnedVariant>, SystemdError> {
        let connection = self.manager()?.inner().connection().clone();
        let ask = async {
            let proxy = zbus::fdo::PropertiesProxy::builder(&connection)
                .destination("org.freedesktop.systemd1")
                .path(path.clone())
                .build()
                .await?;
            let name = zbus::names::InterfaceName::try_from(interface)?;
            proxy.get_all(name).await.map_err(zbus::Error::from)
        };
        self.call("GetAll", unit, ask).await
    }
}

/// A PID 1 that was replaced may have kept its list of who wants its signals.
fn already_subscribed(error: zbus::Error) -> zbus::Result<()> {
    match error {
        zbus::Error::MethodError(name, ..) if name.as_str() == "org.freedesktop.systemd1.AlreadySubscribed" => Ok(()),
        error => Err(error),
    }
}

/// Whether an error is the D-Bus error of that name.
pub fn is(error: &SystemdError, name: &str) -> bool {
    matches!(error, SystemdError::Call { source: zbus::Error::MethodError(own, ..), .. } if own.as_str() == name)
}

/// A number for the name of a unit that serves one request. A restarted daemon counts from the start again, and a unit of
/// its predecessor may still be there, so the process is part of it.
pub fn number() -> u64 {
    static REQUESTS: AtomicU64 = AtomicU64::new(1);
    u64::from(std::process::id()) << 20 | (REQUESTS.fetch_add(1, Ordering::Relaxed) & 0xf_ffff)
}

/// An error with everything that caused it, on one line.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'a));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was a thousand at once, and the bus refused all but 128.
    #[tokio::test(start_paused = true)]
    async fn no_more_calls_are_under_way_than_the_bus_lets_be() {
        let systemd = Systemd::default();
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let one = async || {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(1)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        let calls = (0..1000).map(|_| systemd.call("Get", "unit", one()));
        let answers = futures_util::future::join_all(calls).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(most.into_inner(), UNANSWERED as u64);
    }

    /// The last of a thousand waited for 15 s in our own queue, and that was told as a systemd that does not answer.
    #[tokio::test(start_paused = true)]
    async fn waiting_in_our_own_queue_is_not_systemds_silence() {
        let systemd = Systemd::default();
        let mut events = systemd.events();
        let slow = async || {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        };
        let calls = (0..1000).map(|_| systemd.call("Get", "unit", slow()));
        let answers = futures_util::future::join_all(calls).await;
        assert!(answers.iter().all(Result::is_ok));
        assert!(events.try_recv().is_err(), "systemd answered each call within a second");
    }
}
