//! A start that takes its time: said, and tried again, before it counts as a failure (`model::start`).

use tokio::time::Instant;

use super::{Alive, Pause, Worker, backoff};
use crate::host::Engine;
use crate::model::start;
use crate::model::status::Trouble;

/// Tries of one start that ended by themselves, each of them slow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slow {
    /// When the first of them began.
    since: Instant,
    ended: u32,
}

impl<E: Engine> Worker<E> {
    /// What there is to say of a start that is slow and has time left; nothing of every other.
    pub(super) fn slow_finding(&self) -> Option<Trouble> {
        let under_way = self.alive.as_ref().filter(|alive| !alive.answered);
        let lasted = match (&self.slow, under_way) {
            (Some(slow), _) => slow.since.elapsed(),
            (None, Some(alive)) => alive.lived(),
            (None, None) => return None,
        };
        start::slow(&self.name, lasted, self.slow.map_or(0, |slow| slow.ended))
    }

    /// When the start under way becomes a slow one.
    pub(super) fn slow_from(&self) -> Option<Instant> {
        let alive = self.alive.as_ref().filter(|alive| !alive.answered)?;
        Some(alive.born + start::SLOW)
    }

    /// The editor has answered, so however it ends, it started.
    pub(super) fn answered(&mut self) {
        if let Some(alive) = &mut self.alive {
            alive.answered = true;
        }
        self.slow = None;
    }

    /// An editor ended by itself: whether that was a slow start, which is then begun again after a pause.
    pub(super) fn note_slow_end(&mut self, alive: &Alive) -> bool {
        if !start::was_slow(alive.answered, alive.lived()) {
            self.slow = None;
            if let Some(pause) = &mut self.pause {
                pause.promising = false;
            }
            return false;
        }
        let slow = self.slow.get_or_insert(Slow {
            since: alive.born,
            ended: 0,
        });
        slow.ended += 1;
        let Slow { since, ended } = *slow;
        let pause = backoff(ended);
        // A try that would only begin when the time is up is none.
        let (promising, why) = match start::slow(&self.name, since.elapsed() + pause, ended) {
            Some(why) => (true, why),
            None => (false, start::too_slow(&self.name, since.elapsed(), ended)),
        };
        let took = alive.lived().as_secs();
        tracing::warn!(workspace = %self.name, code = why.code, took, "{}: {} ({took} s)", self.name, why.message);
        if promising {
            self.teller.slow(&why);
        }
        self.pause = Some(Pause {
            until: Instant::now() + pause,
            removing: false,
            why,
            // guard: F30-still-starting
            promising,
        });
        true
    }

    /// Says of a start while it lasts that it is slow.
    pub(super) fn say_slow(&self) {
        let Some(said) = self.slow_finding() else { return };
        tracing::warn!(workspace = %self.name, code = said.code, "{}: {}", self.name, said.message);
        self.report.send_if_modified(|report| {
            let new = !report.findings.contains(&said);
            if new {
                report.findings.push(said);
            }
            new
        });
    }
}
