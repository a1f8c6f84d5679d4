//! What one worker tells of its workspace: each change once, with the reason. A daemon that starts tells nothing that the
//! one before it may have told: it finds workspaces as they are.

use std::sync::Arc;

use crate::api::State;
use crate::model::config::{Apply, Limits};
use crate::model::desired::Workspace;
use crate::model::names::WorkspaceName;
use crate::model::plan::{Fact, Service, Step, WorkspacePlan};
use crate::model::status::Trouble;
use crate::model::unit::Part;
use crate::serve::events::{Event, Events};

/// The reason for which something is stopped or started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Cause {
    by: Option<&'static str>,
    why: String,
}

impl Cause {
    fn of_daemon(why: &str) -> Self {
        Self {
            by: None,
            why: why.to_owned(),
        }
    }

    fn of_intent(workspace: &Workspace) -> Self {
        Self {
            by: Some(workspace.intent.by.word()),
            why: workspace.intent.why.clone(),
        }
    }
}

/// One worker's voice.
#[derive(Debug)]
pub struct Teller {
    name: WorkspaceName,
    events: Arc<Events>,
    /// The state that was last seen or led through, told or not.
    seen: Option<State>,
    told: Option<State>,
    /// The daemon started, and has not seen all of it yet: what it finds, the one before it may have told.
    finding: bool,
    /// It should have run when the daemon started, and has not been started since.
    missing: bool,
    /// Why it is being stopped; it holds until something else is known.
    cause: Option<Cause>,
    /// What was last seen to wait for a restart, once that could be seen.
    pending: Option<Vec<Part>>,
    gone: bool,
}

impl Teller {
    /// `found`: by a daemon that starts.
    pub fn new(name: WorkspaceName, events: Arc<Events>, found: bool) -> Self {
        Self {
            name,
            events,
            seen: None,
            told: None,
            finding: found,
            missing: found,
            cause: None,
            pending: None,
            gone: true,
        }
    }

    /// It is about to be stopped or started.
    pub fn begins(&mut self, step: &Step, wanted: Option<&Workspace>) {
        match step {
            Step::Stop => {
                self.cause = Some(self.why_stopped(wanted));
                self.tell(State::Stopping, wanted, None);
            }
            Step::Start(_) => self.tell(State::Starting, wanted, None),
            _ => {}
        }
    }

    /// It was found in this state, if it could be seen; `trouble` is why it is failed or blocked, `all_seen` whether nothing
    /// else could be found by looking again.
    pub fn found(
        &mut self,
        state: Option<State>,
        wanted: Option<&Workspace>,
        trouble: Option<&Trouble>,
        all_seen: bool,
    ) {
        let Some(state) = state else { return };
        let wrong = matches!(state, State::Failed | State::Blocked);
        if self.finding {
            self.finding = !all_seen;
            self.missing = state == State::Starting;
            self.seen = Some(state);
            self.told = Some(state).filter(|state| !matches!(state, State::Starting | State::Stopping));
            return;
        }
        match self.seen {
            // The first look. What is under way is told when it begins, or with what comes of it.
            None if !wrong => {
                self.seen = Some(state);
                self.told = Some(state).filter(|state| !matches!(state, State::Starting | State::Stopping));
            }
            Some(seen) if seen == state => {}
            _ => self.tell(state, wanted, trouble.filter(|_| wrong)),
        }
    }

    /// A try to start it was slow and came to nothing, and another one follows.
    pub fn slow(&mut self, trouble: &Trouble) {
        // A new daemon that found it starting has not told that yet; with this it has.
        (self.seen, self.told, self.missing) = (Some(State::Starting), Some(State::Starting), false);
        self.events.tell(Event::State {
            workspace: self.name.clone(),
            state: State::Starting,
            by: None,
            why: String::new(),
            trouble: Some(trouble.clone()),
        });
    }

