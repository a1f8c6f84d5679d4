//! EVENTS: what an admin wants to know of later: one enum, with the words and fields of each kind. Every event goes to the
//! journal, which is its only memory, and to whoever follows at the moment. Told by workers, the daemon and the gateway.

use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::sync::broadcast;

use crate::api::{self, State};
use crate::host::journal::Journal;
use crate::host::logs::{Entry, Query};
use crate::model::config::Limits;
use crate::model::names::WorkspaceName;
use crate::model::size::{format_bytes_rounded, format_cores};
use crate::model::status::Trouble;

/// Marks our events in the journal (systemd.journal-fields(7)); `journalctl MESSAGE_ID=...` shows them too.
pub const MESSAGE_ID: &str = "5cd51dd1ace71b939aec616a49da436a";

/// Who may tell events: the journal knows by itself which unit an entry came from.
pub const DAEMON: &str = "code-server-multi.service";
pub const GATEWAY: &str = "code-server-multi-gateway.service";

const FIELDS: [&str; 7] = [
    "CSM_ID",
    "CSM_AT",
    "CSM_EVENT",
    "CSM_WORKSPACE",
    "CSM_CODE",
    "CSM_BY",
    "CSM_WHY",
];

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
    message: String,
    level: &'static str,
}

impl Event {
    fn parts(self) -> Parts {
        let parts = |kind, workspace, message| Parts {
            kind,
            workspace,
            trouble_code: None,
            by: None,
            why: None,
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
            Self::CallerRefused { socket, uid, more } => Parts {
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
        format!("; so were {more} more calls before")
    }
}

/// Where events are told.
#[derive(Debug)]
pub struct Events {
    journal: OnceLock<Journal>,
    followers: broadcast::Sender<api::Event>,
    /// When the last one was, in microseconds since 1970: no two are at the same time.
    last: Mutex<i64>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            journal: OnceLock::new(),
            followers: broadcast::channel(1024).0,
            last: Mutex::default(),
        }
    }
}

impl Events {
    /// From now on the journal remembers them; before, only those who follow hear of them.
    pub fn keep_in(&self, journal: Journal) {
        drop(self.journal.set(journal));
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
            message: parts.message,
        };
        if let Some(journal) = self.journal.get() {
            let (at, message) = (at.to_string(), in_journal(&wire));
            if let Err(error) = journal.send(&fields(&wire, &at, &message, parts.level)) {
                // Not a line of the log: that goes the same way. Whoever follows hears of the event all the same.
                tracing::debug!(%error, "an event did not get into the journal");
            }
        }
        // Nobody following is no error.
        let _ = self.followers.send(wire);
    }

    /// What is told from now on.
    pub fn follow(&self) -> broadcast::Receiver<api::Event> {
        self.followers.subscribe()
    }

    fn now(&self) -> i64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (*last + 1).max(jiff::Timestamp::now().as_microsecond());
        *last
    }
}

/// All of one length, so that they sort as texts.
fn timestamp(at: i64) -> String {
    jiff::Timestamp::from_microsecond(at)
        .map(|at| at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
        .unwrap_or_default()
}

/// Readers of the journal see no fields unless they ask for them.
fn in_journal(event: &api::Event) -> String {
    match &event.workspace {
        Some(workspace) => format!("{workspace}: {}", event.message),
        None => event.message.clone(),
    }
}

fn fields<'a>(event: &'a api::Event, at: &'a str, message: &'a str, level: &'a str) -> Vec<(&'static str, &'a str)> {
    let mut fields = vec![
        ("MESSAGE", message),
        ("MESSAGE_ID", MESSAGE_ID),
        ("PRIORITY", level),
        ("SYSLOG_IDENTIFIER", "csm"),
        ("CSM_ID", &event.id),
        ("CSM_AT", at),
        ("CSM_EVENT", &event.kind),
    ];
    for (key, value) in [
        ("CSM_WORKSPACE", &event.workspace),
        ("CSM_CODE", &event.code),
        ("CSM_BY", &event.by),
        ("CSM_WHY", &event.why),
    ] {
        fields.extend(value.as_ref().map(|value| (key, value.as_str())));
    }
    fields
}

/// What to ask the journal for events that these units told.
pub fn query(units: &[&str], workspace: Option<&WorkspaceName>) -> Query {
    let mut matches = vec![format!("MESSAGE_ID={MESSAGE_ID}")];
    // Of one field any will do; the entry has to have all fields.
    matches.extend(units.iter().map(|unit| format!("_SYSTEMD_UNIT={unit}")));
    matches.extend(workspace.map(|name| format!("CSM_WORKSPACE={name}")));
    Query {
        what: "events".to_owned(),
        matches,
        fields: &FIELDS,
        ..Query::default()
    }
}

/// An event as the journal gives it back.
pub fn of_entry(entry: &Entry) -> Option<api::Event> {
    let own = |field: &str| entry.get(field).map(str::to_owned);
    let workspace = own("CSM_WORKSPACE");
    let code = own("CSM_CODE");
    let message = entry.message();
    let prefix = workspace.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
    Some(api::Event {
        id: own("CSM_ID")?,
        at: timestamp(entry.get("CSM_AT")?.parse().ok()?),
        kind: own("CSM_EVENT")?,
        message: message.strip_prefix(&prefix).unwrap_or(message).to_owned(),
        workspace,
        code,
        by: own("CSM_BY"),
        why: own("CSM_WHY"),
    })
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
        caller-refused  user 1000 may not use admin.sock, and was refused
        caller-refused  user 1000 may not use admin.sock, and was refused; so were 7 more calls before
        ");
    }

    /// What the journal gives back is what was told.
    #[test]
    fn an_event_survives_the_journal() {
        let event = told(Event::State {
            workspace: dan(),
            state: State::Stopped,
            by: Some("admin"),
            why: "csm stop by root".to_owned(),
            trouble: None,
        });
        let (at, message) = (event.id.split('-').next().unwrap().to_owned(), in_journal(&event));
        assert_eq!(message, "dan: stopped: csm stop by root");
        let fields = fields(&event, &at, &message, INFO);
        let json: serde_json::Map<String, serde_json::Value> = fields
            .into_iter()
            .chain([("__REALTIME_TIMESTAMP", "5")])
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
        let entry = crate::host::logs::parse(&serde_json::to_string(&json).unwrap()).unwrap();
        assert_eq!(of_entry(&entry), Some(event));
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
