//! Events in the journal: what is written, what to ask for, and what comes back.

use crate::api;
use crate::host::logs::{Entry, Query};
use crate::model::names::WorkspaceName;
use crate::model::oom::{DAY, Kills, Noted};
use crate::model::unit;
use crate::serve::events::{OOM_KILL, microseconds, timestamp};

/// Marks our events in the journal (systemd.journal-fields(7)); `journalctl MESSAGE_ID=...` shows them too.
pub const MESSAGE_ID: &str = "5cd51dd1ace71b939aec616a49da436a";

/// systemd's "A process of this unit has been killed by the OOM killer." (sd-messages(3)).
const SYSTEMDS_OOM: &str = "fe6faa94e7774663a0da52717891d8ef";

/// Who may tell events: the journal knows by itself which unit an entry came from.
pub const DAEMON: &str = "code-server-multi.service";
pub const GATEWAY: &str = "code-server-multi-gateway.service";

const FIELDS: [&str; 9] = [
    "CSM_ID",
    "CSM_AT",
    "CSM_EVENT",
    "CSM_WORKSPACE",
    "CSM_CODE",
    "CSM_BY",
    "CSM_WHY",
    "CSM_COUNT",
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

pub fn fields<'a>(
    event: &'a api::Event,
    (at, count): (&'a str, &'a Option<String>),
    message: &'a str,
    level: &'a str,
) -> Vec<(&'static str, &'a str)> {
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
        ("CSM_COUNT", count),
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

/// What to ask the journal for kills of the last day, ours and systemd's.
pub fn oom_query() -> Query {
    let mut query = Query {
        what: "kills for want of memory".to_owned(),
        lines: 10_000,
        since: Some(microseconds() - DAY),
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
            at_limit: event.why.is_some_and(|why| why.starts_with("memory_limit")),
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

    /// What the journal gives back is what was told.
    #[test]
    fn an_event_survives_the_journal() {
        let event = api::Event {
            id: "1772366400000000-7".to_owned(),
            at: timestamp(1_772_366_400_000_000),
            kind: "stopped".to_owned(),
            workspace: Some("dan".to_owned()),
            code: None,
            by: Some("admin".to_owned()),
            why: Some("csm stop by root".to_owned()),
            count: None,
            message: "stopped: csm stop by root".to_owned(),
        };
        let (at, message) = (event.id.split('-').next().unwrap().to_owned(), in_journal(&event));
        assert_eq!(message, "dan: stopped: csm stop by root");
        let fields = fields(&event, (&at, &None), &message, "6");
        let json: serde_json::Map<String, serde_json::Value> = fields
            .into_iter()
            .chain([("__REALTIME_TIMESTAMP", "5")])
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
        let entry = crate::host::logs::parse(&serde_json::to_string(&json).unwrap()).unwrap();
        assert_eq!(of_entry(&entry), Some(event));
    }
}
