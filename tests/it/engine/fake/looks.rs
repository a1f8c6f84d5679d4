//! What a daemon sees of that world.

use code_server_multi::model::config::Limits;
use code_server_multi::model::desired::Workspace;
use code_server_multi::model::names::WorkspaceName;
use code_server_multi::model::oom::Oom;
use code_server_multi::model::plan::{Directories, Fact, Running, Service, Sighting};
use code_server_multi::model::systemd::{UnitSpec, Value};
use code_server_multi::model::unit::{self, Live, SpecHash};
use tokio::time::Instant;

use super::world::{Editor, Place, Unit, account};

/// `looks` is how often anybody looked: some counter of the kernel's is another one each time.
pub fn sighting(place: &Place, name: &WorkspaceName, wanted: Option<&Workspace>, looks: u64) -> Sighting {
    let service = match &place.unit {
        Unit::Absent => Service::Absent,
        Unit::Starting { .. } => Service::Starting,
        Unit::Stopping => Service::Stopping,
        Unit::Running(editor) => Service::Running(Box::new(Running {
            spec: editor.spec.clone(),
            live: editor.live.clone(),
            frozen: editor.frozen,
            main_pid: Some(4711),
            started: Some(editor.job),
            oom: Some(Oom {
                kills: editor.kills,
                at_limit: editor.kills + looks,
            }),
        })),
    };
    let answers =
        matches!(&place.unit, Unit::Running(editor) if !editor.frozen && editor.answers_from <= Instant::now());
    let unseen = || "not in the configuration".to_owned();
    Sighting {
        leftovers: Fact::Known(service == Service::Absent && place.leftovers),
        service: Fact::Known(service),
        mounts: Fact::Known(place.mounts.clone()),
        front: Fact::Known(place.front),
        answers: Fact::Known(answers),
        account: wanted.map_or_else(|| Fact::Unknown(unseen()), |_| Fact::Known(Ok(account(name)))),
        directories: wanted.map_or_else(
            || Fact::Unknown(unseen()),
            |_| {
                Fact::Known(if place.home {
                    Directories::InPlace
                } else {
                    Directories::ToMake
                })
            },
        ),
        files: Fact::Known(place.files.clone()),
        rotated: Fact::Known(false),
    }
}

/// One fact after the other is lost, as the calls go on.
pub fn blind(seen: &mut Sighting, calls: u64) {
    fn unknown<T>() -> Fact<T> {
        Fact::Unknown("a fault was asked for".to_owned())
    }
    match calls % 9 {
        0 => (seen.service, seen.mounts) = (unknown(), unknown()),
        1 => seen.service = unknown(),
        2 => seen.leftovers = unknown(),
        3 => seen.front = unknown(),
        4 => seen.answers = unknown(),
        5 => (seen.account, seen.directories) = (unknown(), unknown()),
        6 => seen.directories = unknown(),
        7 => seen.rotated = unknown(),
        _ => seen.files = unknown(),
    }
}

/// What systemd makes of a service's properties.
pub fn editor(spec: &UnitSpec, job: u64) -> Editor {
    let number = |key: &str| {
        let found = spec.properties.iter().find_map(|(name, value)| match value {
            Value::U64(number) if *name == key => Some(*number),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{key} is missing"))
    };
    let denied = spec.properties.iter().rev().find_map(|(name, value)| match value {
        Value::Networks(networks) if *name == "IPAddressDeny" => Some(networks.clone()),
        _ => None,
    });
    let limits = Limits {
        memory_max: number("MemoryMax"),
        memory_high: number("MemoryHigh"),
        memory_low: number("MemoryLow"),
        cpu_quota_usec: number("CPUQuotaPerSecUSec"),
        cpu_weight: number("CPUWeight"),
        tasks_max: number("TasksMax"),
    };
    Editor {
        spec: SpecHash::parse(unit::description(spec)),
        live: Live {
            limits,
            denied: denied.unwrap_or_default(),
        },
        frozen: false,
        kills: 0,
        answers_from: Instant::now(),
        job,
    }
}
