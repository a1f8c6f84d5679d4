//! Whose turn it is: how many steps of a kind are taken at once, over all workspaces.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::model::plan::Step;

/// Of each kind.
const TURNS: usize = 8;

/// One queue a kind, so that none holds up another: starts that hang hold up no stop.
pub struct Turns {
    starts: Semaphore,
    stops: Semaphore,
    /// PID 1 goes through all mounts of the host for each that changes: many at once would all miss their deadlines.
    mounts: Semaphore,
}

impl Turns {
    pub fn new() -> Self {
        let queue = || Semaphore::new(TURNS);
        Self {
            starts: queue(),
            stops: queue(),
            mounts: queue(),
        }
    }

    /// Waits until a step may be taken, and lets the next one in when it is dropped.
    pub async fn turn(&self, step: &Step) -> Option<SemaphorePermit<'_>> {
        let queue = match step {
            Step::Start(_) => &self.starts,
            Step::Stop => &self.stops,
            Step::Mount(..) | Step::Unmount(_) => &self.mounts,
            _ => return None,
        };
        queue.acquire().await.ok()
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self::new()
    }
}
