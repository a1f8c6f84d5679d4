//! Plans against a simulated world: whatever was seen and whatever is wanted, the steps lead there, in few rounds, in an
//! order that the world can take, and nothing is taken away on a guess.

use proptest::prelude::*;

use super::*;
use crate::model::unit::tests::{account, desired, image};

const KNOWN_WHY: &str = "could not be seen";

/// The workspaces that a configuration may want: all that planning looks at.
fn wanted() -> impl Strategy<Value = (Desired, bool)> {
    (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        0..3_u8,
        1..3_u8,
        any::<bool>(),
    )
        .prop_map(|(enabled, running, now, environment, limit, present)| {
            let apply = if now { "now" } else { "pending" };
            let mut desired = desired(&format!(
                "[workspaces.dan]\nenabled = {enabled}\napply = '{apply}'\nmemory_limit = '{limit}G'\n\
                 environment = {{ A = '{environment}' }}\n"
            ));
            for workspace in desired.workspaces.values_mut() {
                workspace.intent.running = running;
            }
            (desired, present)
        })
}

/// Something known, or not.
fn fact<T: std::fmt::Debug + Clone>(value: impl Strategy<Value = T>, unknown: u32) -> impl Strategy<Value = Fact<T>> {
    prop_oneof![
        9 => value.prop_map(Fact::Known),
        unknown => Just(Fact::Unknown(KNOWN_WHY.to_owned())),
    ]
}

fn trouble(code: &'static str) -> Trouble {
    Trouble::new(code, "something is in the way", "move it")
}

fn images(unknown: u32) -> impl Strategy<Value = Fact<Option<ImageId>>> {
    fact(
        proptest::option::weighted(0.8, "[ab]".prop_map(|digit| image(digit.chars().next().unwrap()))),
        unknown,
    )
}

/// A service that some configuration of [`wanted`] would have started, or somebody else.
fn services() -> impl Strategy<Value = Service> {
    let running = (wanted(), "[ab]", any::<bool>(), any::<bool>()).prop_map(|((desired, _), digit, ours, frozen)| {
        let workspace = &desired.workspaces.values().next().unwrap();
        let id = image(digit.chars().next().unwrap());
        let (_, spec) = unit::service(workspace, &account("csm-dan"), &desired.machine, &id);
        Service::Running(Box::new(Running {
            spec: ours.then_some(spec),
            live: Live::of(workspace, &desired.machine),
            frozen,
            main_pid: Some(4711),
            started: Some(1),
            oom: None,
        }))
    });
    prop_oneof![
        2 => Just(Service::Absent),
        1 => Just(Service::Starting),
        1 => Just(Service::Stopping),
        4 => running,
    ]
}

/// Each mount is absent, as it should be, or made from something else.
fn mounts() -> impl Strategy<Value = BTreeMap<Mount, String>> {
    let one = |mount: Mount| {
        let desired = desired("[workspaces.dan]\n");
        let workspace = desired.workspaces.values().next().unwrap();
        let right = unit::mount(mount, workspace, &account("csm-dan"), &desired.machine);
        prop_oneof![
            Just(None),
            Just(Some((mount, unit::description(&right).to_owned()))),
            Just(Some((mount, "made from something else".to_owned()))),
        ]
    };
    (one(Mount::Images), one(Mount::Data), one(Mount::Run))
        .prop_map(|(images, data, run)| [images, data, run].into_iter().flatten().collect())
}

fn accounts() -> impl Strategy<Value = Result<Account, AccountProblem>> {
    let name = account("csm-dan").name;
    prop_oneof![
        4 => Just(Ok(account("csm-dan"))),
        1 => Just(Err(AccountProblem::Missing(name))),
    ]
}

fn directories() -> impl Strategy<Value = Directories> {
    prop_oneof![
        2 => Just(Directories::InPlace),
        2 => Just(Directories::ToMake),
        1 => Just(Directories::Obstructed(trouble("home-obstructed"))),
    ]
}

