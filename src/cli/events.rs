//! `csm events`: what happened, one line each, and what happens. A daemon that is restarted meanwhile is waited for, and no
//! event of that time is lost or said twice.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::api::Event;
use crate::cli::client::{Client, Lines};
use crate::cli::error::{CliError, Kind};
use crate::cli::text::{self, BAD, HEAD, Look, printable};
use crate::cli::{Outcome, Screen};
use crate::model::names::WorkspaceName;

/// How long a daemon that was lost on the way, because it is restarted, is looked for.
const RETURN: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(250);
/// Ids of the last events, by which those that come again are known.
const KEPT: usize = 256;
/// More than happens while a daemon is restarted.
const MANY: u32 = 10_000;

pub async fn run(
    client: &Client,
    screen: &Screen,
    name: Option<&WorkspaceName>,
    follow: bool,
    count: u32,
) -> Result<Outcome, CliError> {
    let mut shown = Shown::default();
    let mut path = path(name, follow, count, None);
    // The first answer must come; a daemon that goes after that is expected back.
    let mut heard = None;
    loop {
        let lost = match client.lines(&path).await {
            Ok(mut lines) => {
                heard = Some(Instant::now());
                match shown.all(&mut lines, screen, &mut heard).await? {
                    None if !follow => break,
                    None => lines.ended(),
                    Some(lost) => lost,
                }
            }
            Err(error) => error,
        };
        let expected = |heard: Instant| follow && lost.kind() == Kind::Unreachable && heard.elapsed() < RETURN;
        if !heard.is_some_and(expected) {
            return Err(lost);
        }
        sleep(RETRY).await;
        let since = shown.last.clone().unwrap_or_else(|| screen.look.now.to_string());
        path = self::path(name, follow, MANY, Some(&since));
    }
    if shown.last.is_none() {
        screen.note("Nothing has been noted yet.\n");
    }
    Ok(Outcome::Done)
}

fn path(name: Option<&WorkspaceName>, follow: bool, count: u32, since: Option<&str>) -> String {
    let name = name.map(|name| format!("&workspace={name}")).unwrap_or_default();
    let since = since.map(|at| format!("&since={at}")).unwrap_or_default();
    format!("/v1/events?follow={follow}&lines={count}{name}{since}")
}

/// What was shown already.
#[derive(Default)]
struct Shown {
    ids: VecDeque<String>,
    /// The time of the last event.
    last: Option<String>,
}

impl Shown {
    /// Shows a stream to its end. The answer is what cut it off, if something did.
    async fn all(
        &mut self,
        lines: &mut Lines,
        screen: &Screen,
        heard: &mut Option<Instant>,
    ) -> Result<Option<CliError>, CliError> {
        loop {
            let answer = match lines.next().await {
                Ok(Some(answer)) => answer,
                Ok(None) => return Ok(None),
                Err(error) => return Ok(Some(error)),
            };
            *heard = Some(Instant::now());
            let event: Event = answer.parse()?;
            if self.ids.contains(&event.id) {
                continue;
            }
            screen.print(&if screen.json {
                format!("{}\n", answer.text())
            } else {
                one(&event, screen.look)
            })?;
            if self.ids.len() == KEPT {
                self.ids.pop_front();
            }
            self.ids.push_back(event.id);
            self.last = Some(event.at);
        }
    }
}

fn one(event: &Event, look: Look) -> String {
    let workspace = event
        .workspace
        .as_ref()
        .map(|name| format!("{} ", look.paint(HEAD, &printable(name))))
        .unwrap_or_default();
    let message = printable(&event.message);
    let message = match &event.code {
        Some(code) => look.paint(BAD, &format!("{message} ({})", printable(code))),
        None => message.into_owned(),
    };
    format!("{} {workspace}{message}\n", text::clock(&event.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let look = Look {
            colour: false,
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let event = |workspace: Option<&str>, code: Option<&str>, message: &str| Event {
            id: "1-1".into(),
            at: "2026-03-01T12:00:00.000001Z".into(),
            kind: "x".into(),
            workspace: workspace.map(str::to_owned),
            code: code.map(str::to_owned),
            by: None,
            why: None,
            count: None,
            message: message.into(),
        };
        for (event, line) in [
            (
                event(Some("dan"), None, "stopped: csm stop by root"),
                "2026-03-01 12:00:00Z dan stopped: csm stop by root\n",
            ),
            (
                event(Some("dan"), Some("account-missing"), "blocked: there is no account"),
                "2026-03-01 12:00:00Z dan blocked: there is no account (account-missing)\n",
            ),
            (
                event(None, None, "the daemon started\u{1b}[2J"),
                "2026-03-01 12:00:00Z the daemon started\\u{1b}[2J\n",
            ),
        ] {
            assert_eq!(one(&event, look), line);
        }
    }
}
