//! STATS: what a workspace uses, as the kernel counts it for the workspace's unit (cgroups(7)). Read from the unit's cgroup
//! files when somebody asks, and never otherwise: D-Bus has fewer of these numbers, and PID 1 would read the same files.
//!
//! The account may make cgroups below the unit's, but nothing else: a cgroup file system has no links and no files of users,
//! so that these paths lead to the kernel's own files whoever owns the directory.

use crate::model::oom::Oom;
use crate::model::unit;

/// What the kernel counts of a unit that runs. Nothing where it doesn't, which is not zero: the host may lack the
/// controller, or the kernel pressure stall information.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// Processor time since the unit was started.
    pub cpu_usec: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub memory_peak_bytes: Option<u64>,
    pub tasks: Option<u64>,
    pub oom: Option<Oom>,
    /// Per cent of the last ten seconds in which something had to wait for it.
    pub pressure_cpu: Option<f64>,
    pub pressure_memory: Option<f64>,
    pub pressure_io: Option<f64>,
}

/// Looks at a service of ours; nothing when it doesn't run.
pub fn look(service: &str) -> Option<Counts> {
    std::fs::metadata(path(service, "")).ok()?;
    let number = |file: &str| read(service, file)?.trim().parse().ok();
    let pressure = |file: &str| waited(&read(service, file)?);
    Some(Counts {
        cpu_usec: read(service, "cpu.stat").and_then(|text| keyed(&text, "usage_usec")),
        memory_bytes: memory(service),
        memory_peak_bytes: number("memory.peak"),
        tasks: number("pids.current"),
        oom: oom(service),
        pressure_cpu: pressure("cpu.pressure"),
        pressure_memory: pressure("memory.pressure"),
        pressure_io: pressure("io.pressure"),
    })
}

/// Bytes in use; nothing where the service doesn't run or the kernel doesn't count.
pub fn memory(service: &str) -> Option<u64> {
    read(service, "memory.current")?.trim().parse().ok()
}

pub fn oom(service: &str) -> Option<Oom> {
    let text = read(service, MEMORY_EVENTS)?;
    Some(Oom {
        kills: keyed(&text, "oom_kill")?,
        at_limit: keyed(&text, "oom")?,
    })
}

const MEMORY_EVENTS: &str = "memory.events";

/// Where the kernel tells of a service's want of memory: it marks the file as modified (cgroups(7), inotify(7)).
pub fn memory_events(service: &str) -> std::path::PathBuf {
    path(service, MEMORY_EVENTS).into()
}

fn path(service: &str, file: &str) -> String {
    format!("/sys/fs/cgroup/{}/{service}/{file}", unit::SLICE)
}

/// A file of a service's cgroup; nothing where there is none.
pub(crate) fn read(service: &str, file: &str) -> Option<String> {
    std::fs::read_to_string(path(service, file)).ok()
}

/// The number in a line `KEY NUMBER`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(own, _)| *own == key)?.1.parse().ok()
}

/// `avg10` of the line `some` (the kernel's accounting/psi).
fn waited(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ')
        .find_map(|word| word.strip_prefix("avg10="))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_key() {
        let text = "low 0\nhigh 7\nmax 3\noom 2\noom_kill 1\noom_group_kill 0\n";
        for (key, number) in [
            ("low", Some(0)),
            ("oom", Some(2)),
            ("oom_kill", Some(1)),
            ("kill", None),
            ("", None),
        ] {
            assert_eq!(keyed(text, key), number, "{key}");
        }
        for text in [
            "",
            "oom_kill",
            "oom_kill ",
            "oom_kill many",
            "oom_kill -1",
            "oom_kill 1 2",
        ] {
            assert_eq!(keyed(text, "oom_kill"), None, "{text}");
        }
    }

    #[test]
    fn pressure_is_what_some_had_to_wait_for() {
        let text = "some avg10=1.53 avg60=0.80 avg300=0.20 total=12\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=3\n";
        for (text, waits) in [
            (text, Some(1.53)),
            ("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", Some(0.0)),
            ("full avg10=0.50 avg60=0.00 avg300=0.00 total=3\n", None),
            ("some avg60=0.80\n", None),
            ("", None),
        ] {
            assert_eq!(waited(text), waits, "{text}");
        }
    }

    #[test]
    fn what_does_not_run_has_no_numbers() {
        assert_eq!(look("csm-nobody-of-that-name.service"), None);
        assert_eq!(oom("csm-nobody-of-that-name.service"), None);
    }
}