fn sightings(unknown: u32) -> impl Strategy<Value = Sighting> {
    let files = prop_oneof![3 => Just(Vec::new()), 1 => Just(vec![trouble("secret-unusable")])];
    (
        fact(services(), unknown),
        fact(mounts(), unknown),
        fact(any::<bool>(), unknown),
        fact(any::<bool>(), unknown),
        fact(any::<bool>(), unknown),
        fact(accounts(), unknown),
        fact(directories(), unknown),
        fact(files, unknown),
        fact(any::<bool>(), unknown),
    )
        .prop_map(
            |(service, mounts, leftovers, front, answers, account, directories, files, rotated)| Sighting {
                service,
                mounts,
                leftovers,
                front,
                answers,
                account,
                directories,
                files,
                rotated,
            },
        )
}

/// What a host with exactly these facts shows: of a service that doesn't run, nothing answers.
fn consistent(mut seen: Sighting) -> Sighting {
    if !matches!(seen.service, Fact::Known(Service::Running(_))) && seen.answers.known().is_some() {
        seen.answers = Fact::Known(false);
    }
    if !matches!(seen.service, Fact::Known(Service::Running(_))) && seen.rotated.known().is_some() {
        seen.rotated = Fact::Known(false);
    }
    let run_is_up = seen.mounts.known().is_some_and(|up| up.contains_key(&Mount::Run));
    if seen.leftovers == Fact::Known(true) && !run_is_up {
        seen.leftovers = Fact::Known(false);
    }
    seen
}

fn planned(desired: &Desired, present: bool, seen: &Sighting, image: &Fact<Option<ImageId>>) -> WorkspacePlan {
    let wanted = desired.workspaces.values().next().filter(|_| present);
    workspace(wanted, seen, image, &desired.machine)
}

/// Carries a step out on the world, and panics where a real host would refuse it.
fn apply(seen: &mut Sighting, step: &Step) {
    let up = |seen: &Sighting| seen.mounts.known().cloned().expect("planned without seeing the mounts");
    match step {
        Step::UnlinkFront => seen.front = Fact::Known(false),
        Step::Stop => {
            assert!(matches!(
                seen.service,
                Fact::Known(Service::Running(_) | Service::Starting)
            ));
            assert_ne!(seen.front, Fact::Known(true), "stopped while it was on the web");
            seen.service = Fact::Known(Service::Absent);
            seen.answers = Fact::Known(false);
            seen.rotated = Fact::Known(false);
            seen.leftovers = Fact::Known(seen.mounts.known().is_some_and(|up| up.contains_key(&Mount::Run)));
        }
        Step::Unmount(mount) => {
            assert_eq!(
                seen.service,
                Fact::Known(Service::Absent),
                "unmounted under a container"
            );
            let mut up = up(seen);
            assert!(up.remove(mount).is_some(), "{mount:?} was not mounted");
            seen.mounts = Fact::Known(up);
            if *mount == Mount::Run {
                seen.leftovers = Fact::Known(false);
            }
        }
        Step::MakeDirectories(..) => {
            assert_eq!(seen.directories, Fact::Known(Directories::ToMake));
            seen.directories = Fact::Known(Directories::InPlace);
        }
        Step::Mount(mount, spec) => {
            assert_eq!(
                seen.directories,
                Fact::Known(Directories::InPlace),
                "mounted on nothing"
            );
            let mut up = up(seen);
            let before = up.insert(*mount, unit::description(spec).to_owned());
            assert_eq!(before, None, "{mount:?} was mounted twice");
            seen.mounts = Fact::Known(up);
        }
        Step::WriteSecrets(..) => assert_eq!(seen.files, Fact::Known(Vec::new())),
        Step::Start(spec) => {
            assert_eq!(seen.service, Fact::Known(Service::Absent), "a second container");
            assert_eq!(up(seen).len(), MOUNTS.len(), "started without its mounts");
            assert_eq!(seen.leftovers, Fact::Known(false), "started beside an old socket");
            seen.service = Fact::Known(Service::Running(Box::new(Running {
                spec: SpecHash::parse(unit::description(spec)),
                live: live(spec),
                frozen: false,
                main_pid: None,
                started: None,
                oom: None,
            })));
        }
        Step::SetLive(live) => match &mut seen.service {
            Fact::Known(Service::Running(running)) => running.live = live.clone(),
            other => panic!("limits of {other:?}"),
        },
        Step::AwaitReady => seen.answers = Fact::Known(true),
        Step::LinkFront => {
            assert!(matches!(seen.service, Fact::Known(Service::Running(_))));
            assert_eq!(seen.answers, Fact::Known(true), "on the web before it answered");
            seen.front = Fact::Known(true);
        }
    }
}

