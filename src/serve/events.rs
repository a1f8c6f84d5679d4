//! EVENTS: what an admin wants to know of later: one enum, with the words and fields of each kind. Every event goes to the
//! journal, which is its only memory, and to whoever follows at the moment. Told by workers, the daemon and the gateway.

pub mod past;

use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::sync::broadcast;

use crate::api::{self, State};
use crate::host::journal::{self, Journal};
use crate::model::auth::request::Source;
use crate::model::config::Limits;
use crate::model::desired::IntentBy;
use crate::model::names::WorkspaceName;
use crate::model::oom::{Kills, Memory, Noted, Oom};
use crate::model::size::{format_bytes_rounded, format_cores};
use crate::model::status::Trouble;

const OOM_KILL: &str = "oom-kill";

/// Syslog's levels.
const WARNING: &str = "4";
const INFO: &str = "6";

/// What happened. A name or number in it was checked by us; nothing here is a text that a browser or a workspace wrote.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    DaemonStarted {
        workspaces: usize,
    },
    ConfigurationRead,
    ConfigurationRefused {
        problems: usize,
    },
    /// A workspace entered a state, or began to.
    State {
        workspace: WorkspaceName,
        state: State,
        by: Option<&'static str>,
        why: String,
        trouble: Option<Trouble>,
    },
    /// Something waits for a restart that did not before.
    Pending {
        workspace: WorkspaceName,
        parts: Vec<&'static str>,
    },
    LimitsChanged {
        workspace: WorkspaceName,
        limits: Limits,
    },
    Removed {
        workspace: WorkspaceName,
    },
    /// `csm password` set or forgot the password that signs in.
    PasswordChanged {
        workspace: WorkspaceName,
        why: String,
    },
    /// The kernel ended processes of a workspace for want of memory.
    OomKill {
        workspace: WorkspaceName,
        kills: Kills,
    },
    /// Somebody was not signed in. The gateway tells it.
    SignInRefused {
        workspace: WorkspaceName,
        why: &'static str,
        source: Source,
        /// How many more there were since this was last told.
        more: u64,
    },
    /// Somebody who may not use a socket of the daemon was refused.
    CallerRefused {
        socket: &'static str,
        uid: u32,
        /// How many more there were since this was last told.
        more: u64,
    },
}

/// The parts of an event that are common to all kinds.
struct Parts {
    kind: &'static str,
    workspace: Option<WorkspaceName>,
    trouble_code: Option<&'static str>,
    by: Option<String>,
    why: Option<String>,
    count: Option<u64>,
    at_limit: Option<bool>,
    message: String,
    level: &'static str,
}

impl Event {
    #[expect(clippy::too_many_lines, reason = "a table, one row a kind")]
    fn parts(self) -> Parts {
        let parts = |kind, workspace, message| Parts {
            kind,
            workspace,
            trouble_code: None,
            by: None,
            why: None,
            count: None,
            at_limit: None,
            message,
            level: INFO,
        };
        match self {
            Self::DaemonStarted { workspaces } => {
                let message = format!("the daemon started, with {workspaces} workspaces configured");
                parts("daemon-started", None, message)
            }
            Self::ConfigurationRead => {
                let message = "another configuration is in force".to_owned();
                parts("configuration-read", None, message)
            }
            Self::ConfigurationRefused { problems } => Parts {
                level: WARNING,
                ..parts(
                    "configuration-refused",
                    None,
                    format!("a configuration with {problems} problems was refused; the one before it stays in force"),
                )
            },
            Self::State {
                workspace,
                state,
                by,
                why,
                trouble: None,
            } => {
                let message = if why.is_empty() {
                    state.word().to_owned()
                } else {
                    format!("{}: {why}", state.word())
                };
                Parts {
                    by: by.map(str::to_owned),
                    why: Some(why).filter(|why| !why.is_empty()),
                    ..parts(state.word(), Some(workspace), message)
                }
            }
            Self::State {
                workspace,
                state,
                trouble: Some(trouble),
                ..
            } => Parts {
                trouble_code: Some(trouble.code),
                level: WARNING,
                ..parts(
                    state.word(),
                    Some(workspace),
                    format!("{}: {}", state.word(), trouble.message),
                )
            },
            Self::Pending { workspace, parts: what } => {
                let message = format!("waits for a restart: {}", what.join(", "));
                parts("pending", Some(workspace), message)
            }
            Self::LimitsChanged { workspace, limits } => {
                let message = format!(
                    "limits are now {} of memory, {} cores, {} tasks",
                    format_bytes_rounded(limits.memory_max),
                    format_cores(limits.cpu_quota_usec),
                    limits.tasks_max
                );
                parts("limits-changed", Some(workspace), message)
            }
            Self::Removed { workspace } => {
                let message = "removed; its home stays".to_owned();
                parts("removed", Some(workspace), message)
            }
            Self::PasswordChanged { workspace, why } => Parts {
                by: Some(IntentBy::Admin.word().to_owned()),
                message: format!("another password: {why}"),
                why: Some(why),
                ..parts("password-changed", Some(workspace), String::new())
            },
            Self::OomKill { workspace, kills } => {
                let what = match kills.number {
                    1 => "a process".to_owned(),
                    number => format!("{number} processes"),
                };
                let cause = kills.at_limit.map(|at_limit| {
                    if at_limit {
                        "memory_limit was reached"
                    } else {
                        "the machine had no memory left"
                    }
                });
                let message = match cause {
                    Some(cause) => format!("the kernel ended {what}, because {cause}"),
                    None => format!("the kernel ended {what} for want of memory"),
                };
                Parts {
                    count: Some(kills.number),
                    at_limit: kills.at_limit,
                    why: cause.map(str::to_owned),
                    level: WARNING,
                    ..parts(OOM_KILL, Some(workspace), message)
                }
            }
            Self::SignInRefused {
                workspace,
                why,
                source,
                more,
            } => Parts {
                count: Some(more),
                by: Some(source.to_string()),
                why: Some(why.to_owned()),
                level: WARNING,
                ..parts(
                    "sign-in-refused",
                    Some(workspace),
                    format!("a sign-in from {source} was refused: {why}{}", besides(more)),
                )
            },
            Self::CallerRefused { socket, uid, more } => Parts {
                count: Some(more),
                by: Some(uid.to_string()),
                level: WARNING,
                ..parts(
                    "caller-refused",
                    None,
                    format!("user {uid} may not use {socket}, and was refused{}", besides(more)),
                )
            },
        }
    }
}

