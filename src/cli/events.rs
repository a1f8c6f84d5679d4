//! `csm events`: what happened, one line each, and what happens. A daemon that is restarted meanwhile is waited for, and no
//! event of that time is lost or said twice.

use std::collections::VecDeque;

use crate::api::Event;
use crate::cli::absence::Absence;
use crate::cli::client::{Client, Lines};
use crate::cli::error::CliError;
use crate::cli::text::{self, BAD, HEAD, Look, printable};
use crate::cli::{Outcome, Screen};
use crate::model::names::WorkspaceName;

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
    // The first answer must come; a daemon that goes after that is expected back.
    let mut absence = Absence::default();
    let mut lines = client.lines(&path(name, follow, count, None), follow).await?;
    loop {
        absence.is_streaming();
        let mut lost = match shown.all(&mut lines, screen, &mut absence).await? {
            None if !follow => break,
            None => lines.ended(),
            Some(lost) => lost,
        };
        if !follow {
            return Err(lost);
        }
        let since = shown.last.clone().unwrap_or_else(|| screen.look.now.to_string());
        let path = path(name, follow, MANY, Some(&since));
        lines = loop {
            absence.wait(lost, |text| screen.note(text)).await?;
            match client.lines(&path, follow).await {
                Ok(lines) => break lines,
                Err(error) => lost = error,
            }
        };
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
        absence: &mut Absence,
    ) -> Result<Option<CliError>, CliError> {
        loop {
            let answer = match lines.next().await {
                Ok(Some(answer)) => answer,
                Ok(None) => return Ok(None),
                Err(error) => return Ok(Some(error)),
            };
            let event: Event = answer.parse()?;
            if self.ids.contains(&event.id) {
                continue;
            }
            absence.is_over();
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
