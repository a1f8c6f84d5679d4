//! The controller: one worker a workspace, one for the image; triggers come in, "look again" goes out.
//! It holds what is desired (configuration and intents) and is the only one who changes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::host::Engine;
use crate::host::intents::{IntentError, Intents};
use crate::host::systemd::Chain;
use crate::model::config::{Config, StartOnBoot};
use crate::model::desired::{self, Desired, Intent, IntentBy, Machine, Workspace};
use crate::model::names::{ImageId, WorkspaceName};
use crate::model::oom::Oom;
use crate::model::plan::{self, Fact, HostSighting};
use crate::model::status::Trouble;
use crate::serve::events::Events;
use crate::serve::failpoint;
use crate::serve::turns::Turns;
use crate::serve::vital::ended;
use crate::serve::worker::{Context, Handle, Report, Worker};

/// What became of the image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageReport {
    pub fact: Fact<Option<ImageId>>,
    /// The step under way, in words.
    pub doing: Option<&'static str>,
    pub trouble: Option<Trouble>,
}

struct Wishes {
    config: Arc<Config>,
    machine: Machine,
    intents: BTreeMap<WorkspaceName, Intent>,
}

/// Shared by everyone who triggers or asks.
pub struct Controller<E> {
    engine: Arc<E>,
    intents: Intents,
    wishes: Mutex<Wishes>,
    /// Held by who writes an intent.
    writing: Semaphore,
    desired: watch::Sender<Arc<Desired>>,
    image: watch::Sender<Fact<Option<ImageId>>>,
    image_report: watch::Sender<ImageReport>,
    image_kick: Notify,
    workers: Mutex<BTreeMap<WorkspaceName, Handle>>,
    events: Arc<Events>,
    /// Rises with every change of the set of workers.
    roster: watch::Sender<u64>,
    turns: Arc<Turns>,
    tasks: TaskTracker,
    token: CancellationToken,
}

impl<E: Engine> Controller<E> {
    /// Reads the intents; starts nothing yet.
    pub fn new(
        engine: Arc<E>,
        intents: Intents,
        config: Config,
        machine: Machine,
        tasks: TaskTracker,
        token: CancellationToken,
    ) -> Result<Self, IntentError> {
        let known = intents.read()?;
        let config = Arc::new(config);
        let first = Arc::new(desired::build(&config, machine.clone(), &known));
        let unseen = Fact::Unknown("not looked at yet".to_owned());
        Ok(Self {
            engine,
            intents,
            wishes: Mutex::new(Wishes {
                config,
                machine,
                intents: known,
            }),
            writing: Semaphore::new(1),
            desired: watch::channel(first).0,
            image: watch::channel(unseen.clone()).0,
            image_report: watch::channel(ImageReport {
                fact: unseen,
                doing: None,
                trouble: None,
            })
            .0,
            image_kick: Notify::new(),
            workers: Mutex::default(),
            events: Arc::default(),
            roster: watch::channel(0).0,
            turns: Arc::default(),
            tasks,
            token,
        })
    }

    pub fn desired(&self) -> Arc<Desired> {
        self.desired.borrow().clone()
    }

    pub fn config(&self) -> Arc<Config> {
        self.lock().config.clone()
    }

    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    pub fn image(&self) -> watch::Receiver<ImageReport> {
        self.image_report.subscribe()
    }

    /// Changes whenever a workspace's worker comes or goes.
    pub fn roster(&self) -> watch::Receiver<u64> {
        self.roster.subscribe()
    }

    /// The reports of all workers at this moment.
    pub fn reports(&self) -> BTreeMap<WorkspaceName, watch::Receiver<Report>> {
        self.workers()
            .iter()
            .map(|(name, handle)| (name.clone(), handle.report.clone()))
            .collect()
    }

    pub fn report(&self, name: &WorkspaceName) -> Option<watch::Receiver<Report>> {
        self.workers().get(name).map(|handle| handle.report.clone())
    }

