//! One workspace's worker: look, plan, take the steps, until there are none; then wait for a reason to look again.
//! It is told that something may have changed, never what: the same look serves every reason.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::State;
use crate::host::systemd::Chain;
use crate::host::{Engine, EngineError};
use crate::model::desired::{Desired, Workspace};
use crate::model::names::{ImageId, WorkspaceName};
use crate::model::plan::{self, Fact, Running, Service, Sighting, Step, WorkspacePlan};
use crate::model::start;
use crate::model::status::Trouble;
use crate::model::unit::Part;
use crate::serve::events::Events;
use crate::serve::failpoint;
use crate::serve::teller::Teller;
use crate::serve::turns::Turns;
use lives::Alive;

mod lives;
mod panics;
mod slow;
mod telling;

/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A fact that could not be seen is looked at again this much later.
const UNSEEN: Duration = Duration::from_secs(5);
/// A plan that needs more rounds than this is never going to be empty.
const ROUNDS: u32 = 8;

/// What a worker last saw and did.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub state: State,
    pub since: jiff::Timestamp,
    pub findings: Vec<Trouble>,
    pub pending: Vec<Part>,
    pub running: Option<Running>,
    /// The steps it has before it, in words.
    pub steps: Vec<String>,
    /// What it could not see.
    pub unknown: Vec<String>,
    /// Neither in the configuration nor present on the host: nothing is left to do for it.
    pub gone: bool,
    /// The number of the last request ([`Handle::asked`]) that was worked off.
    pub served: u64,
}

impl Report {
    pub fn new() -> Self {
        Self {
            state: State::Starting,
            since: jiff::Timestamp::now(),
            findings: Vec::new(),
            pending: Vec::new(),
            running: None,
            steps: Vec::new(),
            unknown: Vec::new(),
            gone: false,
            served: 0,
        }
    }
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}

/// What the daemon holds of a worker.
#[derive(Clone)]
pub struct Handle {
    /// Look again.
    pub kick: Arc<Notify>,
    /// Rises with each request; the worker is busy while its report has served fewer.
    pub asked: Arc<AtomicU64>,
    /// Ends the worker, once nothing is left to look after.
    pub token: CancellationToken,
    /// Stop once, although it should run; the next look starts it.
    pub restart: Arc<AtomicBool>,
    pub report: watch::Receiver<Report>,
}

/// What all workers share.
pub struct Context<E> {
    pub engine: Arc<E>,
    pub desired: watch::Receiver<Arc<Desired>>,
    pub image: watch::Receiver<Fact<Option<ImageId>>>,
    pub events: Arc<Events>,
    pub turns: Arc<Turns>,
}

/// One worker; its task is `run`.
pub struct Worker<E> {
    name: WorkspaceName,
    context: Context<E>,
    handle: Handle,
    report: watch::Sender<Report>,
    teller: Teller,
    failures: u32,
    /// The running editor; nothing while it is stopped on purpose.
    alive: Option<Alive>,
    deaths: u32,
    /// The start under way; nothing once an editor has answered.
    start: Option<slow::Start>,
    /// After a failure or a death nothing is tried before then; removing things is never put off.
    pause: Option<Pause>,
    /// The newest request that the look under way has seen.
    serving: u64,
    /// What was wanted at the last look; a change of it ends a pause.
    wanted: Option<Workspace>,
    /// The host's addresses at the last look, which a workspace may not reach.
    addresses: Vec<IpAddr>,
    panics: u32,
}

struct Pause {
    until: Instant,
    /// It was a removal that failed, so removals wait too.
    removing: bool,
    why: Trouble,
    /// It goes on with a start that has time left: nothing has failed yet.
    promising: bool,
}

