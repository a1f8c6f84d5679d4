//! What a worker tells of its workspace: the report that others read, and through its teller the events.

use super::Worker;
use crate::api::State;
use crate::host::Engine;
use crate::model::desired::Workspace;
use crate::model::plan::{Fact, Running, Service, Sighting, Step, WorkspacePlan};

impl<E: Engine> Worker<E> {
    pub(super) fn looked(&self) {
        self.report.send_if_modified(|report| {
            let changes = report.served != self.serving;
            report.served = self.serving;
            changes
        });
    }

    /// The state that a step leads through.
    pub(super) fn announce(&mut self, step: &Step) {
        let state = match step {
            Step::Stop => State::Stopping,
            // It is said to have failed until it answers.
            Step::AwaitReady if self.is_silent() => return,
            Step::Start(_) | Step::AwaitReady => State::Starting,
            _ => return,
        };
        self.teller.begins(step, self.wanted.as_ref());
        self.report.send_if_modified(|report| {
            // A running editor whose answer is awaited stays what it was.
            let changes = report.state != state;
            if changes {
                report.state = state;
                report.since = jiff::Timestamp::now();
            }
            changes
        });
    }

    pub(super) fn publish(&mut self, wanted: Option<&Workspace>, seen: &Sighting, plan: &WorkspacePlan) {
        let (slow, silent) = (self.slow_finding(), self.silent_finding().cloned());
        let failure = self.pause.as_ref().filter(|pause| !pause.promising);
        let paused = failure.map(|pause| &pause.why).or(silent.as_ref());
        let state = state(wanted, seen, plan, paused.is_some(), slow.is_some());
        let trouble = match state {
            Some(State::Blocked) => plan.blocked.first(),
            Some(State::Failed) => paused,
            _ => None,
        };
        self.teller.found(state, wanted, trouble, plan.unknown.is_empty());
        // What is wrong although it runs comes after what keeps it from being ready.
        let mut findings = plan.blocked.clone();
        findings.extend(paused.cloned());
        findings.extend(slow.filter(|_| matches!(state, None | Some(State::Starting))));
        findings.extend(plan.ailing.iter().cloned());
        findings.extend(self.panic_finding());
        self.teller.pending(plan);
        self.teller.oom(&seen.service);
        let running = match &seen.service {
            // Counters are for events: here they would make nearly every look one that shows something new.
            Fact::Known(Service::Running(running)) => Some(Running {
                oom: None,
                ..(**running).clone()
            }),
            _ => None,
        };
        let absent = seen.service == Fact::Known(Service::Absent);
        let gone = wanted.is_none() && absent && plan.steps.is_empty() && plan.unknown.is_empty();
        self.teller.gone(gone);
        self.report.send_if_modified(|report| {
            let before = report.clone();
            // Findings and state are kept while the host can't be seen: not seeing is no change.
            if let Some(state) = state
                && report.state != state
            {
                report.state = state;
                report.since = jiff::Timestamp::now();
            }
            report.findings = findings;
            report.pending.clone_from(&plan.pending);
            report.running = running;
            report.steps = plan.steps.iter().map(Step::describe).collect();
            report.unknown.clone_from(&plan.unknown);
            report.gone = gone;
            // Nobody has to hear of a look that showed nothing new.
            *report != before
        });
    }
}

/// The one state that the facts add up to; nothing when they could not be seen.
#[expect(
    clippy::match_same_arms,
    reason = "the order of the lines is the rule, and it is read from top to bottom"
)]
fn state(wanted: Option<&Workspace>, seen: &Sighting, plan: &WorkspacePlan, failed: bool, slow: bool) -> Option<State> {
    let Fact::Known(service) = &seen.service else {
        return None;
    };
    let should_run = wanted.is_some_and(Workspace::should_run);
    Some(match service {
        Service::Running(running) if running.frozen => State::Suspended,
        Service::Running(_) if !should_run => State::Stopping,
        Service::Running(_) if seen.answers == Fact::Known(true) => State::Ready,
        Service::Running(_) if failed => State::Failed,
        // What a slow try left behind is put away, and the next one follows.
        Service::Stopping if should_run && slow => State::Starting,
        Service::Stopping => State::Stopping,
        Service::Absent if wanted.is_some_and(|workspace| !workspace.enabled) => State::Disabled,
        Service::Absent if !should_run => State::Stopped,
        Service::Absent if !plan.blocked.is_empty() => State::Blocked,
        Service::Absent if failed => State::Failed,
        // Under way, or about to be.
        Service::Running(_) | Service::Starting | Service::Absent => State::Starting,
    })
}
