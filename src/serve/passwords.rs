//! Password strings: reads what each workspace's visitors sign in with, hashes it if it is plain, and notices a change.
//! The gateway gets argon2 strings and nothing else. The same password always gives the same string (the salt is
//! derived from it with a key of this host), so a restart of the daemon looks like no change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blake2::digest::{KeyInit as _, Mac as _};
use tokio::sync::broadcast::Receiver;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::host::files::{self, Access, Doing as _, FileError, ReadError};
use crate::host::secrets;
use crate::host::systemd::Chain;
use crate::host::watch::{Change, Watch};
use crate::model::auth;
use crate::model::config::Config;
use crate::model::names::{Secret, WorkspaceName};
use crate::model::status::Trouble;
use crate::serve::triggers::RESYNC;
use crate::serve::vital::ended;

/// More than anybody types; whatever is larger was named by mistake.
const MOST: u64 = 4096;
/// Changes that come so soon after one another are one burst.
const BURST: Duration = Duration::from_millis(20);
/// One that goes on is acted on all the same.
const LONGEST_BURST: Duration = Duration::from_millis(500);
/// Length of this host's key (RFC 7693: at most 32 bytes for BLAKE2s).
const KEY_BYTES: usize = 32;

/// What a workspace's password is known as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Password {
    /// The argon2 string in force; the last good one while the file is unusable. Nothing when none was ever set.
    pub string: Option<String>,
    pub trouble: Option<Trouble>,
}

pub type Passwords = Arc<BTreeMap<WorkspaceName, Password>>;

/// Keeps the strings current.
pub struct Keeper {
    directory: PathBuf,
    key: Secret,
    watch: Arc<Watch>,
    /// Strings by workspace and by a keyed hash of the file's content, so that an unchanged file isn't hashed again.
    known: Mutex<BTreeMap<WorkspaceName, ([u8; 16], String)>>,
    /// Held by who changes what is stored.
    storing: Mutex<()>,
    current: watch::Sender<Passwords>,
    read: AtomicBool,
    pub again: Notify,
}

impl Keeper {
    /// `directory` holds the strings that `csm password` set, and this host's key, made when it is not there.
    pub fn new(directory: PathBuf, watch: Arc<Watch>) -> Result<Self, FileError> {
        let path = directory.join(".key");
        if !path.exists() {
            let mut random = [0_u8; KEY_BYTES];
            getrandom::fill(&mut random)
                .map_err(std::io::Error::other)
                .doing("make random bytes for", &path)?;
            files::write_whole(&path, &random, Access::root(0o600))?;
        }
        let key = Secret::new(std::fs::read(&path).doing("read", &path)?);
        if key.expose().len() != KEY_BYTES {
            let damaged = std::io::Error::other("it is damaged; remove it, and everybody signs in again");
            return Err(damaged).doing("use the key", &path);
        }
        let current = tokio::sync::watch::channel(Passwords::default()).0;
        Ok(Self {
            directory,
            key,
            watch,
            known: Mutex::default(),
            storing: Mutex::default(),
            current,
            read: AtomicBool::new(false),
            again: Notify::new(),
        })
    }

    pub fn current(&self) -> watch::Receiver<Passwords> {
        self.current.subscribe()
    }

    /// Whether everything has been read once.
    pub fn is_read(&self) -> bool {
        self.read.load(Ordering::SeqCst)
    }

    /// Keeps the string that `csm password` made. One trailing newline and the like are its own business.
    pub async fn set(self: &Arc<Self>, name: &WorkspaceName, string: String) -> Result<(), FileError> {
        let write = move |path: &Path| files::write_whole(path, string.as_bytes(), Access::root(0o600));
        self.store(name, write).await
    }

    pub async fn forget(self: &Arc<Self>, name: &WorkspaceName) -> Result<(), FileError> {
        self.store(name, files::remove).await
    }

    /// Changes what is stored, in a thread that waits for the disk. To the end, also when the caller is gone meanwhile.
    async fn store(
        self: &Arc<Self>,
        name: &WorkspaceName,
        change: impl FnOnce(&Path) -> Result<(), FileError> + Send + 'static,
    ) -> Result<(), FileError> {
        let (own, path) = (self.clone(), self.stored(name));
        let change = move || {
            // One after the other.
            let _turn = own.storing.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = change(&path);
            own.again.notify_one();
            changed
        };
        ended(tokio::task::spawn_blocking(change)).await
    }

    fn stored(&self, name: &WorkspaceName) -> PathBuf {
        self.directory.join(format!("{name}.argon2"))
    }

