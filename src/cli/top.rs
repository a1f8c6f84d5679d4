//! `csm top`: what each workspace uses. On a terminal a table that is drawn anew every two seconds, else one table.
//!
//! Processor time comes as a counter, and two answers make a share: the daemon keeps nothing and does nothing while nobody
//! looks, and each who looks takes their own time.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Fuse, FusedFuture as _};
use futures_util::stream::{self, LocalBoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::api::{DiskUse, Usage, WorkspaceUsage};
use crate::cli::absence::Absence;
use crate::cli::client::{Answer, Client};
use crate::cli::error::CliError;
use crate::cli::text::{self, BAD, HEAD, Look, WAIT, count, printable};
use crate::cli::window::{Key, Window};
use crate::cli::{Outcome, Screen};
use crate::model::names::WorkspaceName;
use crate::model::size::{format_bytes_rounded, format_cores};

const EVERY: Duration = Duration::from_secs(2);
/// Between the two answers where only one table is shown.
const APART: Duration = Duration::from_secs(1);
/// The host does not count it, or not yet.
const UNKNOWN: &str = "n/a";
/// There is nothing to count.
const NOTHING: &str = "-";

pub async fn run(
    client: &Client,
    screen: &Screen,
    names: &[WorkspaceName],
    once: bool,
    disk: bool,
) -> Result<Outcome, CliError> {
    let top = Top {
        names: names.iter().map(ToString::to_string).collect(),
        before: None,
        now: sample(client).await?.0,
        disk: disk.then(BTreeMap::new),
    };
    top.check()?;
    if once || screen.json || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return one(client, screen, top).await;
    }
    watch(client, screen, top).await
}

async fn sample(client: &Client) -> Result<(Usage, Answer), CliError> {
    let answer = client.get("/v1/usage").await?;
    Ok((answer.parse()?, answer))
}

async fn one(client: &Client, screen: &Screen, mut top: Top) -> Result<Outcome, CliError> {
    let mut disks = top.disks(client);
    while let Some((name, used)) = disks.next().await {
        top.learn(name, used?);
    }
    drop(disks);
    sleep(APART).await;
    let (now, answer) = sample(client).await?;
    top.take(now);
    if screen.json {
        let json = top.json(answer.parse()?);
        screen.print(&format!("{json}\n"))?;
    } else {
        screen.print(&top.table(screen.look).concat())?;
    }
    Ok(Outcome::Done)
}

async fn watch(client: &Client, screen: &Screen, mut top: Top) -> Result<Outcome, CliError> {
    let mut window = Window::open()?;
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut disks = top.disks(client);
    let mut absence = Absence::default();
    // Asked for beside the keys: a daemon that does not answer must not hold them.
    let mut asked = pin!(Fuse::terminated());
    let mut late = false;
    // The first comes sooner: nobody wants to wait two seconds for a share.
    tick.reset_after(APART / 2);
    loop {
        window.draw(&top.table(screen.look), &top.below(late || absence.lasts()))?;
        tokio::select! {
            key = window.key() => match key {
                Key::End => return Ok(Outcome::Done),
                Key::Resized => {}
            },
            _ = tick.tick() => {
                late = !asked.is_terminated();
                if !late {
                    asked.set(sample(client).fuse());
                }
            }
            answer = asked.as_mut() => match answer {
                Ok((now, _)) => {
                    top.take(now);
                    absence.is_over();
                    late = false;
                }
                Err(error) => drop(absence.goes_on(error)?),
            },
            Some((name, used)) = disks.next() => {
                // Shown as unknown: one home that can't be counted is no reason to end.
                if let Ok(used) = used {
                    top.learn(name, used);
                }
            }
        }
    }
}

/// What is known at present.
struct Top {
    /// Those asked for; all when there is none.
    names: Vec<String>,
    before: Option<Usage>,
    now: Usage,
    /// Bytes by name, when asked for.
    disk: Option<BTreeMap<String, u64>>,
}