    /// Hires a worker for every workspace of the configuration; they begin to look at once.
    pub fn begin(&self) {
        self.hire(self.desired().workspaces.keys().cloned(), true);
    }

    /// After the machine has booted, intents follow `start_on_boot`; on disk before anything is started.
    pub fn apply_boot_policy(&self) -> Result<(), IntentError> {
        let mut wishes = self.lock();
        let running = match wishes.config.start_on_boot {
            StartOnBoot::AsItWas => return Ok(()),
            StartOnBoot::Always => true,
            StartOnBoot::Never => false,
        };
        let names: Vec<_> = wishes.config.workspaces.keys().cloned().collect();
        for name in names {
            let intent = Intent {
                running,
                by: IntentBy::Boot,
                why: "start_on_boot in the configuration".to_owned(),
                at: Some(jiff::Timestamp::now().to_string()),
                restart_of: None,
            };
            self.intents.write(&name, &intent)?;
            wishes.intents.insert(name, intent);
        }
        drop(wishes);
        self.rebuild();
        Ok(())
    }

    /// A new configuration is in force. Says whether it was different.
    pub fn configure(&self, config: Config) -> bool {
        {
            let mut wishes = self.lock();
            if *wishes.config == config {
                return false;
            }
            wishes.config = Arc::new(config);
        }
        self.rebuild();
        self.image_kick.notify_one();
        true
    }

    /// The host's own addresses have changed.
    pub fn set_addresses(&self, addresses: Vec<std::net::IpAddr>) {
        {
            let mut wishes = self.lock();
            if wishes.machine.own_addresses == addresses {
                return;
            }
            wishes.machine.own_addresses = addresses;
        }
        self.rebuild();
    }

    /// Writes an intent and acts on it. Answers when it is on disk, before it is carried out; what could not be written is
    /// not carried out.
    pub async fn intend(self: &Arc<Self>, name: &WorkspaceName, running: bool, why: &str) -> Result<(), IntentError> {
        let intent = by_admin(running, why, None);
        self.ask(name, intent, false).await
    }

    /// Writes an intent down and has it carried out. To the end, also when the caller is gone meanwhile: what is on disk and
    /// nobody acts on would be acted on by the next daemon.
    async fn ask(self: &Arc<Self>, name: &WorkspaceName, intent: Intent, restarts: bool) -> Result<(), IntentError> {
        let (own, name) = (self.clone(), name.clone());
        let asked = self.tasks.spawn(async move {
            own.record(&name, intent).await?;
            failpoint::boundary();
            own.carry_out(&name, restarts);
            Ok(())
        });
        ended(asked).await
    }

    async fn record(&self, name: &WorkspaceName, intent: Intent) -> Result<(), IntentError> {
        // One after the other, so that on disk is what was wanted last. Never closed, so that there always is a permit.
        let _turn = self.writing.acquire().await;
        let same = |own: &Intent| {
            own.running == intent.running && (own.restart_of == intent.restart_of || intent.restart_of.is_none())
        };
        if self.lock().intents.get(name).is_some_and(same) {
            return Ok(());
        }
        let (intents, own_name, own_intent) = (self.intents.clone(), name.clone(), intent.clone());
        // It waits for the disk.
        // guard: F9-written-first
        ended(tokio::task::spawn_blocking(move || {
            intents.write(&own_name, &own_intent)
        }))
        .await?;
        self.lock().intents.insert(name.clone(), intent);
        Ok(())
    }

    /// Has what was recorded carried out.
    fn carry_out(&self, name: &WorkspaceName, restarts: bool) {
        if let Some(handle) = self.workers().get(name) {
            if restarts {
                handle.restart.store(true, Ordering::SeqCst);
            }
            handle.asked.fetch_add(1, Ordering::SeqCst);
        }
        self.rebuild();
        self.kick(name);
    }

