//! Noticing that the kernel ended a process of a workspace for want of memory: it marks memory.events of the unit as modified
//! (cgroups(7)), and inotify tells. Nothing is polled.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::host::stats;
use crate::host::watch::Watch;
use crate::model::names::WorkspaceName;
use crate::model::oom::Oom;
use crate::model::unit;

/// The files that are watched.
pub struct Kills {
    watch: Arc<Watch>,
    /// By workspace: the run, and the kills that its worker was last told to look at.
    seen: Mutex<BTreeMap<WorkspaceName, (Option<u64>, u64)>>,
}

impl Kills {
    pub fn new(watch: Arc<Watch>) -> Self {
        Self {
            watch,
            seen: Mutex::default(),
        }
    }

    /// The counters of a workspace that runs, which are watched from now on. Nothing where the kernel counts none.
    pub fn look(&self, name: &WorkspaceName, run: Option<u64>) -> Option<Oom> {
        let service = unit::service_name(name);
        let before = self.seen().get(name).map(|(run, _)| *run);
        let is_new = before != Some(run);
        if is_new {
            // A path of the same name, but another file.
            self.forget(name);
            self.watch.add(&stats::memory_events(&service)).ok()?;
        }
        // Read after it is watched, so that nothing falls in between.
        let oom = stats::oom(&service);
        if is_new {
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

    /// The workspace to look at again after a change of a path, if it is about kills: also a unit that is slowed down at its
    /// soft limit modifies the file, up to a hundred times a second.
    pub fn rose(&self, path: &Path) -> Option<WorkspaceName> {
        let service = path.parent()?.file_name()?.to_str()?;
        let name = unit::workspace_of(service).filter(|_| path == stats::memory_events(service))?;
        self.has_risen(&name).then_some(name)
    }

    /// The same for all, after changes that nobody heard of.
    pub fn all_that_rose(&self) -> Vec<WorkspaceName> {
        let names: Vec<WorkspaceName> = self.seen().keys().cloned().collect();
        names.into_iter().filter(|name| self.has_risen(name)).collect()
    }

    fn has_risen(&self, name: &WorkspaceName) -> bool {
        let Some(now) = stats::oom(&unit::service_name(name)) else {
            return false;
        };
        let mut seen = self.seen();
        let before = seen.get_mut(name).map(|(_, kills)| std::mem::replace(kills, now.kills));
        before.is_some_and(|before| before != now.kills)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, BTreeMap<WorkspaceName, (Option<u64>, u64)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
