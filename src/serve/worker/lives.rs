//! An editor's life, as far as its worker saw it, and what follows when it ends by itself.

use std::time::Duration;

use tokio::time::Instant;

use super::{Pause, Worker, backoff};
use crate::host::Engine;
use crate::model::desired::Workspace;
use crate::model::plan::{Fact, Service, Sighting};
use crate::model::status::Trouble;

/// An editor that ran this long before it ended did not end because of how it was started.
const STEADY: Duration = Duration::from_secs(600);

/// An editor that runs.
pub(super) struct Alive {
    /// When it was started or first seen.
    pub(super) born: Instant,
    /// Whether it has ever been seen to answer.
    pub(super) answered: bool,
    /// It was waited for long enough, and is said to say nothing until it does.
    pub(super) silent: Option<Trouble>,
    /// When it was first seen to have ended: what is left of it may take long to put away.
    pub(super) ended: Option<Instant>,
}

impl Alive {
    pub(super) fn now() -> Self {
        Self {
            born: Instant::now(),
            answered: false,
            silent: None,
            ended: None,
        }
    }

    pub(super) fn lived(&self) -> Duration {
        self.ended.unwrap_or_else(Instant::now) - self.born
    }
}

impl<E: Engine> Worker<E> {
    /// An editor that ended although it should run is started at once the first time, then after a growing pause.
    pub(super) fn note_death(&mut self, wanted: Option<&Workspace>, seen: &Sighting) {
        match &seen.service {
            Fact::Known(Service::Running(_)) => {
                self.alive.get_or_insert_with(Alive::now);
                if seen.answers == Fact::Known(true) {
                    self.answered();
                }
            }
            Fact::Known(Service::Absent) => {
                let Some(alive) = self.alive.take().filter(|_| wanted.is_some_and(Workspace::should_run)) else {
                    return;
                };
                if self.note_slow_end(&alive) {
                    return;
                }
                let born = alive.born;
                // guard: F14-counted
                self.deaths = if born.elapsed() > STEADY { 1 } else { self.deaths + 1 };
                tracing::warn!(workspace = %self.name, deaths = self.deaths, "{}: the editor ended by itself", self.name);
                if self.deaths > 1 {
                    let why = Trouble::new(
                        "editor-exited",
                        format!(
                            "the editor ended {} times by itself; it is started again after a pause",
                            self.deaths
                        ),
                        format!(
                            "`csm logs {0}` shows its last words; `csm restart {0}` tries at once",
                            self.name
                        ),
                    );
                    self.pause = Some(Pause {
                        until: Instant::now() + backoff(self.deaths - 1),
                        removing: false,
                        why,
                        promising: false,
                    });
                }
            }
            Fact::Known(Service::Stopping) => {
                if let Some(alive) = &mut self.alive {
                    alive.ended.get_or_insert_with(Instant::now);
                }
            }
            _ => {}
        }
    }
}
