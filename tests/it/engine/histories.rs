//! Hundreds of histories, and thousands in tests/long: requests, configurations, crashes, faults and killed daemons in any
//! order. Each begins from a fixed seed; one that fails is made as short as it gets before it is shown, and kept in
//! `histories.seeds`, from which it is played first the next time.

use std::collections::BTreeMap;
use std::time::Duration;

use code_server_multi::api;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, FileFailurePersistence, RngAlgorithm, TestError, TestRng, TestRunner};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::sleep;

use super::fake::world::{self, Fault};
use super::host::{Daemon, Host, LONG, config, name, needs_root};

/// Histories that failed once: committed with what mends them.
const SEEDS: &str = "tests/it/engine/histories.seeds";
const NAMES: [&str; 3] = ["ann", "bob", "cy"];

#[derive(Debug, Clone)]
enum Event {
    Start(usize),
    Stop(usize),
    Restart(usize),
    Configure([Option<Settings>; 3]),
    /// An editor ends by itself.
    Crash(usize),
    /// The n-th call from here goes wrong.
    Fault(u64, Fault),
    /// `kill -9` and a new daemon.
    Kill,
    /// Everything goes but the disk.
    PowerCut,
    /// So many editors to come give up their own start, each after so many seconds.
    GiveUp(usize, u32, u64),
    /// The editors to come say nothing.
    Silent(usize),
    Wait(u64),
}

#[derive(Debug, Clone)]
struct Settings {
    environment: u8,
    gigabytes: u8,
    now: bool,
    enabled: bool,
}

fn settings() -> impl Strategy<Value = Settings> {
    (0..2_u8, 3..5_u8, any::<bool>(), prop::bool::weighted(0.9)).prop_map(|(environment, gigabytes, now, enabled)| {
        Settings {
            environment,
            gigabytes,
            now,
            enabled,
        }
    })
}

fn configurations() -> impl Strategy<Value = [Option<Settings>; 3]> {
    prop::array::uniform3(prop::option::weighted(0.8, settings()))
}

fn events() -> impl Strategy<Value = Event> {
    let fault = prop_oneof![
        Just(Fault::Refused),
        Just(Fault::Late),
        Just(Fault::Hangs),
        Just(Fault::Panics),
        Just(Fault::PanicsAfter)
    ];
    prop_oneof![
        3 => (0..3_usize).prop_map(Event::Start),
        4 => (0..3_usize).prop_map(Event::Stop),
        3 => (0..3_usize).prop_map(Event::Restart),
        3 => configurations().prop_map(Event::Configure),
        2 => (0..3_usize).prop_map(Event::Crash),
        3 => (1..12_u64, fault).prop_map(|(call, fault)| Event::Fault(call, fault)),
        2 => Just(Event::Kill),
        1 => Just(Event::PowerCut),
        2 => (0..3_usize, 1..5_u32, 8..40_u64).prop_map(|(own, times, life)| Event::GiveUp(own, times, life)),
        1 => (0..3_usize).prop_map(Event::Silent),
        // Mostly into the middle of things.
        8 => prop_oneof![5 => 0..1_500_u64, 1 => 1_500..100_000_u64].prop_map(Event::Wait),
    ]
}

fn text(settings: &[Option<Settings>; 3]) -> String {
    let section = |(own, settings): (&&str, &Option<Settings>)| {
        settings.as_ref().map(|own_settings| {
            format!(
                "[workspaces.{own}]\nenvironment = {{ A = '{}' }}\nmemory_limit = '{}G'\napply = '{}'\nenabled = {}\n",
                own_settings.environment,
                own_settings.gigabytes,
                if own_settings.now { "now" } else { "pending" },
                own_settings.enabled
            )
        })
    };
    NAMES.iter().zip(settings).filter_map(section).collect()
}