    /// What waits for a restart, once everything about it could be seen.
    pub fn pending(&mut self, plan: &WorkspacePlan) {
        if !plan.unknown.is_empty() {
            return;
        }
        let parts = &plan.pending;
        let before = self.pending.replace(parts.clone());
        if before.is_some_and(|before| before != *parts) && !parts.is_empty() {
            self.events.tell(Event::Pending {
                workspace: self.name.clone(),
                parts: parts.iter().map(|part| part.word()).collect(),
            });
        }
    }

    pub fn limits(&self, before: Option<&Limits>, now: &Limits) {
        // Other things are set live as well.
        if before != Some(now) {
            self.events.tell(Event::LimitsChanged {
                workspace: self.name.clone(),
                limits: now.clone(),
            });
        }
    }

    /// What the kernel counts of it, which is nothing on some hosts.
    pub fn oom(&self, service: &Fact<Service>) {
        let Fact::Known(Service::Running(running)) = service else {
            return;
        };
        if let (Some(run), Some(oom)) = (running.started, running.oom) {
            self.events.saw_oom(&self.name, run, oom);
        }
    }

    /// Whether nothing is left to do for it.
    pub fn gone(&mut self, gone: bool) {
        if gone && !self.gone {
            self.events.tell(Event::Removed {
                workspace: self.name.clone(),
            });
        }
        self.gone = gone;
    }

    fn tell(&mut self, state: State, wanted: Option<&Workspace>, trouble: Option<&Trouble>) {
        self.seen = Some(state);
        self.finding = false;
        if self.told == Some(state) {
            return;
        }
        let cause = self.cause_of(state, wanted);
        self.told = Some(state);
        self.events.tell(Event::State {
            workspace: self.name.clone(),
            state,
            by: cause.by,
            why: cause.why,
            trouble: trouble.cloned(),
        });
    }

    fn cause_of(&mut self, state: State, wanted: Option<&Workspace>) -> Cause {
        match state {
            State::Stopping => match &self.cause {
                Some(cause) => cause.clone(),
                None if wanted.is_some_and(Workspace::should_run) => {
                    Cause::of_daemon("from outside: systemctl stop, or the like")
                }
                None => self.why_stopped(wanted),
            },
            State::Stopped | State::Disabled => self.cause.take().unwrap_or_else(|| self.why_stopped(wanted)),
            State::Starting => match (self.cause.take(), self.told) {
                // Stopped in order to be started.
                (Some(cause), _) => cause,
                (None, Some(State::Ready)) => Cause::of_daemon("its editor ended or stopped answering"),
                (None, Some(State::Disabled)) => Cause::of_daemon("it is enabled again"),
                (None, Some(State::Failed)) => Cause::of_daemon("it is tried again"),
                (None, Some(State::Blocked)) => Cause::of_daemon("nothing keeps it from starting any more"),
                // Whoever wanted it to run did not start it now.
                (None, None) if self.missing => Cause::of_daemon("it should run, and did not when the daemon started"),
                (None, _) => wanted.map(Cause::of_intent).unwrap_or_default(),
            },
            State::Suspended => Cause::of_daemon("its unit was frozen"),
            State::Ready | State::Failed | State::Blocked => {
                self.cause = None;
                Cause::default()
            }
        }
    }

    /// Why the daemon stops it.
    fn why_stopped(&self, wanted: Option<&Workspace>) -> Cause {
        let waits = self.pending.as_ref().is_some_and(|parts| !parts.is_empty());
        match wanted {
            None => Cause::of_daemon("it is no longer in the configuration"),
            Some(workspace) if !workspace.enabled => Cause::of_daemon("enabled = false in the configuration"),
            Some(workspace) if workspace.intent.running && workspace.apply == Apply::Now && waits => {
                Cause::of_daemon("its configuration was changed (apply = \"now\")")
            }
            Some(workspace) => Cause::of_intent(workspace),
        }
    }
}
