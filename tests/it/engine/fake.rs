//! A machine that isn't one: an engine with systemd's habits on a made-up world, and faults at any call.

pub mod looks;
pub mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use code_server_multi::host::{Engine, EngineError};
use code_server_multi::model::desired::{Desired, Workspace};
use code_server_multi::model::names::WorkspaceName;
use code_server_multi::model::plan::{Fact, HostSighting, HostStep, Sighting, Step};
use code_server_multi::model::status::Trouble;
use code_server_multi::model::systemd::UnitSpec;
use code_server_multi::model::unit::{self, MOUNTS, Mount};
use tokio::time::{Instant, sleep};

use looks::{blind, editor, sighting};
use world::{Editor, Fault, Shared, Unit, crash, image, later, lock, tell};

pub const START: Duration = Duration::from_millis(300);
pub const STOP: Duration = Duration::from_millis(200);
pub const READY: Duration = Duration::from_millis(500);
/// Of every other call.
pub const CALL: Duration = Duration::from_millis(5);
/// After which the real engine gives a call up.
const DEADLINE: Duration = Duration::from_secs(60);

/// The engine of one daemon; once it is dead, nothing that this daemon does has an effect.
pub struct FakeEngine {
    world: Shared,
    dead: Arc<AtomicBool>,
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
            return Err(EngineError {
                trouble: Trouble::new("start-failed", "the container did not start", "look"),
                ..error("start the container")
            });
        }
        later(&self.world, START, move |world| {
            if begun(&lock(world).place(&own).unit) {
                let (takes, mortal) = lock(world).next_editor(&own);
                lock(world).place(&own).unit = Unit::Running(Box::new(Editor {
                    answers_from: Instant::now() + takes,
                    ..running
                }));
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
        let doing = "wait until the editor answers";
        let failed = |trouble| EngineError {
            trouble,
            ..error(doing)
        };
        loop {
            let answers_from = match &lock(&self.world).place(name).unit {
                Unit::Running(editor) => editor.answers_from,
                _ => {
                    return Err(failed(Trouble::new(
                        "editor-exited",
                        "the editor ended before it answered",
                        "look",
                    )));
                }
            };
            if answers_from <= Instant::now() {
                return Ok(());
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
        assert!(fault != Some(Fault::Panics), "a fault was asked for");
        if fault == Some(Fault::Hangs) {
            sleep(DEADLINE).await;
        }
        let (place, calls) = {
            let mut world = lock(&self.world);
            (world.place(name).clone(), world.calls)
        };
        let mut seen = sighting(&place, name, wanted, calls);
        assert!(fault != Some(Fault::PanicsAfter), "a fault was asked for");
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
        let mounts = isize::from(matches!(step, Step::Mount(..) | Step::Unmount(_)));
        lock(&self.world).mounting(mounts);
        let fault = self.call().await;
        if mounts > 0 {
            let takes = lock(&self.world).mount_takes;
            sleep(takes).await;
        }
        lock(&self.world).mounting(-mounts);
        assert!(fault != Some(Fault::Panics), "a fault was asked for");
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
        assert!(fault != Some(Fault::PanicsAfter), "a fault was asked for");
        fault.map_or(Ok(()), |_| Err(error(&words)))
    }
}
