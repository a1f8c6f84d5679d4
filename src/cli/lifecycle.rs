//! `csm start`, `stop`, `restart`: ask, then follow each workspace until the daemon's last word about it.
//! Several names are worked on at once; one that fails does not hold up the others.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::api::{State, WorkspaceStatus};
use crate::cli::absence::Absence;
use crate::cli::client::{Answer, Client};
use crate::cli::error::{CliError, Kind};
use crate::cli::text::{Look, finding, printable};
use crate::cli::{Outcome, Screen};
use crate::model::names::WorkspaceName;

/// Code of what is said of a start that takes its time.
const SLOW: &str = "editor-slow";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Start,
    Stop,
    Restart,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }

    fn judge(self, status: &WorkspaceStatus) -> Verdict {
        if status.busy {
            return Verdict::Wait;
        }
        match (self, status.state) {
            (Self::Start | Self::Restart, State::Ready) | (Self::Stop, State::Stopped | State::Disabled) => {
                Verdict::Reached
            }
            // Whatever blocks it, nothing of it runs.
            (Self::Stop, State::Blocked) if status.main_pid.is_none() => Verdict::Reached,
            // Whoever froze it has to thaw it; the daemon does not. To stop it systemd does.
            (Self::Stop, State::Suspended) => Verdict::Wait,
            (_, State::Failed | State::Blocked | State::Disabled | State::Suspended) => Verdict::Missed,
            _ => Verdict::Wait,
        }
    }

    /// Whether to ask again after this. To start or to stop twice is the same as once, but a second restart would end what
    /// the first one started: it is asked for again only if nobody was there to hear it.
    fn may_repeat(self, error: &CliError) -> bool {
        match error {
            CliError::Unreachable { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                )
            }
            CliError::Lost { .. } => self != Self::Restart,
            _ => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Wait,
    Reached,
    Missed,
}

pub async fn run(
    client: &Client,
    screen: &Screen,
    action: Action,
    mut names: Vec<WorkspaceName>,
    seconds: u64,
) -> Result<Outcome, CliError> {
    names.sort();
    names.dedup();
    let progress = Progress::new(screen, action, &names, seconds);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut running: FuturesUnordered<_> = names
        .iter()
        .map(|name| {
            let result = follow(client, &progress, action, name, deadline);
            async move { (name, result.await) }
        })
        .collect();
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut outcome = Outcome::Done;
    let mut errors = Vec::new();
    loop {
        let next = tokio::select! {
            next = running.next() => next,
            _ = tick.tick() => {
                progress.draw();
                continue;
            }
        };
        progress.clear();
        match next {
            None => break,
            Some((name, Ok(end))) => {
                if !report(screen, action, name, &end, seconds)? {
                    outcome = Outcome::Failed;
                }
            }
            Some((name, Err(error))) => errors.push((name, error)),
        }
    }
    // What is true of all is said once, and keeps its exit code.
    if names.len() == 1
        || errors
            .iter()
            .filter(|(_, error)| error.kind() == Kind::Unreachable)
            .count()
            == names.len()
    {
        if let Some((_, error)) = errors.into_iter().next() {
            return Err(error);
        }
        return Ok(outcome);
    }
    for (name, error) in &errors {
        outcome = Outcome::Failed;
        screen.note(&format!("{name}: {}", error.report()));
    }
    Ok(outcome)
}

/// The last thing heard of a workspace.
struct End {
    answer: Answer,
    status: WorkspaceStatus,
    verdict: Verdict,
}

async fn follow(
    client: &Client,
    progress: &Progress<'_>,
    action: Action,
    name: &WorkspaceName,
    deadline: Instant,
) -> Result<End, CliError> {
    let mut absence = Absence::default();
    let path = format!("/v1/workspaces/{name}/{}", action.word());
    let answer = loop {
        match client.post(&path).await {
            Ok(answer) => break answer,
            Err(error) if action.may_repeat(&error) && Instant::now() < deadline => {
                absence.wait(error, |text| progress.say(text)).await?;
            }
            Err(error) => return Err(error),
        }
    };
    absence.is_over();
    let mut end = judged(answer, action)?;
    progress.saw(name, &end.status);
    let path = format!("/v1/workspaces/{name}/follow");
    while end.verdict == Verdict::Wait {
        let Ok(lines) = timeout_at(deadline, client.lines(&path, true)).await else {
            break;
        };
        let lost = match lines {
            Err(error) => error,
            Ok(mut lines) => loop {
                match timeout_at(deadline, lines.next()).await {
                    Err(_) => return Ok(end),
                    Ok(Ok(Some(answer))) => {
                        absence.is_over();
                        end = judged(answer, action)?;
                        progress.saw(name, &end.status);
                        if end.verdict != Verdict::Wait {
                            return Ok(end);
                        }
                    }
                    Ok(Ok(None)) => break lines.ended(),
                    Ok(Err(error)) => break error,
                }
            },
        };
        // What was asked is on the daemon's disk, so a new daemon goes on with it.
        absence.wait(lost, |text| progress.say(text)).await?;
    }
    Ok(end)
}