fn besides(more: u64) -> String {
    if more == 0 {
        String::new()
    } else {
        format!("; {more} more before it")
    }
}

/// Where events are told.
#[derive(Debug)]
pub struct Events {
    journal: OnceLock<Journal>,
    followers: broadcast::Sender<api::Event>,
    /// What the kernel ended.
    oom: Mutex<Memory>,
    /// When the last one was, in microseconds since 1970: no two are at the same time.
    last: Mutex<i64>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            journal: OnceLock::new(),
            followers: broadcast::channel(1024).0,
            oom: Mutex::default(),
            last: Mutex::default(),
        }
    }
}

impl Events {
    /// From now on the journal remembers them; before, only those who follow hear of them. Nothing else would know whose
    /// they are, so this is for services that systemd started.
    pub fn keep_in_journal(&self) {
        if !journal::reads_us() {
            return;
        }
        match Journal::new() {
            Ok(journal) => drop(self.journal.set(journal)),
            Err(error) => tracing::warn!(%error, "events can't be kept in the journal"),
        }
    }

    pub fn tell(&self, event: Event) {
        let at = self.now();
        let parts = event.parts();
        let code = parts.trouble_code.map(str::to_owned);
        let wire = api::Event {
            id: format!("{at}-{}", std::process::id()),
            at: timestamp(at),
            kind: parts.kind.to_owned(),
            workspace: parts.workspace.map(|name| name.to_string()),
            code,
            by: parts.by,
            why: parts.why,
            count: parts.count,
            message: parts.message,
        };
        if let Some(journal) = self.journal.get() {
            let besides = past::Besides {
                at: at.to_string(),
                count: parts.count.map(|count| count.to_string()),
                at_limit: parts.at_limit,
                level: parts.level,
            };
            if let Err(error) = journal.send(&past::fields(&wire, &besides, &past::in_journal(&wire))) {
                // Not a line of the log: that goes the same way. Whoever follows hears of the event all the same.
                tracing::debug!(%error, "an event did not get into the journal");
            }
        }
        // Nobody following is no error.
        let _ = self.followers.send(wire);
    }

    /// The kernel's counters of a run.
    pub fn saw_oom(&self, workspace: &WorkspaceName, run: u64, oom: Oom) {
        let kills = self.oom().saw(workspace, run, oom, microseconds());
        if let Some(kills) = kills {
            self.tell(Event::OomKill {
                workspace: workspace.clone(),
                kills,
            });
        }
    }

    /// What earlier daemons told of kills, and systemd; nothing new is told before.
    pub fn remember_oom(&self, noted: Vec<(WorkspaceName, Noted)>) {
        let unseen = self.oom().remember(noted, microseconds());
        for (workspace, kills) in unseen {
            self.tell(Event::OomKill { workspace, kills });
        }
    }

