//! A machine that isn't one: a world that workspaces run in, with systemd's habits, and faults at any call.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use code_server_multi::host::{Engine, EngineError};
use code_server_multi::model::account::Account;
use code_server_multi::model::desired::{Desired, Workspace};
use code_server_multi::model::names::{AccountName, ImageId, WorkspaceName};
use code_server_multi::model::plan::{Fact, HostSighting, HostStep, Sighting, Step};
use code_server_multi::model::status::Trouble;
use code_server_multi::model::systemd::UnitSpec;
use code_server_multi::model::unit::{self, Live, MOUNTS, Mount, SpecHash};
use code_server_multi::serve::reconcile::Controller;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::sight::{blind, editor, sighting};

pub const START: Duration = Duration::from_millis(300);
pub const STOP: Duration = Duration::from_millis(200);
pub const READY: Duration = Duration::from_millis(500);
/// Of every other call.
const CALL: Duration = Duration::from_millis(5);
/// After which the real engine gives a call up.
const DEADLINE: Duration = Duration::from_secs(60);

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens but an error; of a look, one fact is not seen.
    Refused,
    /// It happens, and is reported as an error.
    Late,
    /// Nothing happens for as long as the call may take.
    Hangs,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Unit {
    Absent,
    /// `job` tells this start from a later one.
    Starting {
        job: u64,
    },
    Stopping,
    Running(Box<Editor>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Editor {
    pub spec: Option<SpecHash>,
    pub live: Live,
    pub frozen: bool,
    pub answers_from: Instant,
    /// Which start it came from.
    pub job: u64,
}

/// One workspace's things.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub unit: Unit,
    pub mounts: BTreeMap<Mount, String>,
    pub leftovers: bool,
    pub front: bool,
    /// Stays when everything else goes.
    pub home: bool,
}

impl Place {
    fn new() -> Self {
        Self {
            unit: Unit::Absent,
            mounts: BTreeMap::new(),
            leftovers: false,
            front: false,
            home: false,
        }
    }

    fn is_bare(&self) -> bool {
        self.unit == Unit::Absent && self.mounts.is_empty() && !self.front
    }
}

pub struct World {
    pub places: BTreeMap<WorkspaceName, Place>,
    pub image: Option<ImageId>,
    /// What was done, in order.
    pub log: Vec<String>,
    /// What must never happen and did.
    pub violations: Vec<String>,
    /// Fault by the number of the call.
    pub faults: BTreeMap<u64, Fault>,
    pub calls: u64,
    /// Steps of a workspace that always fail.
    pub refused: BTreeSet<(WorkspaceName, String)>,
    /// Workspaces whose start never ends by itself.
    pub hanging: BTreeSet<WorkspaceName>,
    /// Workspaces whose editor ends so long after its start.
    pub mortal: BTreeMap<WorkspaceName, Duration>,
    /// Whether a workspace should run, as the test said it last.
    pub wished: BTreeMap<WorkspaceName, bool>,
    /// Those that should run and may be stopped once all the same.
    pub excused: BTreeSet<WorkspaceName>,
    pub most_starting: usize,
    /// Every start that was begun, and when.
    pub starts: Vec<(WorkspaceName, Instant)>,
    pub intents: PathBuf,
    jobs: u64,
    kick: Option<Weak<Controller<FakeEngine>>>,
    tasks: TaskTracker,
}

pub type Shared = Arc<Mutex<World>>;

/// The engine of one daemon; once it is dead, nothing that this daemon does has an effect.
pub struct FakeEngine {
    world: Shared,
    dead: Arc<AtomicBool>,
}

pub fn image() -> ImageId {
    ImageId::parse(&"a".repeat(64)).unwrap()
}

pub fn account(name: &WorkspaceName) -> Account {
    Account {
        name: AccountName::parse(&format!("csm-{name}")).unwrap(),
        uid: 1001,
        gid: 1001,
        subuid: 300_000,
        subgid: 300_000,
    }
}

impl World {
    pub fn new(intents: PathBuf) -> Self {
        Self {
            places: BTreeMap::new(),
            image: Some(image()),
            log: Vec::new(),
            violations: Vec::new(),
            faults: BTreeMap::new(),
            calls: 0,
            refused: BTreeSet::new(),
            hanging: BTreeSet::new(),
            mortal: BTreeMap::new(),
            wished: BTreeMap::new(),
            excused: BTreeSet::new(),
            most_starting: 0,
            starts: Vec::new(),
            intents,
            jobs: 0,
            kick: None,
            tasks: TaskTracker::new(),
        }
    }

    pub fn place(&mut self, name: &WorkspaceName) -> &mut Place {
        self.places.entry(name.clone()).or_insert_with(Place::new)
    }

    pub fn follow(&mut self, controller: &Arc<Controller<FakeEngine>>) {
        self.kick = Some(Arc::downgrade(controller));
    }

    fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    fn starting(&self) -> usize {
        self.places
            .values()
            .filter(|place| matches!(place.unit, Unit::Starting { .. }))
            .count()
    }

    /// The power goes: what was running, mounted or linked is no more.
    pub fn lose_power(&mut self) {
        for place in self.places.values_mut() {
            *place = Place {
                home: place.home,
                ..Place::new()
            };
        }
    }

    /// An intent that is on disk, as the next daemon would read it.
    fn may_run_by_intent(&self, name: &WorkspaceName) -> bool {
        std::fs::read_to_string(self.intents.join(format!("{name}.toml")))
            .map_or(true, |text| text.contains("running = true"))
    }
}

pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap()
}

