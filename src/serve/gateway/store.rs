//! The sessions on disk: one file, replaced whole. Written before a sign-in or sign-out is answered; that a session was
//! used is written down now and then, for a crash to cost no more than a few minutes of its lifetime.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::model::auth::devices::{DeviceId, KnownDevices};
use crate::model::auth::session::{Door, Session, SessionId, Sessions, Stamp};
use crate::model::names::WorkspaceName;
use crate::serve::gateway::state::State;
use crate::serve::gateway::{Gateway, unix_time};

const FILE: &str = "sessions.json";
const NEW_FILE: &str = "sessions.json.new";
const BAD_FILE: &str = "sessions.json.unreadable";
const VERSION: u32 = 1;

/// All sessions there can be take less than 2 MiB.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// In force until the daemon says otherwise.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

const USES_EVERY: Duration = Duration::from_secs(5 * 60);
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How long an answer waits for the disk at most.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Read first, whatever else there is.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    session_lifetime_seconds: u64,
    sessions: Vec<SessionLine>,
    #[serde(default)]
    known_devices: Vec<DeviceLine>,
    /// Always empty; earlier versions, which knew addresses, don't read the file without it.
    #[serde(default)]
    known_sources: Vec<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct SessionLine {
    /// Hash of the token.
    id: String,
    workspace: String,
    /// Those of earlier versions count as the host's own.
    #[serde(default)]
    tunnel: bool,
    /// Hash of the password's argon2 string.
    stamp: String,
    created: u64,
    last_used: u64,
}

#[derive(Serialize, Deserialize)]
struct DeviceLine {
    workspace: String,
    /// Hash of the token.
    device: String,
    at: u64,
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("it can't be read")]
    Read(#[from] io::Error),
    #[error("it is not what this program writes")]
    Form(#[from] serde_json::Error),
    #[error("it is of version {0}, this program writes {VERSION}")]
    Version(u32),
    #[error("the entry {0} holds what is not a value of its kind")]
    Entry(usize),
}

#[derive(Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The directory is there afterwards.
    pub fn open(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// What was written down last. A file that can't be read is set aside: everybody signs in again, nobody is locked out.
    pub fn load(&self, now: u64) -> State {
        let path = self.dir.join(FILE);
        let mut state = match read(&path) {
            Ok(Some(state)) => state,
            Ok(None) => State::new(Sessions::default(), KnownDevices::default(), LIFETIME),
            Err(error) => {
                let aside = self.dir.join(BAD_FILE);
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, path = %path.display(), aside = %aside.display(), "the sessions are lost");
                if let Err(error) = fs::rename(&path, &aside) {
                    tracing::warn!(%error, "the file could not be set aside");
                }
                State::new(Sessions::default(), KnownDevices::default(), LIFETIME)
            }
        };
        let lifetime = state.lifetime;
        state.sessions.end_expired(now, lifetime);
        state
    }

    /// Replaces the file; whoever reads it finds the old or the new content.
    fn write(&self, content: &[u8]) -> io::Result<()> {
        let new = self.dir.join(NEW_FILE);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, self.dir.join(FILE))?;
        File::open(&self.dir)?.sync_all()
    }
}

/// How a request has the sessions written down.
pub struct Saver {
    /// Number of the last wish, and of the last one that was seen to.
    asked: watch::Sender<u64>,
    done: watch::Sender<u64>,
}

impl Default for Saver {
    fn default() -> Self {
        Self {
            asked: watch::Sender::new(0),
            done: watch::Sender::new(0),
        }
    }
}

impl Saver {
    /// Wishes for it, and does not wait.
    pub fn ask(&self) -> u64 {
        let mut number = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        number
    }

    /// Returns when what is so now is written down. A disk that fails is no reason to keep anybody out: the failure is
    /// logged, and writing is tried again by itself.
    pub async fn save(&self) {
        let mut done = self.done.subscribe();
        let number = self.ask();
        if tokio::time::timeout(WAIT_MAX, done.wait_for(|done| *done >= number))
            .await
            .is_err()
        {
            tracing::error!("writing the sessions down takes too long");
        }
    }
}