/// What systemd would show of a service that was started with these properties.
fn live(spec: &crate::model::systemd::UnitSpec) -> Live {
    use crate::model::systemd::Value;
    let number = |key: &str| {
        let found = spec.properties.iter().find_map(|(name, value)| match value {
            Value::U64(number) if *name == key => Some(*number),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{key} is missing"))
    };
    let mut denied = Vec::new();
    for (name, value) in &spec.properties {
        match value {
            Value::Networks(more) if *name == "IPAddressDeny" && more.is_empty() => denied.clear(),
            Value::Networks(more) if *name == "IPAddressDeny" => denied.extend(more.iter().copied()),
            _ => {}
        }
    }
    Live {
        limits: crate::model::config::Limits {
            memory_max: number("MemoryMax"),
            memory_high: number("MemoryHigh"),
            memory_low: number("MemoryLow"),
            cpu_quota_usec: number("CPUQuotaPerSecUSec"),
            cpu_weight: number("CPUWeight"),
            tasks_max: number("TasksMax"),
        },
        denied,
    }
}

fn steps(plan: &WorkspacePlan) -> Vec<String> {
    plan.steps.iter().map(Step::describe).collect()
}

fn has_stop(plan: &WorkspacePlan) -> bool {
    plan.steps.contains(&Step::Stop)
}

/// Every way to lose sight of one fact.
fn blinded(seen: &Sighting, image: &Fact<Option<ImageId>>) -> Vec<(&'static str, Sighting, Fact<Option<ImageId>>)> {
    fn unknown<T>() -> Fact<T> {
        Fact::Unknown(KNOWN_WHY.to_owned())
    }
    let with = |change: fn(&mut Sighting)| {
        let mut seen = seen.clone();
        change(&mut seen);
        (seen, image.clone())
    };
    let mut all: Vec<_> = [
        ("service", with(|seen| seen.service = unknown())),
        ("mounts", with(|seen| seen.mounts = unknown())),
        ("leftovers", with(|seen| seen.leftovers = unknown())),
        ("front", with(|seen| seen.front = unknown())),
        ("answers", with(|seen| seen.answers = unknown())),
        ("account", with(|seen| seen.account = unknown())),
        ("directories", with(|seen| seen.directories = unknown())),
        ("files", with(|seen| seen.files = unknown())),
        ("rotated", with(|seen| seen.rotated = unknown())),
    ]
    .into_iter()
    .map(|(name, (seen, image))| (name, seen, image))
    .collect();
    all.push(("image", seen.clone(), unknown()));
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Also from facts that contradict each other or can't be seen.
    #[test]
    fn every_start_converges((desired, present) in wanted(), seen in sightings(1), image in images(1)) {
        let mut seen = consistent(seen);
        let mut history = Vec::new();
        let mut rounds = 0;
        while rounds < 4 {
            let plan = planned(&desired, present, &seen, &image);
            // A job that is under way ends between two looks; that it failed is the longer way.
            if plan.steps.is_empty() {
                if !matches!(seen.service, Fact::Known(Service::Starting | Service::Stopping)) {
                    break;
                }
                seen.service = Fact::Known(Service::Absent);
                continue;
            }
            rounds += 1;
            history.push(steps(&plan));
            for step in &plan.steps {
                apply(&mut seen, step);
            }
        }
        let last = planned(&desired, present, &seen, &image);
        prop_assert!(last.steps.is_empty(), "still to do: {:?} after {history:?}", steps(&last));
    }

    #[test]
    fn what_can_run_and_should_does_in_the_end((desired, _) in wanted(), seen in sightings(0), digit in "[ab]") {
        let image = Fact::Known(Some(image(digit.chars().next().unwrap())));
        let mut seen = consistent(seen);
        seen.account = Fact::Known(Ok(account("csm-dan")));
        seen.files = Fact::Known(Vec::new());
        if matches!(seen.directories, Fact::Known(Directories::Obstructed(_))) {
            seen.directories = Fact::Known(Directories::ToMake);
        }
        if matches!(seen.service, Fact::Known(Service::Starting | Service::Stopping)) {
            seen.service = Fact::Known(Service::Absent);
        }
        for _ in 0..4 {
            for step in &planned(&desired, true, &seen, &image).steps {
                apply(&mut seen, step);
            }
        }
        let workspace = desired.workspaces.values().next().unwrap();
        match (&seen.service, workspace.should_run()) {
            (Fact::Known(Service::Running(running)), true) => {
                prop_assert_eq!(&running.live, &Live::of(workspace, &desired.machine));
                prop_assert!(running.frozen || seen.answers == Fact::Known(true) && seen.front == Fact::Known(true));
                let (_, spec) = unit::service(workspace, &account("csm-dan"), &desired.machine, image.known().unwrap().as_ref().unwrap());
                prop_assert!(workspace.apply == Apply::Pending || running.spec == Some(spec));
            }
            (Fact::Known(Service::Absent), false) => {
                prop_assert_eq!(&seen.front, &Fact::Known(false));
                let up = seen.mounts.known().unwrap().len();
                prop_assert_eq!(up, if workspace.enabled { MOUNTS.len() } else { 0 });
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn the_same_facts_give_the_same_plan((desired, present) in wanted(), seen in sightings(1), image in images(1)) {
        prop_assert_eq!(planned(&desired, present, &seen, &image), planned(&desired, present, &seen, &image));
    }

    #[test]
    fn an_unseen_service_is_left_alone((desired, present) in wanted(), mut seen in sightings(1), image in images(1)) {
        seen.service = Fact::Unknown(KNOWN_WHY.to_owned());
        let plan = planned(&desired, present, &seen, &image);
        prop_assert_eq!(steps(&plan), Vec::<String>::new());
        prop_assert!(plan.unknown.iter().any(|line| line.contains(KNOWN_WHY)));
    }

    /// Whatever the fact really is, seeing it would have taken away at least as much.
    #[test]
    fn an_unseen_fact_takes_nothing_away((desired, present) in wanted(), seen in sightings(1), image in images(1)) {
        let justified = planned(&desired, present, &seen, &image);
        for (fact, blind, image) in blinded(&seen, &image) {
            let plan = planned(&desired, present, &blind, &image);
            for step in plan.steps.iter().filter(|step| step.takes_away()) {
                prop_assert!(justified.steps.contains(step), "{fact}: {step:?}");
            }
        }
    }

    /// No running editor is stopped for a restart that then can't be.
    #[test]
    fn a_stop_for_a_change_is_followed_by_a_start((mut desired, _) in wanted(), service in services(), seen in sightings(2), image in images(1)) {
        for workspace in desired.workspaces.values_mut() {
            (workspace.enabled, workspace.intent.running, workspace.apply) = (true, true, Apply::Now);
        }
        let mut seen = consistent(Sighting { service: Fact::Known(service), ..seen });
        let plan = planned(&desired, true, &seen, &image);
        if desired.workspaces.values().all(Workspace::should_run) && has_stop(&plan) {
            for step in &plan.steps {
                apply(&mut seen, step);
            }
            let next = planned(&desired, true, &seen, &image);
            prop_assert!(next.starts(), "blocked {:?}, unknown {:?}", next.blocked, next.unknown);
        }
    }

    #[test]
    fn what_should_not_run_is_not_started((desired, present) in wanted(), seen in sightings(1), image in images(1)) {
        let plan = planned(&desired, present, &seen, &image);
        let should_run = present && desired.workspaces.values().all(Workspace::should_run);
        prop_assert!(should_run || !plan.starts());
        prop_assert!(should_run || !plan.steps.iter().any(|step| matches!(step, Step::LinkFront | Step::AwaitReady)));
    }

    #[test]
    fn what_is_not_started_says_why((desired, _) in wanted(), seen in sightings(1), image in images(1)) {
        let plan = planned(&desired, true, &seen, &image);
        let should_run = desired.workspaces.values().all(Workspace::should_run);
        if should_run && seen.service == Fact::Known(Service::Absent) {
            prop_assert!(plan.starts() || !plan.blocked.is_empty() || !plan.unknown.is_empty());
        }
        prop_assert!(plan.blocked.is_empty() || !plan.starts());
        prop_assert!(plan.blocked.is_empty() || !matches!(seen.service, Fact::Known(Service::Running(_))));
    }

    #[test]
    fn a_frozen_editor_is_neither_waited_for_nor_linked((desired, _) in wanted(), seen in sightings(1), image in images(1)) {
        if let Fact::Known(Service::Running(running)) = &seen.service && running.frozen {
            let plan = planned(&desired, true, &seen, &image);
            prop_assert!(!plan.steps.contains(&Step::AwaitReady) && !plan.steps.contains(&Step::LinkFront));
        }
    }

    /// Waiting for a restart is waiting: with `apply = "pending"`, a difference alone stops nothing.
    #[test]
    fn pending_changes_wait((mut desired, _) in wanted(), seen in sightings(1), image in images(1)) {
        for workspace in desired.workspaces.values_mut() {
            workspace.apply = Apply::Pending;
        }
        let plan = planned(&desired, true, &seen, &image);
        prop_assert!(!has_stop(&plan) || !desired.workspaces.values().all(Workspace::should_run));
    }

    #[test]
    fn another_secret_waits_for_a_restart((mut desired, _) in wanted(), service in services(), seen in sightings(1), image in images(1)) {
        for workspace in desired.workspaces.values_mut() {
            (workspace.enabled, workspace.intent.running, workspace.apply) = (true, true, Apply::Pending);
        }
        let runs = matches!(service, Service::Running(_));
        let seen = Sighting { service: Fact::Known(service), rotated: Fact::Known(true), ..seen };
        let plan = planned(&desired, true, &seen, &image);
        prop_assert_eq!(plan.pending.contains(&Part::Secrets), runs);
        prop_assert!(!has_stop(&plan));
    }

    /// A running workspace says what will keep it from being started again.
    #[test]
    fn what_ails_a_running_workspace_is_told((mut desired, _) in wanted(), service in services(), seen in sightings(1), image in images(1)) {
        for workspace in desired.workspaces.values_mut() {
            (workspace.enabled, workspace.intent.running) = (true, true);
        }
        let runs = matches!(service, Service::Running(_));
        let seen = Sighting { service: Fact::Known(service), files: Fact::Known(vec![trouble("secret-unusable")]), ..seen };
        let plan = planned(&desired, true, &seen, &image);
        prop_assert_eq!(plan.ailing.len(), usize::from(runs));
    }
}

#[test]
fn the_image_is_fetched_only_as_the_configuration_says() {
    let mut desired = desired("");
    let seen = |image| HostSighting { image };
    let missing = seen(Fact::Known(None));
    let (steps, trouble) = host(&desired, &missing);
    assert_eq!((steps.len(), trouble.unwrap().code), (0, "image-missing"));
    desired.image.pull = Pull::Missing;
    assert_eq!(host(&desired, &missing), (vec![HostStep::PullImage], None));
    desired.image.archive = Some("/srv/image.tar".into());
    assert_eq!(host(&desired, &missing), (vec![HostStep::LoadImage], None));
    for there in [Fact::Known(Some(image('a'))), Fact::Unknown(KNOWN_WHY.to_owned())] {
        assert_eq!(host(&desired, &seen(there)), (Vec::new(), None));
    }
}

/// The engine can't say whose the directories should be then; the start was waited for as if it were under way.
#[test]
fn an_account_that_is_not_right_blocks_although_its_directories_could_not_be_seen() {
    let desired = desired("[workspaces.dan]\n");
    let workspace = desired.workspaces.values().next().unwrap();
    let seen = Sighting {
        service: Fact::Known(Service::Absent),
        mounts: Fact::Known(BTreeMap::new()),
        front: Fact::Known(false),
        account: Fact::Known(Err(AccountProblem::Missing(workspace.account.clone()))),
        directories: Fact::Unknown("the account is not known".to_owned()),
        files: Fact::Known(Vec::new()),
        rotated: Fact::Known(false),
        answers: Fact::Known(false),
        leftovers: Fact::Known(false),
    };
    let plan = self::workspace(Some(workspace), &seen, &Fact::Known(Some(image('a'))), &desired.machine);
    assert_eq!(plan.blocked[0].code, "account-missing");
    assert!(plan.steps.is_empty() && plan.unknown.is_empty());
}