/// Tells whoever controls the world now that something happened to a unit.
fn tell(world: &Shared, name: &WorkspaceName) {
    let controller = lock(world).kick.as_ref().and_then(Weak::upgrade);
    if let Some(controller) = controller {
        controller.kick(name);
    }
}

/// An editor ends by itself.
pub fn crash(world: &Shared, name: &WorkspaceName) {
    {
        let mut world = lock(world);
        let place = world.place(name);
        if !matches!(place.unit, Unit::Running(_)) {
            return;
        }
        place.unit = Unit::Absent;
        place.leftovers = place.mounts.contains_key(&Mount::Run);
    }
    tell(world, name);
}

fn later(world: &Shared, after: Duration, what: impl FnOnce(&Shared) + Send + 'static) {
    let tasks = lock(world).tasks.clone();
    let world = world.clone();
    tasks.spawn(async move {
        sleep(after).await;
        what(&world);
    });
}

fn error(doing: &str) -> EngineError {
    EngineError {
        doing: doing.to_owned(),
        trouble: Trouble::new("made-up", "a fault was asked for", "ask for none"),
        source: None,
    }
}

impl FakeEngine {
    pub fn new(world: Shared, dead: Arc<AtomicBool>) -> Self {
        Self { world, dead }
    }

    /// Every call begins here. A dead daemon's calls come to nothing.
    async fn call(&self) -> Option<Fault> {
        sleep(CALL).await;
        self.or_dead().await;
        let mut world = lock(&self.world);
        world.calls += 1;
        let number = world.calls;
        world.faults.remove(&number)
    }

