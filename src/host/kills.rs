//! Noticing that the kernel ended a process of a workspace for want of memory: it marks memory.events of the unit as modified
//! (cgroups(7)), and inotify tells. Nothing is polled.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tokio::sync::broadcast;

use crate::host::stats;
use crate::host::watch::{Change, Watch};
use crate::model::names::WorkspaceName;
use crate::model::oom::Oom;
use crate::model::unit;

/// A workspace, its run, and the counters that have risen.
pub type Risen = (WorkspaceName, u64, Oom);

/// The files that are watched, by a watch of their own: a workspace at its soft limit changes its file up to a hundred times a
/// second, which nobody else should hear.
pub struct Kills {
    watch: Watch,
    /// By workspace: the run, and the kills that were last told of.
    seen: Mutex<BTreeMap<WorkspaceName, (Option<u64>, u64)>>,
    /// Reads the counters of a service.
    count: fn(&str) -> Option<Oom>,
}

impl Kills {
    pub fn new(watch: Watch) -> Self {
        Self {
            watch,
            seen: Mutex::default(),
            count: stats::oom,
        }
    }

    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.watch.changes()
    }

    /// The counters of a workspace that runs, which are watched from now on. Nothing where the kernel counts none.
    pub fn look(&self, name: &WorkspaceName, run: Option<u64>) -> Option<Oom> {
        let service = unit::service_name(name);
        let before = self.seen().get(name).map(|(run, _)| *run);
        let is_new = before != Some(run);
        let mut watched = true;
        if is_new {
            // A path of the same name, but another file.
            self.forget(name);
            // Without a free watch (inotify(7), max_user_watches) they are still read at each look.
            watched = self.watch.add(&stats::memory_events(&service)).is_ok();
        }
        // Read after it is watched, so that nothing falls in between.
        let oom = (self.count)(&service);
        if is_new && watched {
            self.seen().insert(name.clone(), (run, oom.map_or(0, |oom| oom.kills)));
        }
        oom
    }

    /// It runs no more.
    pub fn forget(&self, name: &WorkspaceName) {
        if self.seen().remove(name).is_some() {
            self.watch.remove(&stats::memory_events(&unit::service_name(name)));
        }
    }

    /// What has risen after a change of a path, if it is about kills: also a unit that is slowed down at its soft limit
    /// modifies the file. The counters come with it, because they may be gone at the next look: a kill can end the run.
    pub fn rose(&self, path: &Path) -> Option<Risen> {
        let service = path.parent()?.file_name()?.to_str()?;
        let name = unit::workspace_of(service).filter(|_| path == stats::memory_events(service))?;
        self.risen(name)
    }

    /// The same for all, after changes that nobody heard of.
    pub fn all_that_rose(&self) -> Vec<Risen> {
        let names: Vec<WorkspaceName> = self.seen().keys().cloned().collect();
        names.into_iter().filter_map(|name| self.risen(name)).collect()
    }

    fn risen(&self, name: WorkspaceName) -> Option<Risen> {
        let now = (self.count)(&unit::service_name(&name))?;
        let mut seen = self.seen();
        let (run, kills) = seen.get_mut(&name)?;
        let before = std::mem::replace(kills, now.kills);
        let run = run.filter(|_| before != now.kills)?;
        drop(seen);
        Some((name, run, now))
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, BTreeMap<WorkspaceName, (Option<u64>, u64)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As without a free watch: a file that isn't there can't be watched either.
    #[test]
    fn kills_are_counted_where_nothing_can_be_watched() {
        let kills = Kills {
            count: |_| Some(Oom { kills: 3, at_limit: 9 }),
            ..Kills::new(Watch::new().unwrap())
        };
        let nobody = WorkspaceName::parse("no-such-workspace").unwrap();
        let counted = Some(Oom { kills: 3, at_limit: 9 });
        assert_eq!([1, 1, 2].map(|run| kills.look(&nobody, Some(run))), [counted; 3]);
        // Tried again at the next look.
        assert!(kills.seen().is_empty());
    }

    #[test]
    fn what_has_risen_comes_with_its_counters_and_once() {
        let dan = WorkspaceName::parse("dan").unwrap();
        let kills = Kills {
            count: |_| Some(Oom { kills: 2, at_limit: 7 }),
            ..Kills::new(Watch::new().unwrap())
        };
        kills.seen().insert(dan.clone(), (Some(5), 1));
        let path = stats::memory_events("csm-dan.service");
        for other in ["/proc/uptime".into(), stats::memory_events("csm-alice.service")] {
            assert_eq!(kills.rose(&other), None, "{}", other.display());
        }
        let risen = (dan, 5, Oom { kills: 2, at_limit: 7 });
        assert_eq!(kills.rose(&path), Some(risen.clone()));
        assert_eq!(kills.rose(&path), None);
        kills.seen().insert(risen.0.clone(), (Some(5), 1));
        assert_eq!(kills.all_that_rose(), [risen]);
        assert_eq!(kills.all_that_rose(), []);
    }
}
