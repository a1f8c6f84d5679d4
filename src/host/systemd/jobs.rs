//! Jobs: what PID 1 was asked for and has not finished. Their end is heard of by a signal; when signals may have been
//! missed (another bus, another PID 1), it is read from the unit itself, so that nobody waits for what has happened.

use std::time::Duration;

use tokio::sync::broadcast;
use zbus::OwnedObjectPath;

use super::{Event, Systemd, SystemdError};

/// The end of some job, as systemd signals it.
#[derive(Debug, Clone)]
pub(super) struct JobEnd {
    pub job: OwnedObjectPath,
    pub result: String,
}

/// What a job should lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    Running,
    Gone,
}

/// A job that systemd has queued. Its end is heard of from before it was queued, so it can't be missed.
pub struct Job<'a> {
    pub(super) systemd: &'a Systemd,
    pub(super) unit: String,
    pub(super) goal: Goal,
    pub(super) path: OwnedObjectPath,
    pub(super) ends: broadcast::Receiver<JobEnd>,
    pub(super) events: broadcast::Receiver<Event>,
}

impl Job<'_> {
    /// Waits for the job's result; anything but `done` is an error.
    pub async fn ended(mut self, deadline: Duration) -> Result<(), SystemdError> {
        match tokio::time::timeout(deadline, self.result()).await {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => Err(SystemdError::Job {
                unit: self.unit,
                result,
            }),
            Err(_) => Err(SystemdError::Deadline {
                unit: self.unit,
                deadline,
            }),
        }
    }

    async fn result(&mut self) -> String {
        loop {
            let missed = tokio::select! {
                end = self.ends.recv() => match end {
                    Ok(end) if end.job == self.path => return end.result,
                    Ok(_) => false,
                    // Too many at once.
                    Err(_) => true,
                },
                // guard: F4-judged
                event = self.events.recv() => matches!(event, Ok(Event::Resync) | Err(_)),
            };
            if missed && let Some(result) = self.read_from_unit().await {
                return result;
            }
        }
    }

    /// What became of the job by the state of its unit; nothing while it is under way, or can't be seen.
    async fn read_from_unit(&self) -> Option<String> {
        let rows = self.systemd.list(std::slice::from_ref(&self.unit)).await.ok()?;
        let row = rows.first();
        // guard: F5-waited-for
        if row.is_some_and(|row| row.has_job) {
            return None;
        }
        Some(outcome(self.goal, row.map(|row| row.active.as_str())).to_owned())
    }
}

/// `active` is the unit's state; nothing when it isn't loaded.
fn outcome(goal: Goal, active: Option<&str>) -> &'static str {
    let running = matches!(active, Some("active" | "reloading" | "refreshing"));
    let gone = matches!(active, None | Some("inactive" | "failed"));
    match goal {
        Goal::Running if running => "done",
        Goal::Gone if gone => "done",
        _ => "lost: systemd or the bus was restarted meanwhile",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_whose_end_nobody_heard_is_judged_by_its_unit() {
        for (goal, active, done) in [
            (Goal::Running, Some("active"), true),
            (Goal::Running, Some("reloading"), true),
            (Goal::Running, Some("activating"), false),
            (Goal::Running, Some("failed"), false),
            (Goal::Running, None, false),
            (Goal::Gone, None, true),
            (Goal::Gone, Some("inactive"), true),
            (Goal::Gone, Some("failed"), true),
            (Goal::Gone, Some("deactivating"), false),
            (Goal::Gone, Some("active"), false),
        ] {
            assert_eq!(outcome(goal, active) == "done", done, "{goal:?} and {active:?}");
        }
    }
}