    async fn or_dead(&self) {
        if self.dead.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    /// By what is wanted when a step is begun: what comes after can't be known.
    fn judge(&self, name: &WorkspaceName, step: &Step) {
        let mut world = lock(&self.world);
        if self.dead.load(Ordering::SeqCst) {
            return;
        }
        let wished = world.wished.get(name).copied().unwrap_or(false);
        match step {
            Step::Start(_) if !world.may_run_by_intent(name) => {
                world.violated(format!("{name}: started against its intent"));
            }
            Step::Stop if wished && !world.excused.contains(name) => {
                world.violated(format!("{name}: stopped although it should run"));
            }
            _ => {}
        }
    }

    async fn start(&self, name: &WorkspaceName, spec: &UnitSpec) -> Result<(), EngineError> {
        let (job, hangs) = {
            let mut world = lock(&self.world);
            world.jobs += 1;
            let job = world.jobs;
            let place = world.place(name).clone();
            if place.unit != Unit::Absent {
                world.violated(format!("{name}: a second container beside {:?}", place.unit));
            }
            if place.mounts.len() != MOUNTS.len() || place.leftovers || !place.home {
                world.violated(format!("{name}: started on {place:?}"));
            }
            world.place(name).unit = Unit::Starting { job };
            world.starts.push((name.clone(), Instant::now()));
            world.most_starting = world.most_starting.max(world.starting());
            (job, world.hanging.contains(name))
        };
        let begun = move |unit: &Unit| *unit == Unit::Starting { job };
        let (own, running) = (name.clone(), editor(spec, job));
        if hangs {
            later(&self.world, DEADLINE, move |world| {
                let place = lock(world).place(&own).clone();
                if begun(&place.unit) {
                    lock(world).place(&own).unit = Unit::Absent;
                }
                tell(world, &own);
            });
            sleep(DEADLINE).await;
            return Err(error("start the container"));
        }
        later(&self.world, START, move |world| {
            if begun(&lock(world).place(&own).unit) {
                lock(world).place(&own).unit = Unit::Running(Box::new(Editor {
                    answers_from: Instant::now() + READY,
                    ..running
                }));
                let mortal = lock(world).mortal.get(&own).copied();
                if let Some(life) = mortal {
                    let own = own.clone();
                    later(world, life, move |world| {
                        let same = matches!(&lock(world).place(&own).unit, Unit::Running(editor) if editor.job == job);
                        if same {
                            crash(world, &own);
                        }
                    });
                }
            }
            tell(world, &own);
        });
        sleep(START + CALL).await;
        self.or_dead().await;
        match lock(&self.world).place(name).unit {
            Unit::Running(_) => Ok(()),
            _ => Err(error("start the container")),
        }
    }

    async fn stop(&self, name: &WorkspaceName) {
        {
            let mut world = lock(&self.world);
            if world.place(name).unit == Unit::Absent {
                return;
            }
            world.place(name).unit = Unit::Stopping;
        }
        let own = name.clone();
        later(&self.world, STOP, move |world| {
            {
                let mut world = lock(world);
                let place = world.place(&own);
                if place.unit == Unit::Stopping {
                    place.unit = Unit::Absent;
                    place.leftovers = place.mounts.contains_key(&Mount::Run);
                }
            }
            tell(world, &own);
        });
        sleep(STOP + CALL).await;
    }

    async fn await_ready(&self, name: &WorkspaceName) -> Result<(), EngineError> {
        let give_up = Instant::now() + DEADLINE;
        loop {
            let answers_from = match &lock(&self.world).place(name).unit {
                Unit::Running(editor) => editor.answers_from,
                _ => return Err(error("wait until the editor answers")),
            };
            if answers_from <= Instant::now() {
                return Ok(());
            }
            if give_up <= Instant::now() {
                return Err(error("wait until the editor answers"));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What a step that takes no time does.
    fn change(&self, name: &WorkspaceName, step: &Step) {
        let mut world = lock(&self.world);
        let mut wrong = None;
        let place = world.place(name);
        match step {
            Step::UnlinkFront => place.front = false,
            Step::LinkFront => place.front = true,
            Step::MakeDirectories(..) => place.home = true,
            Step::Mount(mount, spec) => {
                let before = place.mounts.insert(*mount, unit::description(spec).to_owned());
                wrong = before.map(|_| format!("{name}: {mount:?} mounted over itself"));
            }
            Step::Unmount(mount) => {
                if place.unit != Unit::Absent {
                    wrong = Some(format!("{name}: {mount:?} unmounted under {:?}", place.unit));
                }
                place.mounts.remove(mount);
                if *mount == Mount::Run {
                    place.leftovers = false;
                }
            }
            Step::SetLive(live) => {
                if let Unit::Running(editor) = &mut place.unit {
                    editor.live = live.clone();
                }
            }
            Step::WriteSecrets(..) | Step::Start(_) | Step::Stop | Step::AwaitReady => {}
        }
        if let Some(wrong) = wrong {
            world.violated(wrong);
        }
    }
}

impl Engine for FakeEngine {
    async fn observe_host(&self, _: &Desired) -> HostSighting {
        let image = match self.call().await {
            None => Fact::Known(lock(&self.world).image.clone()),
            Some(fault) => {
                if fault == Fault::Hangs {
                    sleep(DEADLINE).await;
                }
                Fact::Unknown("a fault was asked for".to_owned())
            }
        };
        HostSighting { image }
    }

    async fn observe(&self, name: &WorkspaceName, wanted: Option<&Workspace>) -> Sighting {
        let fault = self.call().await;
        if fault == Some(Fault::Hangs) {
            sleep(DEADLINE).await;
        }
        let (place, calls) = {
            let mut world = lock(&self.world);
            (world.place(name).clone(), world.calls)
        };
        let mut seen = sighting(&place, name, wanted);
        if fault.is_some() {
            blind(&mut seen, calls);
        }
        seen
    }

    async fn present(&self) -> Result<BTreeSet<WorkspaceName>, EngineError> {
        if self.call().await.is_some() {
            return Err(error("list what runs"));
        }
        let world = lock(&self.world);
        let there = world.places.iter().filter(|(_, place)| !place.is_bare());
        Ok(there.map(|(name, _)| name.clone()).collect())
    }

    async fn apply_host(&self, _: &Desired, step: &HostStep) -> Result<(), EngineError> {
        let fault = self.call().await;
        sleep(Duration::from_secs(2)).await;
        self.or_dead().await;
        if matches!(fault, None | Some(Fault::Late)) {
            let mut world = lock(&self.world);
            world.image = Some(image());
            world.log.push(step.describe().to_owned());
        }
        fault.map_or(Ok(()), |_| Err(error(step.describe())))
    }

    async fn apply(&self, name: &WorkspaceName, step: &Step) -> Result<(), EngineError> {
        self.judge(name, step);
        let fault = self.call().await;
        let words = step.describe();
        let refused = lock(&self.world).refused.contains(&(name.clone(), words.clone()));
        if refused || fault == Some(Fault::Refused) {
            lock(&self.world).log.push(format!("{name}: {words}: refused"));
            return Err(error(&words));
        }
        if fault == Some(Fault::Hangs) {
            sleep(DEADLINE).await;
            return Err(error(&words));
        }
        lock(&self.world).log.push(format!("{name}: {words}"));
        match step {
            Step::Start(spec) => self.start(name, spec).await?,
            Step::Stop => {
                lock(&self.world).excused.remove(name);
                self.stop(name).await;
            }
            Step::AwaitReady => self.await_ready(name).await?,
            _ => self.change(name, step),
        }
        self.or_dead().await;
        fault.map_or(Ok(()), |_| Err(error(&words)))
    }
}