fn judged(answer: Answer, action: Action) -> Result<End, CliError> {
    let status: WorkspaceStatus = answer.parse()?;
    let verdict = action.judge(&status);
    Ok(End {
        answer,
        status,
        verdict,
    })
}

/// Says how it ended; whether that is what was asked for.
fn report(screen: &Screen, action: Action, name: &WorkspaceName, end: &End, seconds: u64) -> Result<bool, CliError> {
    if screen.json {
        screen.print(&format!("{}\n", end.answer.text()))?;
    }
    let state = screen.look.state(end.status.state);
    match end.verdict {
        Verdict::Reached if screen.json => {}
        Verdict::Reached if action == Action::Stop => screen.print(&format!("{name} is {state}\n"))?,
        Verdict::Reached => {
            screen.print(&format!("{name} is {state} at {}\n", printable(&end.status.url)))?;
        }
        Verdict::Missed => screen.note(&missed(&end.status, screen.look)),
        Verdict::Wait => {
            let found: String = end.status.findings.iter().map(|one| finding(one, "  ")).collect();
            screen.note(&format!(
                "csm: {name} is still {state} after {seconds} s\n{found}Hint: the daemon goes on with it; see: csm status {name}, csm logs {name}\n"
            ));
        }
    }
    Ok(end.verdict == Verdict::Reached)
}

fn missed(status: &WorkspaceStatus, look: Look) -> String {
    let found: String = status.findings.iter().map(|one| finding(one, "  ")).collect();
    let next = match status.state {
        // Nobody tells the daemon of a thaw: it looks when it is asked.
        State::Suspended => format!(
            "Hint: its unit is frozen: systemctl thaw {}, then csm start {}\n",
            printable(&status.unit),
            printable(&status.name)
        ),
        State::Disabled => {
            "Hint: set enabled = true in its table of the configuration, then run: csm reload\n".to_owned()
        }
        _ if found.is_empty() => format!("Hint: see why: csm logs {}\n", printable(&status.name)),
        _ => String::new(),
    };
    format!(
        "csm: {} is {}\n{found}{next}",
        printable(&status.name),
        look.state(status.state)
    )
}

/// What is going on meanwhile: one line rewritten on a terminal, else one line a state.
struct Progress<'a> {
    screen: &'a Screen,
    action: Action,
    began: Instant,
    seconds: u64,
    states: RefCell<Vec<(WorkspaceName, Option<State>)>>,
    /// Of each slow one, what was last said.
    slow: RefCell<BTreeMap<WorkspaceName, String>>,
    said: Cell<bool>,
}

impl<'a> Progress<'a> {
    fn new(screen: &'a Screen, action: Action, names: &[WorkspaceName], seconds: u64) -> Self {
        let states = names.iter().map(|name| (name.clone(), None)).collect();
        Self {
            screen,
            action,
            began: Instant::now(),
            seconds,
            slow: RefCell::default(),
            states: RefCell::new(states),
            said: Cell::new(false),
        }
    }

    fn saw(&self, name: &WorkspaceName, status: &WorkspaceStatus) {
        self.saw_state(name, status.state);
        // Whoever stops it waits for no start.
        let slow = status.findings.iter().find(|one| one.code == SLOW);
        if let Some(slow) = slow.filter(|_| self.action != Action::Stop) {
            self.saw_slow(name, &slow.message);
        }
    }

    /// Whoever waits longer than usual hears why, and how long this goes on.
    fn saw_slow(&self, name: &WorkspaceName, message: &str) {
        let before = self.slow.borrow_mut().insert(name.clone(), message.to_owned());
        if self.screen.json || before.as_deref() == Some(message) {
            return;
        }
        self.clear();
        let (message, seconds) = (printable(message), self.seconds);
        self.screen
            .note(&format!("{name}: {message}; it is waited for, {seconds} s at most\n"));
        self.draw();
    }

    fn saw_state(&self, name: &WorkspaceName, state: State) {
        let mut states = self.states.borrow_mut();
        let Some((_, known)) = states.iter_mut().find(|(known, _)| known == name) else {
            return;
        };
        if known.replace(state) == Some(state) {
            return;
        }
        drop(states);
        if self.screen.width.is_some() {
            self.draw();
        } else if !self.screen.json {
            self.screen.note(&format!("{name}: {}\n", state.word()));
        }
    }

    fn draw(&self) {
        let Some(width) = self.screen.width.filter(|_| !self.screen.json) else {
            return;
        };
        let line = line(&self.states.borrow(), self.began.elapsed().as_secs());
        // A line that wraps can't be rewritten.
        let line: String = line.chars().take(width.saturating_sub(1)).collect();
        self.screen.note(&format!("\r\u{1b}[K{line}"));
    }

