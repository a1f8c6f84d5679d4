//! Watching directories (inotify(7) through `notify`): one thread for all of them. Says which path changed; what that
//! means is for the listener to find out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::broadcast;

/// A change of an entry of a watched directory, or that some were lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    At(PathBuf),
    /// The queue overflowed: look at everything again.
    Lost,
}

/// The one watcher.
pub struct Watch {
    watcher: Mutex<RecommendedWatcher>,
    changes: broadcast::Sender<Change>,
}

impl Watch {
    pub fn new() -> notify::Result<Self> {
        let (changes, _) = broadcast::channel(256);
        let sender = changes.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let changed = match event {
                // guard: F29-read-again
                Ok(event) if event.need_rescan() => vec![Change::Lost],
                Ok(event) if event.kind.is_access() => Vec::new(),
                Ok(event) => event.paths.into_iter().map(Change::At).collect(),
                Err(_) => vec![Change::Lost],
            };
            for change in changed {
                // Nobody listening is no error.
                let _ = sender.send(change);
            }
        })?;
        Ok(Self {
            watcher: Mutex::new(watcher),
            changes,
        })
    }

    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Watches the entries of a directory. Watching it twice is the same as once.
    pub fn add(&self, directory: &Path) -> notify::Result<()> {
        self.lock().watch(directory, RecursiveMode::NonRecursive)
    }

    /// Watches the directories in which these entries are, or will be. Adding again what was added before is right: the
    /// directory of that name may be another one now. They stay watched; they are few, and one that is gone costs nothing.
    pub fn add_parents<'a>(&self, entries: impl Iterator<Item = &'a PathBuf>) {
        let directories: BTreeSet<&Path> = entries.filter_map(|entry| entry.parent()).collect();
        for directory in directories {
            if let Err(error) = self.add(directory) {
                tracing::warn!(directory = %directory.display(), %error, "can't watch for changes");
            }
        }
    }

    /// Ends that. The directory may be gone already.
    pub fn remove(&self, directory: &Path) {
        let _ = self.lock().unwatch(directory);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, RecommendedWatcher> {
        self.watcher.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