    /// Kills of the last day, in words.
    pub fn oom_trouble(&self, workspace: &WorkspaceName, memory_max: u64) -> Option<Trouble> {
        self.oom().trouble(workspace, memory_max, microseconds())
    }

    fn oom(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.oom.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is told from now on.
    pub fn follow(&self) -> broadcast::Receiver<api::Event> {
        self.followers.subscribe()
    }

    fn now(&self) -> i64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (*last + 1).max(microseconds());
        *last
    }
}

fn microseconds() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// All of one length, so that they sort as texts.
fn timestamp(at: i64) -> String {
    jiff::Timestamp::from_microsecond(at)
        .map(|at| at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dan() -> WorkspaceName {
        WorkspaceName::parse("dan").unwrap()
    }

    fn told(event: Event) -> api::Event {
        let events = Events::default();
        let mut follower = events.follow();
        events.tell(event);
        follower.try_recv().unwrap()
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table, one row a kind")]
    fn each_kind_has_its_words() {
        let state = |state, why: &str, trouble| Event::State {
            workspace: dan(),
            state,
            by: Some("admin"),
            why: why.to_owned(),
            trouble,
        };
        let limits = Limits {
            memory_max: 3 << 30,
            memory_high: 2 << 30,
            memory_low: 0,
            cpu_quota_usec: 1_500_000,
            cpu_weight: 100,
            tasks_max: 4096,
        };
        let trouble = Trouble::new("account-missing", "there is no account csm-dan", "make it");
        let all = [
            Event::DaemonStarted { workspaces: 3 },
            Event::ConfigurationRead,
            Event::ConfigurationRefused { problems: 2 },
            state(State::Stopping, "csm stop by root", None),
            state(State::Ready, "", None),
            state(State::Blocked, "", Some(trouble)),
            Event::Pending {
                workspace: dan(),
                parts: vec!["image", "environment"],
            },
            Event::LimitsChanged {
                workspace: dan(),
                limits,
            },
            Event::Removed { workspace: dan() },
            Event::PasswordChanged {
                workspace: dan(),
                why: "csm password by ann".to_owned(),
            },
            Event::OomKill {
                workspace: dan(),
                kills: Kills {
                    at: 0,
                    number: 1,
                    at_limit: Some(true),
                },
            },
            Event::OomKill {
                workspace: dan(),
                kills: Kills {
                    at: 0,
                    number: 3,
                    at_limit: Some(false),
                },
            },
            Event::OomKill {
                workspace: dan(),
                kills: Kills {
                    at: 0,
                    number: 2,
                    at_limit: None,
                },
            },
            Event::SignInRefused {
                workspace: dan(),
                why: "wrong password",
                source: Source::of(Some("192.0.2.7"), false),
                more: 3,
            },
            Event::CallerRefused {
                socket: "admin.sock",
                uid: 1000,
                more: 0,
            },
            Event::CallerRefused {
                socket: "admin.sock",
                uid: 1000,
                more: 7,
            },
        ];
        let lines: Vec<String> = all
            .into_iter()
            .map(|event| {
                let event = told(event);
                let code = event.code.map(|code| format!(" [{code}]")).unwrap_or_default();
                let workspace = event.workspace.unwrap_or_default();
                format!("{} {workspace}{code} {}", event.kind, event.message)
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        daemon-started  the daemon started, with 3 workspaces configured
        configuration-read  another configuration is in force
        configuration-refused  a configuration with 2 problems was refused; the one before it stays in force
        stopping dan stopping: csm stop by root
        ready dan ready
        blocked dan [account-missing] blocked: there is no account csm-dan
        pending dan waits for a restart: image, environment
        limits-changed dan limits are now 3G of memory, 1.5 cores, 4096 tasks
        removed dan removed; its home stays
        password-changed dan another password: csm password by ann
        oom-kill dan the kernel ended a process, because memory_limit was reached
        oom-kill dan the kernel ended 3 processes, because the machine had no memory left
        oom-kill dan the kernel ended 2 processes for want of memory
        sign-in-refused dan a sign-in from 192.0.2.7 was refused: wrong password; 3 more before it
        caller-refused  user 1000 may not use admin.sock, and was refused
        caller-refused  user 1000 may not use admin.sock, and was refused; 7 more before it
        ");
    }

    #[test]
    fn no_two_events_are_at_the_same_time() {
        let events = Events::default();
        let mut follower = events.follow();
        for _ in 0..100 {
            events.tell(Event::ConfigurationRead);
        }
        let mut ids: Vec<String> = std::iter::from_fn(|| follower.try_recv().ok())
            .map(|event| event.at)
            .collect();
        assert!(ids.is_sorted());
        ids.dedup();
        assert_eq!(ids.len(), 100);
    }
}