impl Top {
    /// A name that nobody knows would be an empty table for ever.
    fn check(&self) -> Result<(), CliError> {
        let known = |name: &&String| self.now.workspaces.iter().any(|own| own.name == **name);
        match self.names.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => Err(CliError::Input {
                message: format!("there is no workspace {name}"),
                hint: "`csm status` lists those there are",
            }),
        }
    }

    fn take(&mut self, now: Usage) {
        self.before = Some(std::mem::replace(&mut self.now, now));
    }

    fn learn(&mut self, name: String, used: u64) {
        if let Some(disk) = &mut self.disk {
            disk.insert(name, used);
        }
    }

    /// Asks for each home, two at a time; the answers come when they come.
    fn disks<'a>(&self, client: &'a Client) -> LocalBoxStream<'a, (String, Result<u64, CliError>)> {
        if self.disk.is_none() {
            return stream::empty().boxed_local();
        }
        let names: Vec<String> = self.rows().map(|own| own.name.clone()).collect();
        let ask = move |name: String| async move {
            let answer = client.get_slowly(&format!("/v1/workspaces/{name}/disk")).await;
            (name, answer.and_then(|answer| Ok(answer.parse::<DiskUse>()?.bytes)))
        };
        stream::iter(names).map(ask).buffer_unordered(2).boxed_local()
    }

    fn rows(&self) -> impl Iterator<Item = &WorkspaceUsage> {
        let asked = |own: &&WorkspaceUsage| self.names.is_empty() || self.names.contains(&own.name);
        self.now.workspaces.iter().filter(asked)
    }

    /// The share of the processors since the last answer: in cores.
    fn cores(&self, own: &WorkspaceUsage) -> Option<f64> {
        let before = self.before.as_ref()?;
        let earlier = before.workspaces.iter().find(|one| one.name == own.name)?;
        let used = own.counts.as_ref()?.cpu_usec?;
        // A counter that went back is another run's.
        let used = used.checked_sub(earlier.counts.as_ref()?.cpu_usec?)?;
        let passed = self
            .now
            .clock_usec
            .checked_sub(before.clock_usec)
            .filter(|passed| *passed > 0)?;
        #[expect(clippy::cast_precision_loss, reason = "microseconds of seconds")]
        Some(used as f64 / passed as f64)
    }

    /// The head, then the busiest first, each a line.
    fn table(&self, look: Look) -> Vec<String> {
        let mut head = vec!["NAME", "STATE", "CPU", "MEMORY", "WAITING C/M/IO", "TASKS", "OOM KILLS"];
        head.extend(self.disk.is_some().then_some("DISK"));
        let mut rows = vec![head.iter().map(|cell| look.paint(HEAD, cell)).collect::<Vec<String>>()];
        let mut own: Vec<&WorkspaceUsage> = self.rows().collect();
        let memory = |own: &WorkspaceUsage| own.counts.as_ref().and_then(|counts| counts.memory_bytes);
        // To the tenth of a core, so that equals don't change places all the time.
        #[expect(clippy::cast_possible_truncation, reason = "a few hundred cores at most")]
        let busy = |own: &WorkspaceUsage| self.cores(own).map(|cores| (cores * 10.0).round() as i64);
        own.sort_by_key(|own| (Reverse(busy(own)), Reverse(memory(own)), own.name.clone()));
        rows.extend(own.into_iter().map(|own| self.row(own, look)));
        text::table(&rows).lines().map(|line| format!("{line}\n")).collect()
    }

    fn row(&self, own: &WorkspaceUsage, look: Look) -> Vec<String> {
        let mut row = vec![printable(&own.name).into_owned(), look.state(own.state)];
        let limits = &own.limits;
        match &own.counts {
            None => row.extend([NOTHING; 5].map(str::to_owned)),
            Some(counts) => {
                let of = |used: Option<String>, most: String| {
                    used.map_or(UNKNOWN.to_owned(), |used| format!("{used} of {most}"))
                };
                let cores = self.cores(own).map(|cores| format!("{cores:.2}"));
                let memory = of(
                    counts.memory_bytes.map(format_bytes_rounded),
                    format_bytes_rounded(limits.memory_max),
                );
                // Nine tenths: what is slowed down or ended next.
                let tight = counts
                    .memory_bytes
                    .is_some_and(|used| used / 9 >= limits.memory_max / 10);
                let pressure = [counts.pressure_cpu, counts.pressure_memory, counts.pressure_io]
                    .map(|waits| waits.map_or(UNKNOWN.to_owned(), |waits| format!("{waits:.0}%")));
                row.push(of(cores, format_cores(limits.cpu_quota_usec)));
                row.push(if tight { look.paint(WAIT, &memory) } else { memory });
                row.push(pressure.join("/"));
                row.push(of(
                    counts.tasks.map(|tasks| tasks.to_string()),
                    limits.tasks_max.to_string(),
                ));
                row.push(match counts.oom_kills {
                    None => UNKNOWN.to_owned(),
                    Some(0) => "0".to_owned(),
                    Some(kills) => look.paint(BAD, &kills.to_string()),
                });
            }
        }
        if let Some(disk) = &self.disk {
            row.push(
                disk.get(&own.name)
                    .map_or(UNKNOWN.to_owned(), |used| format_bytes_rounded(*used)),
            );
        }
        row
    }

    fn below(&self, silent: bool) -> String {
        let running = self.rows().filter(|own| own.counts.is_some()).count();
        let all = count(self.rows().count(), "workspace");
        let silent = if silent { "The daemon does not answer. " } else { "" };
        format!("{silent}{running} running of {all}. q ends.")
    }

    /// The daemon's answer, with what it takes two of them to know.
    fn json(&self, mut answer: serde_json::Value) -> serde_json::Value {
        let Some(list) = answer.get_mut("workspaces").and_then(serde_json::Value::as_array_mut) else {
            return answer;
        };
        let own = |value: &serde_json::Value| self.rows().find(|own| value["name"] == own.name.as_str());
        list.retain(|value| own(value).is_some());
        for value in list {
            let Some(own) = own(value) else { continue };
            let cores = self.cores(own).map(|cores| (cores * 1000.0).round() / 1000.0);
            if let Some(counts) = value.get_mut("counts").and_then(serde_json::Value::as_object_mut) {
                counts.insert("cpu_cores".to_owned(), cores.into());
            }
            if let Some(disk) = &self.disk {
                value["disk_bytes"] = disk.get(&own.name).copied().into();
            }
        }
        answer
    }
}
