//! The journal, read by journalctl(1) in a unit of its own under a passing account: the daemon forks nothing and needs no
//! right to the journal.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

use crate::host::systemd::{Systemd, SystemdError, number};
use crate::model::systemd::{ANY_LINE, UnitSpec, Value, exec};

/// How long systemd may take to start journalctl.
const START: Duration = Duration::from_secs(15);
/// How long a reader may take for what there is.
const LONGEST: Duration = Duration::from_secs(3600);

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

    /// The same of a unit that writes to a namespace of journald's; systemd doesn't.
    pub fn of_unit_in(namespace: &str, unit: &str, lines: u32, follow: bool) -> Self {
        let mut query = Self::of_unit(unit, lines, follow);
        query.matches.push(format!("--namespace=+{namespace}"));
        query
    }
}

/// An open log. When it is dropped the pipe breaks, which ends journalctl (it polls its output while it follows).
pub struct Log {
    lines: tokio::io::Lines<BufReader<Receiver>>,
    /// How journalctl ends; nothing of one that follows.
    job: Option<Ending>,
}

type Ending = Pin<Box<dyn Future<Output = Result<(), SystemdError>> + Send>>;

/// Opens the journal. journalctl is looked for on `path`.
pub async fn open(systemd: &Arc<Systemd>, path: &str, query: &Query) -> Result<Log, LogError> {
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
    let kind = if query.follow { "exec" } else { "oneshot" };
    let spec = UnitSpec {
        name: format!("code-server-multi-logs-{}.service", number()),
        properties: vec![
            (
                "Description",
                Value::Text(format!("code-server-multi log of {}", query.what)),
            ),
            // The job of a oneshot ends with its process and says how: a journal that can't be read is not an empty one.
            ("Type", Value::Text(kind.to_owned())),
            ("DynamicUser", Value::Bool(true)),
            ("SupplementaryGroups", Value::Texts(vec!["systemd-journal".to_owned()])),
            ("PrivateNetwork", Value::Bool(true)),
            ("WorkingDirectory", Value::Text("/".to_owned())),
            ANY_LINE,
            ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
            ("ExecStart", Value::Execs(vec![exec(&journalctl, arguments)])),
        ],
    };
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|errno| LogError::Pipe(errno.into()))?;
    let reader = Receiver::from_owned_fd(reader).map_err(LogError::Pipe)?;
    let lines = BufReader::new(reader).lines();
    let output = vec![("StandardOutputFileDescriptor", writer)];
    if query.follow {
        systemd.start(&spec, output, START).await?;
        return Ok(Log { lines, job: None });
    }
    let (begun, has_begun) = oneshot::channel();
    let systemd = systemd.clone();
    let mut job: Ending = Box::pin(async move {
        let job = systemd.begin(&spec, output).await?;
        // Nobody who waits for it is no error.
        let _ = begun.send(());
        job.ended(LONGEST).await
    });
    tokio::select! {
        ended = &mut job => {
            ended?;
            // Before anybody waited for it: what it printed is in the pipe.
            job = Box::pin(std::future::ready(Ok(())));
        }
        _ = has_begun => {}
    }
    Ok(Log { lines, job: Some(job) })
}

impl Log {
    /// The next entry; nothing at the end, unless journalctl failed.
    pub async fn next(&mut self) -> Result<Option<Entry>, LogError> {
        loop {
            let line = match &mut self.job {
                // It is not over before all of it was read.
                Some(job) => tokio::select! {
                    ended = job => {
                        self.job = Some(Box::pin(std::future::ready(ended)));
                        self.lines.next_line().await
                    }
                    line = self.lines.next_line() => line,
                },
                None => self.lines.next_line().await,
            };
            let Some(line) = line.map_err(LogError::Pipe)? else {
                if let Some(job) = self.job.take() {
                    job.await?;
                }
                return Ok(None);
            };
            if let Some(entry) = parse(&line) {
                return Ok(Some(entry));
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

    /// What journalctl printed before it ended as `ended`, and what a reader gets of it.
    async fn read(printed: &str, ended: Result<(), SystemdError>) -> (usize, Result<(), LogError>) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        std::io::Write::write_all(&mut std::fs::File::from(writer), printed.as_bytes()).unwrap();
        let mut log = Log {
            lines: BufReader::new(Receiver::from_owned_fd(reader).unwrap()).lines(),
            job: Some(Box::pin(std::future::ready(ended))),
        };
        let mut entries = 0;
        loop {
            match log.next().await {
                Ok(Some(_)) => entries += 1,
                Ok(None) => return (entries, Ok(())),
                Err(error) => return (entries, Err(error)),
            }
        }
    }

    /// It looked like a journal in which nothing had happened.
    #[tokio::test]
    async fn a_journal_that_can_not_be_read_is_not_an_empty_one() {
        let line = "{\"__REALTIME_TIMESTAMP\":\"5\",\"MESSAGE\":\"hi\"}\n";
        for printed in [String::new(), line.repeat(3)] {
            let lines = printed.lines().count();
            let (entries, ended) = read(&printed, Ok(())).await;
            assert!(ended.is_ok());
            assert_eq!(entries, lines);
            let failed = SystemdError::Job {
                unit: "code-server-multi-logs-1.service".to_owned(),
                result: "failed".to_owned(),
            };
            let (entries, ended) = read(&printed, Err(failed)).await;
            assert!(
                matches!(ended, Err(LogError::Systemd(SystemdError::Job { .. }))),
                "{ended:?}"
            );
            assert_eq!(entries, lines, "what was read before is not lost");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_shown() {
        let line = r#"{"__REALTIME_TIMESTAMP":"5","MESSAGE":[104,105,255]}"#;
        assert_eq!(parse(line).as_ref().map(Entry::message), Some("hi\u{fffd}"));
    }
}
