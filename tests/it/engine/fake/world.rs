//! What workspaces run in: units, mounts and links of a machine that isn't one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use code_server_multi::host::systemd::Event;
use code_server_multi::model::account::Account;
use code_server_multi::model::names::{AccountName, ImageId, WorkspaceName};
use code_server_multi::model::oom::Oom;
use code_server_multi::model::status::Trouble;
use code_server_multi::model::unit::{self, Live, Mount, SpecHash};
use code_server_multi::serve::reconcile::Controller;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::FakeEngine;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens but an error; of a look, one fact is not seen.
    Refused,
    /// It happens, and is reported as an error.
    Late,
    /// Nothing happens for as long as the call may take.
    Hangs,
    /// Whoever calls for a workspace panics before anything happens; of the other calls it is an error.
    Panics,
    /// The same after it has happened.
    PanicsAfter,
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
    /// Processes that the kernel ended.
    pub kills: u64,
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
    /// What is wrong with the files that the configuration names.
    pub files: Vec<Trouble>,
}

impl Place {
    fn new() -> Self {
        Self {
            unit: Unit::Absent,
            mounts: BTreeMap::new(),
            leftovers: false,
            front: false,
            home: false,
            files: Vec::new(),
        }
    }

    pub fn is_bare(&self) -> bool {
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
    /// Workspaces whose editor takes so long to answer; every other takes [`super::READY`].
    pub slow: BTreeMap<WorkspaceName, Duration>,
    /// Workspaces of which so many more editors end before they answer, each after so long.
    pub giving_up: BTreeMap<WorkspaceName, (u32, Duration)>,
    /// Workspaces whose editors say nothing.
    pub silent: BTreeSet<WorkspaceName>,
    /// How long it takes to put away what an editor left that ended by itself.
    pub putting_away: Duration,
    /// Whether a workspace should run, as the test said it last.
    pub wished: BTreeMap<WorkspaceName, bool>,
    /// Those that should run and may be stopped once all the same.
    pub excused: BTreeSet<WorkspaceName>,
    pub most_starting: usize,
    mounting: isize,
    pub most_mounting: isize,
    /// How long each mount takes.
    pub mount_takes: Duration,
    /// Every start that was begun, and when.
    pub starts: Vec<(WorkspaceName, Instant)>,
    pub intents: PathBuf,
    pub jobs: u64,
    /// What systemd says; every daemon listens.
    pub signals: broadcast::Sender<Event>,
    controller: Option<Weak<Controller<FakeEngine>>>,
    tasks: TaskTracker,
}

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(1_000_000);

pub type Shared = Arc<Mutex<World>>;

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
            slow: BTreeMap::new(),
            giving_up: BTreeMap::new(),
            silent: BTreeSet::new(),
            putting_away: Duration::ZERO,
            wished: BTreeMap::new(),
            excused: BTreeSet::new(),
            most_starting: 0,
            mounting: 0,
            most_mounting: 0,
            mount_takes: Duration::ZERO,
            starts: Vec::new(),
            intents,
            jobs: 0,
            signals: broadcast::channel(1024).0,
            controller: None,
            tasks: TaskTracker::new(),
        }
    }

    pub fn place(&mut self, name: &WorkspaceName) -> &mut Place {
        self.places.entry(name.clone()).or_insert_with(Place::new)
    }

    pub fn follow(&mut self, controller: &Arc<Controller<FakeEngine>>) {
        self.controller = Some(Arc::downgrade(controller));
    }

    pub fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    pub fn mounting(&mut self, more: isize) {
        self.mounting += more;
        self.most_mounting = self.most_mounting.max(self.mounting);
    }

    pub fn starting(&self) -> usize {
        self.places
            .values()
            .filter(|place| matches!(place.unit, Unit::Starting { .. }))
            .count()
    }

    /// After how long the next editor of a workspace answers, and after how long it ends by itself.
    pub fn next_editor(&mut self, name: &WorkspaceName) -> (Duration, Option<Duration>) {
        if let Some((left, life)) = self.giving_up.get_mut(name).filter(|(left, _)| *left > 0) {
            *left -= 1;
            return (NEVER, Some(*life));
        }
        let takes = self.slow.get(name).copied().unwrap_or(super::READY);
        let takes = if self.silent.contains(name) { NEVER } else { takes };
        (takes, self.mortal.get(name).copied())
    }

    /// Every editor answers from here on, and ends no more by itself.
    pub fn at_ease(&mut self) {
        self.slow.clear();
        self.giving_up.clear();
        self.silent.clear();
        self.mortal.clear();
        for place in self.places.values_mut() {
            if let Unit::Running(editor) = &mut place.unit {
                editor.answers_from = editor.answers_from.min(Instant::now());
            }
        }
    }

    /// The power goes: what was running, mounted or linked is no more.
    pub fn lose_power(&mut self) {
        for place in self.places.values_mut() {
            *place = Place {
                home: place.home,
                files: place.files.clone(),
                ..Place::new()
            };
        }
    }

    /// An intent that is on disk, as the next daemon would read it.
    pub fn may_run_by_intent(&self, name: &WorkspaceName) -> bool {
        std::fs::read_to_string(self.intents.join(format!("{name}.toml")))
            .map_or(true, |text| text.contains("running = true"))
    }
}

pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap()
}

/// Tells whoever listens that something happened to a unit.
pub fn tell(world: &Shared, name: &WorkspaceName) {
    // Nobody listening is no error.
    let _ = lock(world).signals.send(Event::Unit(unit::service_name(name)));
}

/// The kernel ends a process of a workspace, and tells whoever controls the world now.
pub fn kill(world: &Shared, name: &WorkspaceName, kills: u64) {
    let (run, looks, controller) = {
        let mut world = lock(world);
        let Unit::Running(editor) = &mut world.place(name).unit else {
            panic!("{name} does not run");
        };
        editor.kills = kills;
        let run = editor.job;
        let controller = world.controller.as_ref().and_then(Weak::upgrade);
        (run, world.calls, controller)
    };
    let oom = Oom {
        kills,
        at_limit: kills + looks,
    };
    if let Some(controller) = controller {
        controller.killed(name, run, oom);
    }
}

/// An editor ends by itself.
pub fn crash(world: &Shared, name: &WorkspaceName) {
    let takes = {
        let mut world = lock(world);
        let takes = world.putting_away;
        let place = world.place(name);
        if !matches!(place.unit, Unit::Running(_)) {
            return;
        }
        place.unit = Unit::Stopping;
        takes
    };
    if takes.is_zero() {
        return gone(world, name);
    }
    tell(world, name);
    let own = name.clone();
    later(world, takes, move |world| gone(world, &own));
}

fn gone(world: &Shared, name: &WorkspaceName) {
    {
        let mut world = lock(world);
        let place = world.place(name);
        if place.unit == Unit::Stopping {
            place.unit = Unit::Absent;
            place.leftovers = place.mounts.contains_key(&Mount::Run);
        }
    }
    tell(world, name);
}

pub fn later(world: &Shared, after: Duration, what: impl FnOnce(&Shared) + Send + 'static) {
    let tasks = lock(world).tasks.clone();
    let world = world.clone();
    tasks.spawn(async move {
        sleep(after).await;
        what(&world);
    });
}
