//! A start that takes its time: said, and tried again, before it counts as a failure (`model::start`).

use tokio::time::Instant;

use super::lives::Alive;
use super::{Pause, Worker, backoff};
use crate::host::Engine;
use crate::model::start::{self, Tries};
use crate::model::status::Trouble;

/// A start under way: all its tries together, until an editor answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// When the first try was begun.
    since: Instant,
    /// When the newest one was.
    tried: Instant,
    /// When its editor was first waited for.
    waited: Option<Instant>,
    tries: Tries,
    /// Its time is up and that was said: what comes after has failed already.
    over: bool,
}

impl Start {
    fn at(moment: Instant) -> Self {
        Self {
            since: moment,
            tried: moment,
            waited: None,
            tries: Tries::default(),
            over: false,
        }
    }
}

impl<E: Engine> Worker<E> {
    /// The container is about to be started. The wait for a turn is over, so it counts for nobody.
    pub(super) fn begin_try(&mut self) {
        let now = Instant::now();
        let start = self.start.get_or_insert(Start::at(now));
        (start.tried, start.waited) = (now, None);
    }

    /// An editor that runs is about to be waited for. One that has answered before is no start.
    pub(super) fn begin_waiting(&mut self) {
        if self.alive.as_ref().is_some_and(|alive| !alive.answered) && !self.is_silent() {
            let now = Instant::now();
            self.start.get_or_insert(Start::at(now)).waited.get_or_insert(now);
        }
    }

    /// Until when it is waited for. To be interrupted makes that no longer.
    pub(super) fn patience(&self) -> Instant {
        let now = Instant::now();
        match self.start.filter(|_| !self.is_silent()) {
            Some(start) => {
                let waited = start.waited.unwrap_or(now);
                waited
                    + if start.over {
                        start::SILENT
                    } else {
                        start::patience(waited - start.since)
                    }
            }
            None => now + start::SILENT,
        }
    }

    /// The editor that runs was waited for long enough.
    pub(super) fn is_silent(&self) -> bool {
        self.silent_finding().is_some()
    }

    pub(super) fn silent_finding(&self) -> Option<&Trouble> {
        let alive = self.alive.as_ref().filter(|alive| alive.ended.is_none())?;
        alive.silent.as_ref()
    }

    /// What there is to say of a start that is slow and has time left; nothing of every other.
    pub(super) fn slow_finding(&self) -> Option<Trouble> {
        let start = self.start.filter(|start| !start.over)?;
        // Of one that ended at once only what it left is under way.
        let broken = |alive: &Alive| alive.ended.is_some() && !start::was_slow(alive.answered, alive.lived());
        if self.is_silent() || self.alive.as_ref().is_some_and(broken) {
            return None;
        }
        start::slow(&self.name, start.since.elapsed(), start.tries)
    }

    /// When the start under way becomes a slow one.
    pub(super) fn slow_from(&self) -> Option<Instant> {
        let start = self.start.filter(|start| !start.over && !self.is_silent())?;
        Some(start.since + start::SLOW)
    }

    /// The editor has answered, so however it ends, it started.
    pub(super) fn answered(&mut self) {
        if let Some(alive) = &mut self.alive {
            alive.answered = true;
            alive.silent = None;
        }
        self.start = None;
    }

    /// The next try, and the next wait, is the first of another start.
    pub(super) fn forget_start(&mut self) {
        self.start = None;
        if let Some(alive) = &mut self.alive {
            alive.silent = None;
        }
    }

    /// Something keeps it from starting, and its time stands still: what comes after is another start.
    pub(super) fn hold_start(&mut self) {
        self.forget_start();
        self.pause
            .take_if(|pause| pause.promising || pause.why.code == "editor-silent");
        if let Some(alive) = &mut self.alive {
            alive.born = Instant::now();
        }
    }

    /// An editor ended by itself: whether that was a slow start, which is then begun again after a pause.
    pub(super) fn note_slow_end(&mut self, alive: &Alive) -> bool {
        if !start::was_slow(alive.answered, alive.lived()) {
            self.start = None;
            if let Some(pause) = &mut self.pause {
                pause.promising = false;
            }
            return false;
        }
        let start = self.start.get_or_insert(Start::at(alive.born));
        start.tries.gave_up += 1;
        let start = *start;
        self.try_again(start);
        true
    }

    /// The container was not started: whether Podman was only slow. It is then tried again after a pause.
    pub(super) fn note_cut_off(&mut self, why: &Trouble) -> bool {
        let Some(start) = &mut self.start else { return false };
        if !start::was_cut_off(why, start.tried.elapsed()) {
            return false;
        }
        start.tries.cut_off += 1;
        let start = *start;
        self.try_again(start);
        true
    }

    fn try_again(&mut self, start: Start) {
        let lasted = start.since.elapsed();
        let pause = backoff(start.tries.all());
        // A try that would only begin when the time is up is none.
        let said = start::slow(&self.name, lasted + pause, start.tries).filter(|_| !start.over);
        let promising = said.is_some();
        let why = said.unwrap_or_else(|| start::too_slow(&self.name, lasted, start.tries));
        self.start = Some(Start {
            over: !promising,
            ..start
        });
        let took = start.tried.elapsed().as_secs();
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
    }

    /// Says of a start while it lasts that it is slow. What is said already is not said again.
    pub(super) fn say_slow(&self) {
        let Some(said) = self.slow_finding() else { return };
        self.report.send_if_modified(|report| {
            let new = !report.findings.contains(&said);
            if new {
                tracing::warn!(workspace = %self.name, code = said.code, "{}: {}", self.name, said.message);
                report.findings.push(said);
            }
            new
        });
    }
}
