//! The journal, read by journalctl(1) in a unit of its own under a passing account: the daemon forks nothing and needs no
//! right to the journal.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe::Receiver;

use crate::host::systemd::{Systemd, SystemdError, number};
use crate::model::systemd::{UnitSpec, Value, exec};

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("journalctl is not on the daemon's PATH")]
    NoJournalctl,
    #[error("can't make a pipe to journalctl")]
    Pipe(#[source] std::io::Error),
    #[error(transparent)]
    Systemd(#[from] SystemdError),
}

/// One entry of the journal: the fields that were asked for. Control characters are escaped, so that no workspace steers
/// the reader's terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// When journald took it in: microseconds since 1970.
    pub at: i64,
    fields: BTreeMap<String, String>,
}

impl Entry {
    /// Nothing where the entry lacks the field.
    pub fn get(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(String::as_str)
    }

    pub fn message(&self) -> &str {
        self.get("MESSAGE").unwrap_or_default()
    }
}

/// Which entries.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// What is read, for the unit's Description.
    pub what: String,
    /// journalctl's matches, or its `--unit=`.
    pub matches: Vec<String>,
    /// Besides the message.
    pub fields: &'static [&'static str],
    /// At most so many old ones.
    pub lines: u32,
    /// Microseconds since 1970.
    pub since: Option<i64>,
    /// Go on with those that come.
    pub follow: bool,
}

impl Query {
    /// What a unit wrote, and systemd about it.
    pub fn of_unit(unit: &str, lines: u32, follow: bool) -> Self {
        Self {
            what: unit.to_owned(),
            matches: vec![format!("--unit={unit}")],
            fields: &["SYSLOG_IDENTIFIER"],
            lines,
            since: None,
            follow,
        }
    }
}

/// An open log. When it is dropped the pipe breaks, which ends journalctl (it polls its output while it follows).
pub struct Log {
    lines: tokio::io::Lines<BufReader<Receiver>>,
}

/// Opens the journal. journalctl is looked for on `path`.
pub async fn open(systemd: &Systemd, path: &str, query: &Query) -> Result<Log, LogError> {
    let journalctl = find("journalctl", path).ok_or(LogError::NoJournalctl)?;
    let mut arguments: Vec<String> = ["--output=json", "--no-pager", "--quiet", "--all"]
        .map(str::to_owned)
        .to_vec();
    arguments.push(format!("--output-fields=MESSAGE,{}", query.fields.join(",")));
    arguments.push(format!("--lines={}", query.lines));
    if let Some(since) = query.since {
        arguments.push(format!("--since=@{}.{:06}", since / 1_000_000, since % 1_000_000));
    }
    if query.follow {
        arguments.push("--follow".to_owned());
    }
    arguments.extend(query.matches.iter().cloned());
    let spec = UnitSpec {
        name: format!("code-server-multi-logs-{}.service", number()),
        properties: vec![
            (
                "Description",
                Value::Text(format!("code-server-multi log of {}", query.what)),
            ),
            ("Type", Value::Text("exec".to_owned())),
            ("DynamicUser", Value::Bool(true)),
            ("SupplementaryGroups", Value::Texts(vec!["systemd-journal".to_owned()])),
            ("PrivateNetwork", Value::Bool(true)),
            ("WorkingDirectory", Value::Text("/".to_owned())),
            ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
            ("ExecStart", Value::Execs(vec![exec(&journalctl, arguments)])),
        ],
    };
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|errno| LogError::Pipe(errno.into()))?;
    let reader = Receiver::from_owned_fd(reader).map_err(LogError::Pipe)?;
    systemd
        .start(
            &spec,
            vec![("StandardOutputFileDescriptor", writer)],
            Duration::from_secs(15),
        )
        .await?;
    Ok(Log {
        lines: BufReader::new(reader).lines(),
    })
}

impl Log {
    /// The next entry; nothing at the end.
    pub async fn next(&mut self) -> Option<Entry> {
        loop {
            let line = self.lines.next_line().await.ok()??;
            if let Some(entry) = parse(&line) {
                return Some(entry);
            }
        }
    }
}

/// One line of `journalctl --output=json` (systemd.journal-fields(7)); what is no UTF-8 comes as numbers.
pub fn parse(line: &str) -> Option<Entry> {
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).ok()?;
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Some(escape(text)),
        serde_json::Value::Array(bytes) => {
            let bytes: Vec<u8> = bytes
                .iter()
                .filter_map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()))
                .collect();
            Some(escape(&String::from_utf8_lossy(&bytes)))
        }
        _ => None,
    };
    let at = fields.get("__REALTIME_TIMESTAMP")?.as_str()?.parse().ok()?;
    let fields: BTreeMap<String, String> = fields
        .iter()
        .filter(|(key, _)| !key.starts_with("__"))
        .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
        .collect();
    fields.contains_key("MESSAGE").then_some(Entry { at, fields })
}

/// Shows control characters instead of letting a workspace steer the reader's terminal.
fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\t' {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// A program on a PATH, as exec(3) finds it.
pub fn find(program: &str, path: &str) -> Option<String> {
    path.split(':')
        .map(|directory| format!("{directory}/{program}"))
        .find(|candidate| std::fs::metadata(candidate).is_ok_and(|metadata| metadata.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_cannot_steer_the_terminal() {
        let line = r#"{"__REALTIME_TIMESTAMP":"5","SYSLOG_IDENTIFIER":"x","MESSAGE":"a\u001b[2Jb\tc\r"}"#;
        assert_eq!(parse(line).as_ref().map(Entry::message), Some("a\\u{1b}[2Jb\tc\\r"));
    }

    #[test]
    fn bytes_that_are_no_text_are_shown() {
        let line = r#"{"__REALTIME_TIMESTAMP":"5","MESSAGE":[104,105,255]}"#;
        assert_eq!(parse(line).as_ref().map(Entry::message), Some("hi\u{fffd}"));
    }
}
