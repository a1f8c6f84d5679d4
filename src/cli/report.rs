//! The small answers: plan, reload, logs, test, version.

use serde_json::json;

use crate::api::{LogLine, Plan, Reloaded, TestReport, VERSION, Version};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::text::{self, BAD, GOOD, HEAD, Look, printable};
use crate::cli::{Outcome, Screen};
use crate::model::names::WorkspaceName;

const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

pub fn plan(plan: &Plan, look: Look) -> String {
    let mut text = String::new();
    let mut steps = |title: &str, steps: &[String]| {
        if !steps.is_empty() {
            text.push_str(&format!("{}\n", look.paint(HEAD, &printable(title))));
            text.extend(steps.iter().map(|step| format!("  {}\n", printable(step))));
        }
    };
    steps("For all workspaces", &plan.host);
    for (name, of_one) in &plan.workspaces {
        steps(name, of_one);
    }
    if text.is_empty() {
        text.push_str("Nothing to do: everything is as configured.\n");
    }
    for (name, parts) in plan.pending.iter().filter(|(_, parts)| !parts.is_empty()) {
        let (name, parts) = (printable(name), printable(&parts.join(", ")).into_owned());
        text.push_str(&format!("Pending for {name}: {parts} (apply it: csm restart {name})\n"));
    }
    text
}

pub fn reloaded(reloaded: &Reloaded, _: Look) -> String {
    if reloaded.changed {
        "The new configuration is in force and being applied.\nHint: see what it changes: csm plan\n".to_owned()
    } else {
        "Nothing in the configuration has changed.\n".to_owned()
    }
}

pub fn test(report: &TestReport, look: Look) -> String {
    if report.checks.is_empty() {
        return "Nothing was checked.\nHint: compare the two versions: csm version\n".to_owned();
    }
    let rows: Vec<Vec<String>> = report
        .checks
        .iter()
        .map(|check| {
            let verdict = if check.ok {
                look.paint(GOOD, "ok")
            } else {
                look.paint(BAD, "fail")
            };
            vec![
                verdict,
                printable(&check.name).into_owned(),
                printable(&check.detail).into_owned(),
            ]
        })
        .collect();
    text::table(&rows)
}

pub async fn logs(
    client: &Client,
    screen: &Screen,
    name: &WorkspaceName,
    follow: bool,
    count: u32,
) -> Result<Outcome, CliError> {
    let mut lines = client
        .lines(
            &format!("/v1/workspaces/{name}/logs?follow={follow}&lines={count}"),
            follow,
        )
        .await?;
    let mut any = false;
    while let Some(answer) = lines.next().await? {
        any = true;
        screen.print(&if screen.json {
            format!("{}\n", answer.text())
        } else {
            log_line(&answer.parse()?)
        })?;
    }
    if follow {
        return Err(lines.ended());
    }
    if !any {
        screen.note(&format!(
            "{name} has written nothing yet.\nHint: see whether it runs: csm status {name}\n"
        ));
    }
    Ok(Outcome::Done)
}

fn log_line(line: &LogLine) -> String {
    let at = text::clock(&line.at);
    // Tabs are columns in what programs write, and move nothing but the cursor.
    let parts: Vec<_> = line.message.split('\t').map(printable).collect();
    format!("{at} {}: {}\n", printable(&line.from), parts.join("\t"))
}

/// Both versions; the daemon's is an error when it can't be asked, but this program's is said first.
pub async fn version(client: &Client, screen: &Screen) -> Result<Outcome, CliError> {
    let answer = client
        .get("/v1/version")
        .await
        .and_then(|answer| answer.parse::<Version>());
    if screen.json {
        let daemon = answer.as_ref().ok();
        screen.print(&format!(
            "{}\n",
            json!({ "csm": OWN_VERSION, "api": VERSION, "daemon": daemon })
        ))?;
    } else {
        screen.print(&format!("csm     {OWN_VERSION}\n"))?;
    }
    let daemon = answer?;
    if !screen.json {
        screen.print(&format!("daemon  {}\n", printable(&daemon.version)))?;
    }
    if daemon.version != OWN_VERSION {
        screen.note("Hint: the daemon is of another version; workspaces go on while it restarts: systemctl restart code-server-multi\n");
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Check;

    fn look() -> Look {
        Look {
            colour: false,
            now: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_plan_lists_steps_and_what_waits() {
        let full = Plan {
            api: VERSION,
            host: vec!["load the image from /srv/image.tar".into()],
            workspaces: [
                ("dan".to_owned(), vec!["start csm-dan.service".to_owned()]),
                ("eve".to_owned(), vec![]),
            ]
            .into(),
            pending: [("alice".to_owned(), vec!["image".to_owned(), "environment".to_owned()])].into(),
        };
        insta::assert_snapshot!(plan(&full, look()), @"
        For all workspaces
          load the image from /srv/image.tar
        dan
          start csm-dan.service
        Pending for alice: image, environment (apply it: csm restart alice)
        ");
        let empty = Plan {
            host: vec![],
            workspaces: [].into(),
            pending: [].into(),
            ..full
        };
        insta::assert_snapshot!(plan(&empty, look()), @"Nothing to do: everything is as configured.");
    }

    #[test]
    fn a_test_report_is_a_line_a_check() {
        let check = |name: &str, ok, detail: &str| Check {
            name: name.into(),
            ok,
            detail: detail.into(),
        };
        let report = TestReport {
            checks: vec![
                check("node", true, "v24.1.0"),
                check("websocket", false, "HTTP 403\u{1b}[2J"),
            ],
        };
        insta::assert_snapshot!(test(&report, look()), @r"
        ok    node       v24.1.0
        fail  websocket  HTTP 403\u{1b}[2J
        ");
    }

    #[test]
    fn log_lines_show_time_and_origin() {
        for (message, shown) in [("up\u{1b}[31m", "up\\u{1b}[31m"), ("PID\tTTY\r\t", "PID\tTTY\\r\t")] {
            let line = LogLine {
                at: "2026-03-01T12:00:00.123456Z".into(),
                from: "podman".into(),
                message: message.into(),
            };
            assert_eq!(log_line(&line), format!("2026-03-01 12:00:00Z podman: {shown}\n"));
        }
    }
}