    /// Whether the last request for a workspace is still being worked on.
    pub fn busy(&self, name: &WorkspaceName) -> bool {
        let asked = self.lock().intents.get(name).and_then(|intent| intent.restart_of);
        self.workers().get(name).is_some_and(|handle| {
            let report = handle.report.borrow();
            let run = report.running.as_ref().and_then(|running| running.started);
            handle.asked.load(Ordering::SeqCst) > report.served || (asked.is_some() && asked == run)
        })
    }

    /// Stops and starts a workspace that runs; one that doesn't is started. Which run has to end is on disk before
    /// anything is done, so that a daemon that is killed meanwhile does not forget it.
    pub async fn restart(self: &Arc<Self>, name: &WorkspaceName, why: &str) -> Result<(), IntentError> {
        let report = self.report(name);
        let run = report.and_then(|report| report.borrow().running.as_ref()?.started);
        self.ask(name, by_admin(true, why, run), true).await
    }

    /// The kernel ended processes of a workspace: these are the counters of that run.
    pub fn killed(&self, name: &WorkspaceName, run: u64, oom: Oom) {
        self.events.saw_oom(name, run, oom);
        self.kick(name);
    }

    /// A fresh look at one workspace.
    pub async fn look(&self, workspace: &Workspace) -> plan::Sighting {
        self.engine.observe(&workspace.name, Some(workspace)).await
    }

    /// What would keep a workspace that runs from being started again, by a fresh look.
    pub async fn obstacles(&self, name: &WorkspaceName) -> Vec<Trouble> {
        let desired = self.desired();
        let Some(workspace) = desired.workspaces.get(name) else {
            return Vec::new();
        };
        let seen = self.look(workspace).await;
        if !matches!(seen.service, Fact::Known(plan::Service::Running(_))) {
            return Vec::new();
        }
        let image = self.image.borrow().clone();
        plan::after_stop(workspace, &seen, &image, &desired.machine).blocked
    }

    /// Something about a workspace may have changed.
    pub fn kick(&self, name: &WorkspaceName) {
        if let Some(handle) = self.workers().get(name) {
            handle.kick.notify_one();
        }
    }

    pub fn kick_image(&self) {
        self.image_kick.notify_one();
    }

    /// Puts configuration and intents together anew, and has those look whose wishes changed.
    fn rebuild(&self) {
        let fresh = {
            let wishes = self.lock();
            Arc::new(desired::build(&wishes.config, wishes.machine.clone(), &wishes.intents))
        };
        let old = self.desired.send_replace(fresh.clone());
        self.hire(fresh.workspaces.keys().cloned(), false);
        let machine_changed = old.machine != fresh.machine;
        for (name, handle) in &*self.workers() {
            if machine_changed || old.workspaces.get(name) != fresh.workspaces.get(name) {
                handle.kick.notify_one();
            }
        }
    }

