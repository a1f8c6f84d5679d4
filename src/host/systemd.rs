//! PID 1 over D-Bus (org.freedesktop.systemd1(5)): transient units, waiting for what became of a job, looking at units.
//! One connection, made again when it breaks; every call has a deadline. Never asks for a daemon-reload.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};
use zbus_systemd::systemd1::ManagerProxy;

use crate::model::systemd::{Exec, UnitSpec, Value};

/// A method call that PID 1 has not answered by then has failed.
const CALL: Duration = Duration::from_secs(15);

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
    /// The connection was made, or made again: what happened in between is not known.
    Resync,
    Lost,
}

#[derive(Debug, Clone)]
struct JobEnd {
    job: OwnedObjectPath,
    result: String,
}

/// A loaded unit in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub description: String,
    pub active: String,
    pub path: OwnedObjectPath,
}

/// The handle everyone shares.
#[derive(Debug)]
pub struct Systemd {
    manager: Mutex<Option<ManagerProxy<'static>>>,
    jobs: broadcast::Sender<JobEnd>,
    events: broadcast::Sender<Event>,
}

impl Default for Systemd {
    fn default() -> Self {
        Self {
            manager: Mutex::new(None),
            jobs: broadcast::channel(1024).0,
            events: broadcast::channel(1024).0,
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
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(10)),
            }
        }
    }

    async fn watch_once(&self, pause: &mut Duration) -> zbus::Result<()> {
        let connection = zbus::Connection::system().await?;
        let manager = ManagerProxy::new(&connection).await?;
        manager.subscribe().await?;
        let mut jobs = manager.receive_job_removed().await?;
        let mut removals = manager.receive_unit_removed().await?;
        self.set(Some(manager));
        *pause = Duration::from_millis(100);
        self.tell(Event::Resync);
        loop {
            tokio::select! {
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
    pub async fn begin(&self, spec: &UnitSpec, fds: Vec<(&'static str, OwnedFd)>) -> Result<Job, SystemdError> {
        let manager = self.manager()?;
        let mut properties = properties(&spec.name, &spec.properties)?;
        for (name, fd) in fds {
            let value = owned(&spec.name, name, Variant::from(zbus::Fd::from(fd)))?;
            properties.push((name.to_owned(), value));
        }
        let ends = self.jobs.subscribe();
        let start = manager.start_transient_unit(spec.name.clone(), "fail".to_owned(), properties, Vec::new());
        let path = call("StartTransientUnit", &spec.name, start).await?;
        Ok(Job {
            unit: spec.name.clone(),
            path,
            ends,
        })
    }

    /// Stops a unit and waits. One that isn't loaded is stopped.
    pub async fn stop(&self, unit: &str, deadline: Duration) -> Result<(), SystemdError> {
        let manager = self.manager()?;
        let ends = self.jobs.subscribe();
        match call(
            "StopUnit",
            unit,
            manager.stop_unit(unit.to_owned(), "replace".to_owned()),
        )
        .await
        {
            Ok(path) => {
                Job {
                    unit: unit.to_owned(),
                    path,
                    ends,
                }
                .ended(deadline)
                .await
            }
            Err(error) if is(&error, "org.freedesktop.systemd1.NoSuchUnit") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Kills every process of a unit, at once. One that isn't loaded has none.
    pub async fn kill(&self, unit: &str) -> Result<(), SystemdError> {
        let manager = self.manager()?;
        let signal = rustix::process::Signal::KILL.as_raw();
        match call(
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
        let ends = self.jobs.subscribe();
        let path = call(
            "ReloadUnit",
            unit,
            manager.reload_unit(unit.to_owned(), "replace".to_owned()),
        )
        .await?;
        Job {
            unit: unit.to_owned(),
            path,
            ends,
        }
        .ended(deadline)
        .await
    }

    /// Forgets that a unit failed, so that its name is free again. One that isn't loaded is as good.
    pub async fn reset_failed(&self, unit: &str) -> Result<(), SystemdError> {
        match call(
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
        call(
            "SetUnitProperties",
            unit,
            manager.set_unit_properties(unit.to_owned(), true, changed),
        )
        .await
    }

    /// Moves processes into a part of a unit's cgroup.
    pub async fn attach(&self, unit: &str, part: &str, pids: Vec<u32>) -> Result<(), SystemdError> {
        let manager = self.manager()?;
        call(
            "AttachProcessesToUnit",
            unit,
            manager.attach_processes_to_unit(unit.to_owned(), part.to_owned(), pids),
        )
        .await
    }

    /// The loaded units whose names match any of the patterns (glob(7)).
    pub async fn list(&self, patterns: &[String]) -> Result<Vec<Row>, SystemdError> {
        let manager = self.manager()?;
        let rows = call(
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
                path: row.6,
            })
            .collect())
    }

    /// Where a unit is on the bus; loads it if it isn't running, which is when it isn't listed.
    pub async fn load(&self, unit: &str) -> Result<OwnedObjectPath, SystemdError> {
        call("LoadUnit", unit, self.manager()?.load_unit(unit.to_owned())).await
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
        call("GetAll", unit, ask).await
    }
}

async fn call<T>(
    name: &'static str,
    unit: &str,
    answer: impl Future<Output = zbus::Result<T>>,
) -> Result<T, SystemdError> {
    match tokio::time::timeout(CALL, answer).await {
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

/// A job that systemd has queued. Its end is heard of from before it was queued, so it can't be missed.
pub struct Job {
    unit: String,
    path: OwnedObjectPath,
    ends: broadcast::Receiver<JobEnd>,
}

impl Job {
    /// Waits for the job's result; anything but `done` is an error.
    pub async fn ended(mut self, deadline: Duration) -> Result<(), SystemdError> {
        let result = tokio::time::timeout(deadline, async {
            loop {
                match self.ends.recv().await {
                    Ok(end) if end.job == self.path => break Some(end.result),
                    Ok(_) => {}
                    // Too many at once: the caller looks at the unit itself.
                    Err(_) => break None,
                }
            }
        })
        .await;
        match result {
            Ok(Some(result)) if result == "done" => Ok(()),
            Ok(result) => Err(SystemdError::Job {
                unit: self.unit,
                result: result.unwrap_or_else(|| "unknown: too many jobs ended at once".to_owned()),
            }),
            Err(_) => Err(SystemdError::Deadline {
                unit: self.unit,
                deadline,
            }),
        }
    }
}

/// Whether an error is the D-Bus error of that name.
pub fn is(error: &SystemdError, name: &str) -> bool {
    matches!(error, SystemdError::Call { source: zbus::Error::MethodError(own, ..), .. } if own.as_str() == name)
}

fn properties(unit: &str, list: &[(&'static str, Value)]) -> Result<Vec<(String, OwnedVariant)>, SystemdError> {
    list.iter()
        .map(|(name, value)| Ok(((*name).to_owned(), owned(unit, name, variant(value))?)))
        .collect()
}

fn variant(value: &Value) -> Variant<'static> {
    match value {
        Value::Text(text) => Variant::from(text.clone()),
        Value::Texts(texts) => Variant::from(texts.clone()),
        Value::Bool(flag) => Variant::from(*flag),
        Value::U64(number) => Variant::from(*number),
        Value::U32(number) => Variant::from(*number),
        Value::I32(number) => Variant::from(*number),
        Value::Execs(execs) => {
            let rows = execs
                .iter()
                .map(|Exec { path, argv }| (path.clone(), argv.clone(), false));
            Variant::from(rows.collect::<Vec<_>>())
        }
        Value::Networks(networks) => {
            let rows = networks.iter().map(|(address, prefix)| match address {
                std::net::IpAddr::V4(four) => (libc_family(false), four.octets().to_vec(), *prefix),
                std::net::IpAddr::V6(six) => (libc_family(true), six.octets().to_vec(), *prefix),
            });
            Variant::from(rows.collect::<Vec<_>>())
        }
    }
}

/// AF_INET and AF_INET6 as systemd counts them.
fn libc_family(six: bool) -> i32 {
    i32::from(
        if six {
            rustix::net::AddressFamily::INET6
        } else {
            rustix::net::AddressFamily::INET
        }
        .as_raw(),
    )
}

fn owned(unit: &str, property: &'static str, value: Variant<'static>) -> Result<OwnedVariant, SystemdError> {
    OwnedVariant::try_from(value).map_err(|_| SystemdError::Property {
        unit: unit.to_owned(),
        property,
    })
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