/// Plays one history, and lets the world come to rest after it.
async fn play(first: [Option<Settings>; 3], history: Vec<Event>) {
    let host = Host::new();
    let mut current = first;
    let mut daemon = host.daemon(config(&text(&current)));
    let mut told = Told::by(&daemon);
    for event in history {
        told.check();
        match event {
            Event::Start(own) if current[own].is_some() => daemon.start(NAMES[own]).await,
            Event::Stop(own) if current[own].is_some() => daemon.stop(NAMES[own]).await,
            // Of a disabled one it is refused before it gets here.
            Event::Restart(own) if current[own].as_ref().is_some_and(|own| own.enabled) => {
                daemon.restart(NAMES[own]).await;
            }
            Event::Start(_) | Event::Stop(_) | Event::Restart(_) => {}
            Event::Configure(settings) => {
                current = settings;
                daemon.configure(config(&text(&current)));
            }
            Event::Crash(own) => world::crash(&host.world, &name(NAMES[own])),
            Event::Fault(after, fault) => {
                let mut world = host.world();
                let call = world.calls + after;
                world.faults.insert(call, fault);
            }
            Event::Kill => {
                daemon.kill();
                daemon = host.daemon(config(&text(&current)));
                told = Told::by(&daemon);
            }
            Event::PowerCut => {
                daemon.kill();
                host.world().lose_power();
                daemon = host.daemon(config(&text(&current)));
                told = Told::by(&daemon);
            }
            Event::GiveUp(own, times, seconds) => {
                let life = Duration::from_secs(seconds);
                host.world().giving_up.insert(name(NAMES[own]), (times, life));
            }
            Event::Silent(own) => {
                host.world().silent.insert(name(NAMES[own]));
            }
            Event::Wait(milliseconds) => sleep(Duration::from_millis(milliseconds)).await,
        }
    }
    host.world().faults.clear();
    host.world().at_ease();
    sleep(LONG).await;
    told.check();
    daemon.assert_as_desired(&host).await;
    daemon.kill();
}

/// What one daemon tells: no state of a workspace twice in a row, and none that is wrong without its code.
struct Told {
    events: broadcast::Receiver<api::Event>,
    last: BTreeMap<String, String>,
}

impl Told {
    const STATES: [&str; 8] = [
        "starting",
        "ready",
        "stopping",
        "stopped",
        "suspended",
        "disabled",
        "failed",
        "blocked",
    ];

    fn by(daemon: &Daemon) -> Self {
        Self {
            events: daemon.controller.events().follow(),
            last: BTreeMap::new(),
        }
    }

    fn check(&mut self) {
        loop {
            let event = match self.events.try_recv() {
                Ok(event) => event,
                Err(TryRecvError::Empty) => return,
                Err(error) => panic!("not all events were seen: {error}"),
            };
            let Some(workspace) = event.workspace.clone() else {
                continue;
            };
            if event.kind == "removed" {
                self.last.remove(&workspace);
            }
            if Self::STATES.contains(&event.kind.as_str()) {
                // A start that is slow is said to be, as often as an editor gave up.
                let slow = event.kind == "starting" && event.code.as_deref() == Some("editor-slow");
                let wrong = matches!(event.kind.as_str(), "failed" | "blocked");
                assert_eq!(event.code.is_some(), wrong || slow, "{event:?}");
                let before = self.last.insert(workspace, event.kind.clone());
                // What was found by a new daemon, or had failed as silent, may be slow as well.
                let fits = match before.as_deref() {
                    Some("starting" | "failed") | None if slow => true,
                    before => before != Some(event.kind.as_str()) && !slow,
                };
                assert!(fits, "told twice, or out of turn, after {before:?}: {event:?}");
            }
        }
    }
}

#[test]
fn every_history_ends_as_desired() {
    histories(1);
}

/// The same with another seed, beside it.
#[test]
fn every_other_history_ends_as_desired() {
    histories(2);
}

fn histories(own: u64) {
    // Here, because each history would be made shorter, and kept, for want of it.
    needs_root();
    // CSM_HISTORIES=20000 CSM_SEED=7 for a longer or another run.
    let number = |key: &str, default: u64| std::env::var(key).map_or(default, |text| text.parse().unwrap());
    let (histories, seed) = (number("CSM_HISTORIES", 250), number("CSM_SEED", own));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let cases = Cases {
        cases: u32::try_from(histories).unwrap(),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(SEEDS))),
        max_shrink_iters: 2000,
        ..Cases::default()
    };
    let mut runner = TestRunner::new_with_rng(cases, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let strategy = (configurations(), prop::collection::vec(events(), 1..25));
    let result = runner.run(&strategy, |(first, history)| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(first, history));
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, (first, history))) => {
            panic!("seed {seed}: {why}\nfirst {}\nthen {history:#?}", text(&first))
        }
        Err(error) => panic!("seed {seed}: {error}"),
    }
}