    /// Hires a worker for whatever is present and nobody knew of. Says whether that could be seen.
    pub async fn find(&self) -> bool {
        match self.engine.present().await {
            Ok(found) => {
                self.hire(found.into_iter(), false);
                true
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "could not list what is present");
                false
            }
        }
    }

    /// Everything may have changed: look for what nobody knew of, and have everyone look.
    pub async fn resync(&self) {
        self.find().await;
        self.hire(self.desired().workspaces.keys().cloned(), false);
        self.dismiss();
        self.image_kick.notify_one();
        for handle in self.workers().values() {
            handle.kick.notify_one();
        }
    }

    /// Workers for names that have none. `found` when the daemon starts: the one before it may have told of them.
    fn hire(&self, names: impl Iterator<Item = WorkspaceName>, found: bool) {
        let mut workers = self.workers();
        let mut hired = false;
        for name in names {
            if workers.contains_key(&name) {
                continue;
            }
            let context = Context {
                engine: self.engine.clone(),
                desired: self.desired.subscribe(),
                image: self.image.subscribe(),
                events: self.events.clone(),
                turns: self.turns.clone(),
            };
            let (worker, handle) = Worker::new(name.clone(), context, found, self.token.child_token());
            self.tasks.spawn(worker.run());
            workers.insert(name, handle);
            hired = true;
        }
        drop(workers);
        if hired {
            self.roster.send_modify(|count| *count += 1);
        }
    }

    /// Forgets workers that have nothing left to look after. Their tasks end when their handle is gone.
    fn dismiss(&self) {
        let desired = self.desired();
        let mut workers = self.workers();
        let before = workers.len();
        workers.retain(|name, handle| {
            let stays = desired.workspaces.contains_key(name) || !handle.report.borrow().gone;
            if !stays {
                handle.token.cancel();
            }
            stays
        });
        if workers.len() != before {
            self.roster.send_modify(|count| *count += 1);
        }
    }

    /// The image's worker: has it in the store, and tells everyone its id.
    pub async fn run_image(&self) {
        let mut failures = 0_u32;
        loop {
            let pause = self.image_pass(&mut failures).await;
            tokio::select! {
                () = self.token.cancelled() => return,
                () = self.image_kick.notified() => {}
                () = async { match pause { Some(pause) => tokio::time::sleep(pause).await, None => std::future::pending().await } } => {}
            }
        }
    }

    async fn image_pass(&self, failures: &mut u32) -> Option<Duration> {
        let desired = self.desired();
        let mut seen = self.engine.observe_host(&desired).await;
        let (steps, trouble) = plan::host(&desired, &seen);
        self.tell_image(&seen, None, trouble);
        for step in steps {
            self.tell_image(&seen, Some(step.describe()), None);
            failpoint::boundary();
            let applied = self.engine.apply_host(&desired, &step).await;
            failpoint::boundary();
            if let Err(error) = applied {
                let code = error.trouble.code;
                tracing::warn!(code, action = step.describe(), error = %Chain(&error), "image: {}", Chain(&error));
                *failures += 1;
                self.tell_image(&seen, None, Some(error.trouble));
                return Some(Duration::from_secs((5 << (*failures).min(6)).min(300)));
            }
            seen = self.engine.observe_host(&desired).await;
            self.tell_image(&seen, None, None);
        }
        *failures = 0;
        matches!(seen.image, Fact::Unknown(_)).then_some(Duration::from_secs(5))
    }

    fn tell_image(&self, seen: &HostSighting, doing: Option<&'static str>, trouble: Option<Trouble>) {
        self.image_report.send_replace(ImageReport {
            fact: seen.image.clone(),
            doing,
            trouble,
        });
        let changed = self.image.send_if_modified(|fact| {
            let changes = *fact != seen.image;
            if changes {
                fact.clone_from(&seen.image);
            }
            changes
        });
        if changed {
            for handle in self.workers().values() {
                handle.kick.notify_one();
            }
        }
    }

    /// What would be done now, without doing it: looks at everything afresh.
    pub async fn plan(&self) -> plan::Plan {
        let desired = self.desired();
        let host = self.engine.observe_host(&desired).await;
        let mut names: BTreeSet<WorkspaceName> = desired.workspaces.keys().cloned().collect();
        names.extend(self.engine.present().await.unwrap_or_default());
        // All at once, so that the engine can answer them together.
        let looks = names.into_iter().map(async |name| {
            let seen = self.engine.observe(&name, desired.workspaces.get(&name)).await;
            (name, seen)
        });
        let workspaces = futures_util::future::join_all(looks).await.into_iter().collect();
        plan::plan(&desired, &plan::Observed { host, workspaces })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn workers(&self) -> std::sync::MutexGuard<'_, BTreeMap<WorkspaceName, Handle>> {
        self.workers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn by_admin(running: bool, why: &str, restart_of: Option<u64>) -> Intent {
    Intent {
        running,
        by: IntentBy::Admin,
        why: why.to_owned(),
        at: Some(jiff::Timestamp::now().to_string()),
        restart_of,
    }
}