    /// Reads everything now, and again whenever a file, a link on the way to one, or the configuration changes.
    /// `touched` hears of workspaces whose files changed, their secrets included.
    pub async fn run(
        &self,
        mut config: watch::Receiver<Arc<Config>>,
        touched: impl Fn(&WorkspaceName),
        token: CancellationToken,
    ) {
        let mut changes = self.watch.changes();
        // Kept until they were told, whatever else is noticed meanwhile.
        let mut names = BTreeSet::new();
        loop {
            let wanted = config.borrow_and_update().clone();
            let interest = Self::interest(&wanted);
            self.watch.add_parents(interest.keys());
            self.read_all(&wanted).await;
            // A burst of changes, as of a whole generation of secrets, is one.
            tokio::select! {
                () = token.cancelled() => return,
                changed = config.changed() => if changed.is_err() { return },
                () = self.again.notified() => {}
                () = next(&mut changes, &interest, &mut names) => {}
                () = sleep(RESYNC) => {}
            }
            std::mem::take(&mut names).iter().for_each(&touched);
        }
    }

    /// Entry of a directory -> workspaces that a change there concerns.
    fn interest(config: &Config) -> BTreeMap<PathBuf, BTreeSet<WorkspaceName>> {
        let mut interest: BTreeMap<PathBuf, BTreeSet<WorkspaceName>> = BTreeMap::new();
        for (name, workspace) in &config.workspaces {
            for file in workspace
                .password_file
                .iter()
                .chain(workspace.secret_environment.values())
            {
                for entry in secrets::waypoints(file) {
                    interest.entry(entry).or_default().insert(name.clone());
                }
            }
        }
        interest
    }

    async fn read_all(&self, config: &Config) {
        let mut fresh = BTreeMap::new();
        for (name, workspace) in &config.workspaces {
            let last = self
                .current
                .borrow()
                .get(name)
                .and_then(|password| password.string.clone());
            let password = match &workspace.password_file {
                Some(file) => self.read_file(name, file, last).await,
                None => self.read_stored(name, last),
            };
            fresh.insert(name.clone(), password);
        }
        let fresh = Arc::new(fresh);
        let first = !self.read.swap(true, Ordering::SeqCst);
        self.current.send_if_modified(|current| {
            let changes = first || *current != fresh;
            if changes {
                *current = fresh;
            }
            changes
        });
    }

    fn read_stored(&self, name: &WorkspaceName, last: Option<String>) -> Password {
        match files::read_named(&self.stored(name), MOST) {
            Ok(content) => Password {
                string: Some(String::from_utf8_lossy(&content).into_owned()),
                trouble: None,
            },
            Err(ReadError::Missing) => Password {
                string: None,
                trouble: Some(Trouble::new(
                    "password-unset",
                    "no password is set, so nobody can sign in",
                    format!("`csm password {name}`, or set workspaces.{name}.password_file"),
                )),
            },
            Err(error) => unusable(name, &self.stored(name), &error, last),
        }
    }

    async fn read_file(&self, name: &WorkspaceName, file: &Path, last: Option<String>) -> Password {
        let content = match files::read_named(file, MOST) {
            Ok(content) => Secret::new(content),
            Err(error) => return unusable(name, file, &error, last),
        };
        let text = content.expose().strip_suffix(b"\n").unwrap_or(content.expose());
        if text.is_empty() {
            return unusable(name, file, &ReadError::Empty, last);
        }
        if text.starts_with(b"$argon2id$") {
            let string = String::from_utf8_lossy(text).into_owned();
            return match auth::check_string(&string) {
                Ok(_) => Password {
                    string: Some(string),
                    trouble: None,
                },
                Err(error) => unusable(name, file, &error, last),
            };
        }
        let salt = self.salt(name, text);
        if let Some((seen, string)) = self.lock().get(name)
            && *seen == salt
        {
            return Password {
                string: Some(string.clone()),
                trouble: None,
            };
        }
        let plain = Secret::new(text.to_vec());
        let hashed = tokio::task::spawn_blocking(move || auth::hash_password(plain.expose(), &salt)).await;
        match hashed {
            Ok(Ok(string)) => {
                self.lock().insert(name.clone(), (salt, string.clone()));
                Password {
                    string: Some(string),
                    trouble: None,
                }
            }
            Ok(Err(error)) => unusable(name, file, &error, last),
            Err(error) => unusable(name, file, &error, last),
        }
    }