    /// Something that all of them wait for, so it is said once.
    fn say(&self, text: &str) {
        if !self.said.replace(true) {
            self.clear();
            self.screen.note(text);
            self.draw();
        }
    }

    fn clear(&self) {
        if self.screen.width.is_some() && !self.screen.json {
            self.screen.note("\r\u{1b}[K");
        }
    }
}

fn line(states: &[(WorkspaceName, Option<State>)], seconds: u64) -> String {
    let parts: Vec<String> = states
        .iter()
        .map(|(name, state)| format!("{name} {}", state.map_or("...", State::word)))
        .collect();
    format!("{seconds} s: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{IntentStatus, LimitsStatus};

    fn status(state: State, busy: bool, main_pid: Option<u32>) -> WorkspaceStatus {
        WorkspaceStatus {
            name: "dan".into(),
            url: String::new(),
            state,
            busy,
            since: String::new(),
            account: String::new(),
            unit: String::new(),
            findings: Vec::new(),
            pending: Vec::new(),
            intent: IntentStatus {
                running: true,
                by: "admin".into(),
                why: String::new(),
                at: None,
            },
            limits: LimitsStatus {
                memory_max: 0,
                memory_high: 0,
                memory_low: 0,
                cpu_quota_usec: 0,
                cpu_weight: 0,
                tasks_max: 0,
            },
            image: None,
            main_pid,
            memory_bytes: None,
        }
    }

    #[test]
    fn the_daemons_last_word_decides() {
        use Action::{Restart, Start, Stop};
        for (action, state, busy, pid, verdict) in [
            (Start, State::Ready, false, Some(1), Verdict::Reached),
            (Start, State::Failed, true, None, Verdict::Wait),
            (Start, State::Failed, false, None, Verdict::Missed),
            (Start, State::Blocked, false, None, Verdict::Missed),
            (Start, State::Disabled, false, None, Verdict::Missed),
            (Start, State::Starting, false, None, Verdict::Wait),
            (Start, State::Suspended, true, Some(1), Verdict::Wait),
            (Start, State::Suspended, false, Some(1), Verdict::Missed),
            (Restart, State::Suspended, false, Some(1), Verdict::Missed),
            (Stop, State::Suspended, false, Some(1), Verdict::Wait),
            (Restart, State::Ready, true, Some(1), Verdict::Wait),
            (Restart, State::Ready, false, Some(2), Verdict::Reached),
            (Stop, State::Stopping, false, Some(1), Verdict::Wait),
            (Stop, State::Stopped, false, None, Verdict::Reached),
            (Stop, State::Stopped, true, None, Verdict::Wait),
            (Stop, State::Disabled, false, None, Verdict::Reached),
            (Stop, State::Blocked, false, None, Verdict::Reached),
            (Stop, State::Blocked, false, Some(1), Verdict::Missed),
            (Stop, State::Failed, false, None, Verdict::Missed),
        ] {
            assert_eq!(
                action.judge(&status(state, busy, pid)),
                verdict,
                "{action:?} {state:?} busy={busy}"
            );
        }
    }

    #[test]
    fn who_is_frozen_by_hand_is_thawed_by_hand() {
        let mut status = status(State::Suspended, false, Some(1));
        status.unit = "csm-dan.service".to_owned();
        let look = Look {
            colour: false,
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        assert_eq!(
            missed(&status, look),
            "csm: dan is suspended\nHint: its unit is frozen: systemctl thaw csm-dan.service, then csm start dan\n"
        );
    }

    #[test]
    fn only_what_changes_nothing_is_asked_twice() {
        use Action::{Restart, Start, Stop};
        let unreachable = |kind: io::ErrorKind| CliError::Unreachable {
            socket: "/run/admin.sock".into(),
            source: kind.into(),
        };
        let lost = || CliError::Lost {
            doing: "POST".to_owned(),
            source: "the connection was closed".into(),
        };
        for (error, of_start, of_restart) in [
            (unreachable(io::ErrorKind::NotFound), true, true),
            (unreachable(io::ErrorKind::ConnectionRefused), true, true),
            (unreachable(io::ErrorKind::PermissionDenied), false, false),
            (lost(), true, false),
            (CliError::Ended(2), false, false),
        ] {
            assert_eq!(Start.may_repeat(&error), of_start, "{error:?}");
            assert_eq!(Stop.may_repeat(&error), of_start, "{error:?}");
            assert_eq!(Restart.may_repeat(&error), of_restart, "{error:?}");
        }
    }

    #[test]
    fn the_line_of_progress_names_everyone() {
        let name = |text| WorkspaceName::parse(text).unwrap();
        let states = [(name("alice"), Some(State::Ready)), (name("dan"), None)];
        assert_eq!(line(&states, 3), "3 s: alice ready, dan ...");
    }
}
