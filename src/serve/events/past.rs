//! Events in the journal: what is written, what to ask for, and what comes back.

use crate::api;
use crate::host::logs::{Entry, Query};
use crate::model::names::WorkspaceName;
use crate::model::oom::{Kills, Noted};
use crate::model::unit;
use crate::serve::events::{OOM_KILL, timestamp};

/// Marks our events in the journal (systemd.journal-fields(7)); `journalctl MESSAGE_ID=...` shows them too.
pub const MESSAGE_ID: &str = "5cd51dd1ace71b939aec616a49da436a";

/// systemd's "A process of this unit has been killed by the OOM killer." (sd-messages(3)).
const SYSTEMDS_OOM: &str = "fe6faa94e7774663a0da52717891d8ef";

/// Who may tell events: the journal knows by itself which unit an entry came from.
pub const DAEMON: &str = "code-server-multi.service";
pub const GATEWAY: &str = "code-server-multi-gateway.service";

const FIELDS: [&str; 10] = [
    "CSM_ID",
    "CSM_AT",
    "CSM_EVENT",
    "CSM_WORKSPACE",
    "CSM_CODE",
    "CSM_BY",
    "CSM_WHY",
    "CSM_COUNT",
    "CSM_AT_LIMIT",
    // Of systemd's own.
    "UNIT",
];

/// Readers of the journal see no fields unless they ask for them.
pub fn in_journal(event: &api::Event) -> String {
    match &event.workspace {
        Some(workspace) => format!("{workspace}: {}", event.message),
        None => event.message.clone(),
    }
}

/// What an entry holds besides its event's own texts.
pub struct Besides {
    pub at: String,
    pub count: Option<String>,
    /// Of kills: whether the workspace's own limit was the reason.
    pub at_limit: Option<bool>,
    pub level: &'static str,
}

pub fn fields<'a>(event: &'a api::Event, besides: &'a Besides, message: &'a str) -> Vec<(&'static str, &'a str)> {
    let mut fields = vec![
        ("MESSAGE", message),
        ("MESSAGE_ID", MESSAGE_ID),
        ("PRIORITY", besides.level),
        ("SYSLOG_IDENTIFIER", "csm"),
        ("CSM_ID", &event.id),
        ("CSM_AT", &besides.at),
        ("CSM_EVENT", &event.kind),
    ];
    for (key, value) in [
        ("CSM_WORKSPACE", &event.workspace),
        // guard: I8-code
        ("CSM_CODE", &event.code),
        ("CSM_BY", &event.by),
        ("CSM_WHY", &event.why),
        ("CSM_COUNT", &besides.count),
    ] {
        fields.extend(value.as_ref().map(|value| (key, value.as_str())));
    }
    let word = |at_limit| if at_limit { "yes" } else { "no" };
    fields.extend(besides.at_limit.map(|at_limit| ("CSM_AT_LIMIT", word(at_limit))));
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

/// What to ask the journal for kills, ours and systemd's. The kernel counts from the beginning of a run, however long ago
/// that was, so what was told of it has to be known from there.
pub fn oom_query() -> Query {
    let mut query = Query {
        what: "kills for want of memory".to_owned(),
        lines: 10_000,
        ..query(&[DAEMON], None)
    };
    query.matches.push(format!("CSM_EVENT={OOM_KILL}"));
    query.matches.push("+".to_owned());
    // Only PID 1 can say that it is PID 1.
    query
        .matches
        .extend([format!("MESSAGE_ID={SYSTEMDS_OOM}"), "_PID=1".to_owned()]);
    query
}

pub fn oom_of_entry(entry: &Entry) -> Option<(WorkspaceName, Noted)> {
    if let Some(event) = of_entry(entry) {
        let kills = Kills {
            at: entry.get("CSM_AT")?.parse().ok()?,
            number: event.count?,
            at_limit: match entry.get("CSM_AT_LIMIT") {
                Some("yes") => Some(true),
                Some("no") => Some(false),
                _ => None,
            },
        };
        return Some((WorkspaceName::parse(&event.workspace?).ok()?, Noted::Ours(kills)));
    }
    Some((
        unit::workspace_of(entry.get("UNIT")?)?,
        Noted::Systemds { at: entry.at },
    ))
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
        count: own("CSM_COUNT").and_then(|count| count.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn besides(event: &api::Event, at_limit: Option<bool>) -> Besides {
        Besides {
            at: event.id.split('-').next().unwrap().to_owned(),
            count: event.count.map(|count| count.to_string()),
            at_limit,
            level: "6",
        }
    }

    /// As journalctl gives it back.
    fn entry(event: &api::Event, besides: &Besides) -> Entry {
        let message = in_journal(event);
        let json: serde_json::Map<String, serde_json::Value> = fields(event, besides, &message)
            .into_iter()
            .chain([("__REALTIME_TIMESTAMP", "5")])
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
        crate::host::logs::parse(&serde_json::to_string(&json).unwrap()).unwrap()
    }

    fn event(kind: &str, message: &str) -> api::Event {
        api::Event {
            id: "1772366400000000-7".to_owned(),
            at: timestamp(1_772_366_400_000_000),
            kind: kind.to_owned(),
            workspace: Some("dan".to_owned()),
            code: None,
            by: Some("admin".to_owned()),
            why: Some("csm stop by root".to_owned()),
            count: None,
            message: message.to_owned(),
        }
    }

    /// What the journal gives back is what was told.
    #[test]
    fn an_event_survives_the_journal() {
        let event = event("stopped", "stopped: csm stop by root");
        assert_eq!(in_journal(&event), "dan: stopped: csm stop by root");
        assert_eq!(of_entry(&entry(&event, &besides(&event, None))), Some(event));
    }

    #[test]
    fn kills_come_back_with_their_number_and_cause() {
        for at_limit in [None, Some(false), Some(true)] {
            let event = api::Event {
                count: Some(3),
                ..event(OOM_KILL, "the kernel ended 3 processes")
            };
            let kills = Kills {
                at: 1_772_366_400_000_000,
                number: 3,
                at_limit,
            };
            let (name, noted) = oom_of_entry(&entry(&event, &besides(&event, at_limit))).unwrap();
            assert_eq!((name.as_str(), noted), ("dan", Noted::Ours(kills)));
        }
    }

    /// Kills of a run that is older than a day were not among what was told.
    #[test]
    fn kills_are_asked_for_from_the_beginning() {
        assert_eq!(oom_query().since, None);
    }
}