    /// 16 bytes that only this host derives from this password for this workspace (keyed BLAKE2s, RFC 7693).
    fn salt(&self, name: &WorkspaceName, password: &[u8]) -> [u8; 16] {
        let mut salt = [0; 16];
        // A key of that length is always taken.
        if let Ok(mut mac) = blake2::Blake2sMac256::new_from_slice(self.key.expose()) {
            mac.update(name.as_str().as_bytes());
            mac.update(&[0]);
            mac.update(password);
            salt.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        }
        salt
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<WorkspaceName, ([u8; 16], String)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a change that concerns a workspace, and takes the rest of its burst with it. Changes that concern nobody neither
/// begin a burst nor make one longer. Given up, what was noticed stays in `names`.
async fn next(
    changes: &mut Receiver<Change>,
    interest: &BTreeMap<PathBuf, BTreeSet<WorkspaceName>>,
    names: &mut BTreeSet<WorkspaceName>,
) {
    let (mut quiet, mut end) = (None, None);
    loop {
        let until = quiet.min(end);
        let over = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let change = tokio::select! {
            biased;
            () = over => return,
            change = changes.recv() => change,
        };
        match change {
            Ok(Change::At(path)) => {
                let Some(concerned) = interest.get(&path) else { continue };
                names.extend(concerned.iter().cloned());
                quiet = Some(Instant::now() + BURST);
                end = end.or_else(|| Some(Instant::now() + LONGEST_BURST));
            }
            Ok(Change::Lost) | Err(_) => {
                names.extend(interest.values().flatten().cloned());
                return;
            }
        }
    }
}

fn unusable(name: &WorkspaceName, file: &Path, error: &dyn std::error::Error, last: Option<String>) -> Password {
    let kept = if last.is_some() {
        "; the last good password stays in force"
    } else {
        ""
    };
    Password {
        // guard: F10-last-password
        string: last,
        trouble: Some(Trouble::new(
            "password-unusable",
            format!(
                "workspaces.{name}.password_file: {}: {}{kept}",
                file.display(),
                Chain(error)
            ),
            "put the password, or its $argon2id$ string, into that file; it is read again at once",
        )),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;

    /// A workspace at its soft limit changed a file a hundred times a second, and nobody's new password was read meanwhile.
    #[tokio::test(start_paused = true)]
    async fn changes_that_concern_nobody_hold_up_no_rotation() {
        let (tell, mut changes) = broadcast::channel(256);
        let dan = WorkspaceName::parse("dan").unwrap();
        let secret = PathBuf::from("/run/secrets/dan");
        let interest = BTreeMap::from([(secret.clone(), BTreeSet::from([dan.clone()]))]);
        let noise = async move {
            tell.send(Change::At(secret)).unwrap();
            loop {
                sleep(Duration::from_millis(10)).await;
                let other = PathBuf::from("/sys/fs/cgroup/csm.slice/csm-alice.service/memory.events");
                let _ = tell.send(Change::At(other));
            }
        };
        let mut names = BTreeSet::new();
        let begun = Instant::now();
        tokio::select! {
            () = noise => {}
            () = next(&mut changes, &interest, &mut names) => {}
            () = sleep(Duration::from_secs(60)) => panic!("it goes on for ever"),
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert_eq!(names, BTreeSet::from([dan]));
    }

    /// The net below inotify: the directory of stored strings, for one, is not watched.
    #[tokio::test(start_paused = true)]
    async fn a_change_that_nobody_noticed_is_read_within_ten_minutes() {
        let directory = tempfile::tempdir().unwrap();
        // There, so that the keeper makes none: only root can give a file to root.
        std::fs::write(directory.path().join(".key"), [7; KEY_BYTES]).unwrap();
        let keeper = Keeper::new(directory.path().to_owned(), Arc::new(Watch::new().unwrap())).unwrap();
        let text = "domain = 'code.example.org'\n[image]\nname = 'localhost/workspace:1'\narchive = '/srv/image.tar'\n\
                    [nginx]\ncertificate = '/etc/ssl/c.pem'\ncertificate_key = '/etc/ssl/k.pem'\n[workspaces.dan]\n";
        let config = watch::Sender::new(Arc::new(crate::model::config::parse(text).unwrap()));
        let mut current = keeper.current();
        let dan = WorkspaceName::parse("dan").unwrap();
        let string = |current: &Passwords| current.get(&dan).and_then(|password| password.string.clone());
        let looks = async {
            current.wait_for(|current| !current.is_empty()).await.unwrap();
            assert_eq!(string(&current.borrow()), None);
            let begun = Instant::now();
            std::fs::write(directory.path().join("dan.argon2"), "$argon2id$").unwrap();
            current.wait_for(|current| string(current).is_some()).await.unwrap();
            begun.elapsed()
        };
        let took = tokio::select! {
            took = looks => took,
            () = keeper.run(config.subscribe(), |_| {}, CancellationToken::new()) => panic!("it ended"),
            () = sleep(RESYNC * 2) => panic!("it was never read"),
        };
        assert!(took <= RESYNC + Duration::from_secs(1), "{took:?}");
    }

    /// A change of the configuration in the middle of a burst made what was noticed be forgotten.
    #[tokio::test(start_paused = true)]
    async fn what_was_noticed_is_kept_when_something_else_comes_first() {
        let (tell, mut changes) = broadcast::channel(256);
        let dan = WorkspaceName::parse("dan").unwrap();
        let secret = PathBuf::from("/run/secrets/dan");
        let interest = BTreeMap::from([(secret.clone(), BTreeSet::from([dan.clone()]))]);
        tell.send(Change::At(secret)).unwrap();
        let mut names = BTreeSet::new();
        let given_up = tokio::time::timeout(BURST / 2, next(&mut changes, &interest, &mut names)).await;
        assert!(given_up.is_err());
        assert_eq!(names, BTreeSet::from([dan]));
    }
}