/// Writes whenever asked to, one write for all who ask meanwhile, and once more at `shutdown`.
pub async fn run(gateway: Arc<Gateway>, store: Store, shutdown: CancellationToken) {
    let mut asked = gateway.saver.asked.subscribe();
    let mut uses = tokio::time::interval_at(Instant::now() + USES_EVERY, USES_EVERY);
    uses.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            _ = asked.changed() => {}
            () = tokio::time::sleep(RETRY_AFTER), if failed => {}
            _ = uses.tick() => {
                if !gateway.state().end_expired(unix_time()) {
                    continue;
                }
            }
        }
        let number = *asked.borrow_and_update();
        failed = write(&gateway, &store).await.inspect_err(log_failure).is_err();
        gateway.saver.done.send_replace(number);
    }
    let _ = write(&gateway, &store).await.inspect_err(log_failure);
}

async fn write(gateway: &Gateway, store: &Store) -> io::Result<()> {
    let content = {
        let mut state = gateway.state();
        state.touched = false;
        Content::of(&state)
    };
    let content = serde_json::to_vec(&content)?;
    let store = store.clone();
    tokio::task::spawn_blocking(move || store.write(&content)).await?
}

fn log_failure(error: &io::Error) {
    tracing::error!(%error, "the sessions could not be written down; a restart of the gateway would go back to the old ones");
}

impl State {
    /// Forgets sessions that have run out; says whether anything is worth writing down.
    fn end_expired(&mut self, now: u64) -> bool {
        let lifetime = self.lifetime;
        self.touched |= self.sessions.end_expired(now, lifetime) > 0;
        self.touched
    }
}

impl Content {
    fn of(state: &State) -> Self {
        let sessions = state.sessions.iter().map(|(id, session)| SessionLine {
            id: URL_SAFE_NO_PAD.encode(id.0),
            workspace: session.door.workspace.to_string(),
            tunnel: session.door.tunnel,
            stamp: URL_SAFE_NO_PAD.encode(session.stamp.0),
            created: session.created,
            last_used: session.last_used,
        });
        let known_devices = state.known_devices.iter().map(|(workspace, device, at)| DeviceLine {
            workspace: workspace.to_string(),
            device: URL_SAFE_NO_PAD.encode(device.0),
            at,
        });
        Self {
            version: VERSION,
            session_lifetime_seconds: state.lifetime.as_secs(),
            sessions: sessions.collect(),
            known_devices: known_devices.collect(),
            known_sources: Vec::new(),
        }
    }

    fn into_state(self) -> Result<State, LoadError> {
        let mut sessions = Vec::with_capacity(self.sessions.len());
        for (number, line) in self.sessions.iter().enumerate() {
            sessions.push(line.parse().ok_or(LoadError::Entry(number))?);
        }
        let mut known_devices = KnownDevices::default();
        for (number, line) in self.known_devices.iter().enumerate() {
            let known = WorkspaceName::parse(&line.workspace).ok().zip(hash(&line.device));
            let (workspace, device) = known.ok_or(LoadError::Entry(number))?;
            known_devices.remember(&workspace, DeviceId(device), line.at);
        }
        let lifetime = Duration::from_secs(self.session_lifetime_seconds);
        Ok(State::new(
            Sessions::restore(sessions.into_iter()),
            known_devices,
            lifetime,
        ))
    }
}

impl SessionLine {
    fn parse(&self) -> Option<(SessionId, Session)> {
        let session = Session {
            door: Door {
                workspace: WorkspaceName::parse(&self.workspace).ok()?,
                tunnel: self.tunnel,
            },
            stamp: Stamp(hash(&self.stamp)?),
            created: self.created,
            last_used: self.last_used,
        };
        Some((SessionId(hash(&self.id)?), session))
    }
}

fn hash(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn read(path: &Path) -> Result<Option<State>, LoadError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut text = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut text)?;
    let Head { version } = serde_json::from_slice(&text)?;
    if version != VERSION {
        return Err(LoadError::Version(version));
    }
    serde_json::from_slice::<Content>(&text)?.into_state().map(Some)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