impl<E: Engine> Worker<E> {
    /// `found`: by a daemon that starts, which finds the workspace as it is.
    pub fn new(name: WorkspaceName, context: Context<E>, found: bool, token: CancellationToken) -> (Self, Handle) {
        let (report, receiver) = watch::channel(Report::new());
        let handle = Handle {
            kick: Arc::new(Notify::new()),
            asked: Arc::default(),
            token,
            // guard: I9-changes-nothing
            restart: Arc::default(),
            report: receiver,
        };
        let worker = Self {
            teller: Teller::new(name.clone(), context.events.clone(), found),
            name,
            context,
            handle: handle.clone(),
            report,
            failures: 0,
            alive: None,
            deaths: 0,
            start: None,
            pause: None,
            serving: 0,
            wanted: None,
            addresses: Vec::new(),
            panics: 0,
        };
        (worker, handle)
    }

    /// Works until the token is cancelled. A step that is under way is finished first, unless it only waits.
    async fn work(&mut self, token: &CancellationToken) {
        loop {
            // On the heap for as long as it lasts: a worker that only waits is small, and there may be thousands.
            let pause = Box::pin(self.pass(token)).await;
            let sleep = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = token.cancelled() => return,
                () = self.handle.kick.notified() => {}
                () = sleep => {}
            }
        }
    }

    /// What is desired, marked as seen, so that [`superseded`] tells of what comes after.
    fn desired(&mut self) -> Arc<Desired> {
        self.context.desired.borrow_and_update().clone()
    }

    /// Looks and acts until there is nothing to do. Says after how long to look again by itself.
    async fn pass(&mut self, token: &CancellationToken) -> Option<Duration> {
        for _ in 0..ROUNDS {
            let desired = self.desired();
            let wanted = desired.workspaces.get(&self.name);
            self.end_pause_if_asked(wanted);
            let seen = self.context.engine.observe(&self.name, wanted).await;
            // Looking takes its time, and what was wanted before is no reason to stop anything.
            if self.stale() {
                continue;
            }
            let image = self.context.image.borrow().clone();
            // The machine as it is by now; with its next change everybody looks again.
            let now = self.context.desired.borrow().clone();
            let moved = self.addresses != now.machine.own_addresses;
            self.addresses.clone_from(&now.machine.own_addresses);
            let mut plan = plan::workspace(wanted, &seen, &image, &now.machine);
            self.restart_if_asked(&mut plan, &seen);
            self.note_death(wanted, &seen);
            if !plan.blocked.is_empty() || frozen(&seen) {
                self.hold_start();
            }
            let pause = self
                .pause
                .as_ref()
                .map(|pause| pause.until.saturating_duration_since(Instant::now()));
            self.hold_back(&mut plan, wanted, &seen, moved);
            self.publish(wanted, &seen, &plan);
            if plan.steps.is_empty() {
                if pause.is_none() && plan.blocked.is_empty() && plan.unknown.is_empty() {
                    self.failures = 0;
                }
                // The job of a start or stop that was given up goes on, and so does a start between two tries: what was
                // asked for is not done before it ends.
                let under_way = matches!(seen.service, Fact::Known(Service::Starting | Service::Stopping))
                    || self.pause.as_ref().is_some_and(|pause| pause.promising);
                if !under_way {
                    self.looked();
                }
                // Of accounts nobody tells when they change.
                let again = under_way || !plan.unknown.is_empty() || matches!(seen.account, Fact::Known(Err(_)));
                return pause.or(again.then_some(UNSEEN));
            }
            for step in &plan.steps {
                if token.is_cancelled() {
                    return None;
                }
                if self.stale() {
                    break;
                }
                // Of all who look at the same moment, few have anything to do.
                match Box::pin(self.take(step, token)).await {
                    Some(Ok(())) => {}
                    // What is wanted has changed meanwhile: look again.
                    None => break,
                    Some(Err(error)) => {
                        self.fail(step, error);
                        // The next look is for the status alone: the pause has begun.
                        break;
                    }
                }
            }
        }
        tracing::warn!(workspace = %self.name, "{}: the plan did not become empty", self.name);
        self.looked();
        Some(UNSEEN)
    }

    fn fail(&mut self, step: &Step, error: EngineError) {
        let action = step.describe();
        // The journal shows messages, not fields, unless it is asked for them: say it in both.
        let code = error.trouble.code;
        tracing::warn!(workspace = %self.name, code, action, error = %Chain(&error), "{}: {}", self.name, Chain(&error));
        if matches!(step, Step::Start(_)) && self.note_cut_off(&error.trouble) {
            return;
        }
        match (step, code, &mut self.alive) {
            (Step::AwaitReady, "editor-exited", Some(alive)) => {
                alive.ended.get_or_insert_with(Instant::now);
            }
            (Step::AwaitReady, "editor-silent", Some(alive)) => alive.silent = Some(error.trouble.clone()),
            (Step::AwaitReady, _, _) => {}
            _ => self.start = None,
        }
        self.failures += 1;
        // One that has ended is judged by the next look, once nothing of it is left.
        let promising = matches!(step, Step::AwaitReady) && self.slow_finding().is_some();
        self.pause = Some(Pause {
            // guard: F9-tried-again
            until: Instant::now() + backoff(self.failures),
            removing: step.takes_away(),
            why: error.trouble,
            promising,
        });
    }

    /// Whether something else is wanted by now than at the look under way.
    fn stale(&self) -> bool {
        self.context.desired.borrow().workspaces.get(&self.name) != self.wanted.as_ref()
    }

    /// In a pause things are only removed: not if that is what failed, and no editor that runs and should. `moved`: this host has
    /// other addresses than at the look before; what runs is kept from them at once, and if that fails, with the next try.
    fn hold_back(&self, plan: &mut WorkspacePlan, wanted: Option<&Workspace>, seen: &Sighting, moved: bool) {
        let Some(pause) = &self.pause else { return };
        let runs_rightly =
            wanted.is_some_and(Workspace::should_run) && matches!(seen.service, Fact::Known(Service::Running(_)));
        if runs_rightly {
            plan.steps.retain(|step| moved && matches!(step, Step::SetLive(_)));
        } else if pause.removing {
            plan.steps.clear();
        } else {
            plan.steps.retain(Step::takes_away);
        }
    }

    /// A pause ends with its time, with a request, or when something else is wanted.
    fn end_pause_if_asked(&mut self, wanted: Option<&Workspace>) {
        let asked = self.handle.asked.load(Ordering::SeqCst);
        let over = self.pause.as_ref().is_some_and(|pause| pause.until <= Instant::now());
        let changed = self.wanted.as_ref() != wanted;
        // guard: F30-by-hand
        if over || asked > self.serving || changed {
            self.pause = None;
        }
        if asked > self.serving {
            // Somebody has looked at it: what happened before is no reason to wait the longer.
            self.deaths = 0;
            self.forget_start();
        }
        self.serving = asked;
        if changed {
            self.forget_start();
            self.wanted = wanted.cloned();
        }
    }

    /// Takes one step; nothing when it was given up because something else is wanted now.
    async fn take(&mut self, step: &Step, token: &CancellationToken) -> Option<Result<(), EngineError>> {
        let begun = Instant::now();
        self.announce(step);
        failpoint::boundary();
        failpoint::step_of(&self.name);
        let (engine, name) = (self.context.engine.clone(), self.name.clone());
        let turns = self.context.turns.clone();
        // Biased: what is no longer wanted is not even begun.
        let _turn = tokio::select! {
            biased;
            () = superseded(&self.name, &mut self.context.desired, self.wanted.as_ref(), &self.addresses, &self.handle.asked, self.serving) => return None,
            () = token.cancelled() => return None,
            turn = turns.turn(step) => turn,
        };
        match step {
            Step::Start(_) => self.begin_try(),
            Step::AwaitReady => self.begin_waiting(),
            _ => {}
        }
        let mut work = std::pin::pin!(engine.apply(&name, step));
        let (mut slow_from, patience) = (self.slow_from(), self.patience());
        let result = match step {
            // Only these may take long, and giving them up leaves nothing half done: the next look sees what there is.
            Step::Start(_) | Step::AwaitReady => loop {
                tokio::select! {
                    biased;
                    () = superseded(&self.name, &mut self.context.desired, self.wanted.as_ref(), &self.addresses, &self.handle.asked, self.serving) => {
                        self.context.engine.given_up(&self.name).await;
                        return None;
                    }
                    () = token.cancelled() => return None,
                    result = &mut work => break result,
                    () = tokio::time::sleep_until(slow_from.unwrap_or(begun)), if slow_from.is_some() => {
                        slow_from = None;
                        self.say_slow();
                    }
                    () = tokio::time::sleep_until(patience), if matches!(step, Step::AwaitReady) => {
                        self.context.engine.given_up(&self.name).await;
                        break Err(EngineError {
                            doing: step.describe(),
                            trouble: start::silent(&self.name),
                            source: None,
                        });
                    }
                }
            },
            _ => work.await,
        };
        failpoint::boundary();
        match step {
            Step::Start(_) if result.is_ok() => self.alive = Some(Alive::now()),
            Step::AwaitReady if result.is_ok() => self.answered(),
            Step::Stop => {
                (self.alive, self.start) = (None, None);
                if result.is_ok() {
                    self.handle.restart.store(false, Ordering::SeqCst);
                }
            }
            _ => {}
        }
        let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (action, ok) = (step.describe(), result.is_ok());
        if let (true, Step::SetLive(live)) = (ok, step) {
            let report = self.report.borrow();
            let before = report.running.as_ref().map(|running| &running.live.limits);
            self.teller.limits(before, &live.limits);
        }
        if ok {
            tracing::info!(workspace = %self.name, action, elapsed_ms, "{}: {action} ({elapsed_ms} ms)", self.name);
        }
        Some(result)
    }

    /// A restart is a stop in front of the usual plan; the round after it starts what should run. It stays asked for
    /// until the service was stopped or is seen not to run.
    fn restart_if_asked(&mut self, plan: &mut WorkspacePlan, seen: &Sighting) {
        match &seen.service {
            Fact::Known(service @ (Service::Running(_) | Service::Starting)) => {
                let run = match service {
                    Service::Running(running) => running.started,
                    _ => None,
                };
                // guard: F1-unfinished-restart
                let unfinished = self.wanted.as_ref().and_then(|workspace| workspace.intent.restart_of);
                if self.handle.restart.load(Ordering::SeqCst) || (unfinished.is_some() && unfinished == run) {
                    plan.steps = vec![Step::UnlinkFront, Step::Stop];
                }
            }
            Fact::Known(Service::Absent | Service::Stopping) => self.handle.restart.store(false, Ordering::SeqCst),
            Fact::Unknown(_) => {}
        }
    }
}

/// Waits until something else is wanted than at the look under way, or was asked for after it. Or the host has got an address
/// that is to be denied: an editor that never answers would otherwise have it for as long as it is waited for.
async fn superseded(
    name: &WorkspaceName,
    desired: &mut watch::Receiver<Arc<Desired>>,
    wanted: Option<&Workspace>,
    addresses: &[IpAddr],
    asked: &AtomicU64,
    serving: u64,
) {
    while desired.changed().await.is_ok() {
        let newest = desired.borrow_and_update();
        let other = newest.workspaces.get(name) != wanted
            // guard: A1-while-it-starts
            || newest.machine.own_addresses != addresses;
        drop(newest);
        if other || asked.load(Ordering::SeqCst) > serving {
            return;
        }
    }
    std::future::pending::<()>().await;
}

fn frozen(seen: &Sighting) -> bool {
    matches!(&seen.service, Fact::Known(Service::Running(running)) if running.frozen)
}

/// 1 s, 2 s, 4 s and so on, to a minute.
// guard: F30-pause-grows
fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(LONGEST_PAUSE)
}
