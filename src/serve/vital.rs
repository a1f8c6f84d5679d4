//! The parts without which a daemon is none. One that panics ends the daemon, and systemd starts another, which looks at
//! what there is: better than one that goes on and no longer does half of its work.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Starts them, and knows whether one has panicked.
#[derive(Clone)]
pub struct Vital {
    tasks: TaskTracker,
    token: CancellationToken,
    panicked: Arc<OnceLock<&'static str>>,
}

impl Vital {
    /// `token` is cancelled by a panic, and ends the daemon.
    pub fn new(tasks: TaskTracker, token: CancellationToken) -> Self {
        Self {
            tasks,
            token,
            panicked: Arc::default(),
        }
    }

    pub fn spawn(&self, part: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let (token, panicked) = (self.token.clone(), self.panicked.clone());
        self.tasks.spawn(async move {
            // Nobody uses what it leaves behind: the daemon ends.
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                tracing::error!(part, "a part of the daemon panicked: it ends, and begins anew");
                let _ = panicked.set(part);
                // guard: F34-daemon-ends
                token.cancel();
            }
        });
    }

    /// The part that panicked.
    pub fn panicked(&self) -> Option<&'static str> {
        self.panicked.get().copied()
    }
}

/// What a task comes to, when nobody cancels it. Its panic is its caller's.
pub async fn ended<T>(task: JoinHandle<T>) -> T {
    match task.await {
        Ok(ended) => ended,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_vital_part_that_panics_ends_the_daemon() {
        let (tasks, token) = (TaskTracker::new(), CancellationToken::new());
        let vital = Vital::new(tasks.clone(), token.clone());
        vital.spawn("what ends well", async {});
        let end = token.clone();
        vital.spawn("what is told to end", async move { end.cancelled().await });
        tokio::task::yield_now().await;
        assert!(!token.is_cancelled() && vital.panicked().is_none());
        vital.spawn("what panics", async { panic!("on purpose") });
        tasks.close();
        tasks.wait().await;
        assert!(token.is_cancelled());
        assert_eq!(vital.panicked(), Some("what panics"));
    }
}
