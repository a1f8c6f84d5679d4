//! What the kernel counts for the whole machine, whoever takes it: whether one workspace's share leaves something to the others
//! (docs/security.md, A42).

use std::collections::BTreeMap;

use crate::model::config::Config;
use crate::model::doctor::Finding;
use crate::model::plan::Fact;
use crate::model::podman::{CONNECTIONS, TERMINALS};

/// What is read below /proc/sys, by its names there.
pub const NAMES: [&str; 11] = [
    PTY_MAX,
    PTY_RESERVE,
    THREADS,
    PIDS,
    NEIGHBOURS,
    TCP,
    UDP,
    HUGE,
    OVERCOMMIT,
    OOM_DUMP,
    PORTS,
];
const PTY_MAX: &str = "kernel.pty.max";
const PTY_RESERVE: &str = "kernel.pty.reserve";
const THREADS: &str = "kernel.threads-max";
const PIDS: &str = "kernel.pid_max";
const NEIGHBOURS: &str = "net.ipv6.neigh.default.gc_thresh3";
const TCP: &str = "net.ipv4.tcp_mem";
const UDP: &str = "net.ipv4.udp_mem";
const HUGE: &str = "vm.nr_hugepages";
const OVERCOMMIT: &str = "vm.overcommit_memory";
const OOM_DUMP: &str = "vm.oom_dump_tasks";
const PORTS: &str = "net.ipv4.ip_local_port_range";

/// So many that the kernel forgets them sooner than one workspace can think of more addresses of its network.
const NEIGHBOURS_LEAST: u64 = 262_144;
/// The most of these ports that a setting can give, without those that services usually have.
const PORTS_MOST: u64 = 49_152;
const SYSTEM_PORTS: u64 = 4096;
/// Left to whatever is not a workspace.
const SYSTEM_TASKS: u64 = 4096;
/// tcp(7), udp(7): counted in these.
const PAGE: u64 = 4096;

/// What each of [`NAMES`] says; nothing where this kernel, or this part of it, has no such thing.
pub type Facts = Fact<BTreeMap<&'static str, String>>;

pub fn examine(facts: &Facts, config: Option<&Config>) -> Vec<Finding> {
    let counts = match facts {
        Fact::Known(counts) => counts,
        Fact::Unknown(why) => return vec![Finding::unseen("kernel-counts", "what the kernel counts for all", why)],
    };
    let warn = |(what, setting): (String, String)| {
        Finding::warn(
            "kernel-counts",
            what,
            format!("write {setting} into /etc/sysctl.d/60-code-server-multi.conf, then: sysctl --system"),
        )
    };
    let findings: Vec<Finding> = wrong(counts, config).into_iter().map(warn).collect();
    if findings.is_empty() {
        return vec![Finding::ok(
            "kernel-counts",
            "what the kernel counts for all is enough for every workspace's share",
        )];
    }
    findings
}

/// What is too little, with the setting that mends it.
fn wrong(counts: &BTreeMap<&'static str, String>, config: Option<&Config>) -> Vec<(String, String)> {
    let number = |name: &str, word: usize| counts.get(name)?.split_whitespace().nth(word)?.parse::<u64>().ok();
    let enabled = || {
        let all = config.into_iter().flat_map(|config| config.workspaces.values());
        all.filter(|workspace| workspace.enabled)
    };
    let workspaces = u64::try_from(enabled().count()).unwrap_or(u64::MAX);
    let mut wrong = Vec::new();
    let mut say = |what: String, setting: String| wrong.push((what, setting));

    if let (Some(most), Some(reserve)) = (number(PTY_MAX, 0), number(PTY_RESERVE, 0)) {
        let needed = reserve.saturating_add(workspaces.saturating_mul(u64::from(TERMINALS)));
        if most < needed {
            let what = format!(
                "{workspaces} workspaces may have {TERMINALS} terminals each, more than the {} that this machine has for them",
                most.saturating_sub(reserve)
            );
            say(what, format!("{PTY_MAX} = {needed}"));
        }
    }
    let tasks: u64 = enabled().map(|workspace| workspace.limits.tasks_max).sum();
    for name in [THREADS, PIDS] {
        let needed = tasks.saturating_add(SYSTEM_TASKS);
        if number(name, 0).is_some_and(|most| tasks > 0 && most < needed) {
            let what = format!(
                "workspaces may have {tasks} processes and threads together, and with those of the system that is more than {name} allows"
            );
            say(what, format!("{name} = {needed}"));
        }
    }
    if number(NEIGHBOURS, 0).is_some_and(|most| most < NEIGHBOURS_LEAST) {
        let what = "a workspace that asks for thousands of IPv6 addresses in its network can fill the kernel's table of neighbours for \
                    everybody";
        let half = NEIGHBOURS_LEAST / 2;
        say(
            what.to_owned(),
            format!("{NEIGHBOURS} = {NEIGHBOURS_LEAST} and net.ipv6.neigh.default.gc_thresh2 = {half}"),
        );
    }
    let largest = enabled().map(|workspace| workspace.limits.memory_max).max();
    for name in [TCP, UDP] {
        let pages = largest.map(|bytes| bytes.div_ceil(PAGE).saturating_add(1));
        if let (Some(most), Some(needed)) = (number(name, 2), pages)
            && most < needed
        {
            let what = format!(
                "one workspace's memory_limit is more than all sockets of the machine may hold by {name}, so it can slow down everybody's"
            );
            let low = needed / 2;
            say(what, format!("{name} = {low} {} {needed}", needed / 4 * 3));
        }
    }
    if let (Some(first), Some(last)) = (number(PORTS, 0), number(PORTS, 1)) {
        let have = last.saturating_add(1).saturating_sub(first);
        let taken = workspaces.saturating_mul(u64::from(CONNECTIONS));
        if have < PORTS_MOST && have < taken.saturating_add(SYSTEM_PORTS) {
            let what = format!(
                "{workspaces} workspaces may hold {CONNECTIONS} ports each for what they send, and this machine has {have} for all"
            );
            say(what, format!("{PORTS} = 16384 65535"));
        }
    }
    if number(HUGE, 0).is_some_and(|pages| pages > 0) {
        let what = "any workspace can take the huge pages that are set aside on this machine, beside its memory_limit";
        say(what.to_owned(), format!("{HUGE} = 0"));
    }
    if number(OVERCOMMIT, 0) == Some(2) {
        let what = "with vm.overcommit_memory = 2 a workspace can reserve all of the machine's memory without using it";
        say(what.to_owned(), format!("{OVERCOMMIT} = 0"));
    }
    if number(OOM_DUMP, 0).is_some_and(|dumps| dumps != 0) {
        let what = "each time that the kernel ends a process for want of memory it logs every other one of the workspace, which can push \
                    older entries out of the journal";
        say(what.to_owned(), format!("{OOM_DUMP} = 0"));
    }
    wrong
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::model::doctor::tests::{config, wrong};

    const GOOD: [(&str, &str); 11] = [
        (PTY_MAX, "4096"),
        (PTY_RESERVE, "1024"),
        (THREADS, "63000"),
        (PIDS, "4194304"),
        (NEIGHBOURS, "262144"),
        (TCP, "1048576\t2097152\t3145728"),
        (UDP, "1048576\t2097152\t3145728"),
        (HUGE, "0"),
        (OVERCOMMIT, "0"),
        (OOM_DUMP, "0"),
        (PORTS, "32768\t60999"),
    ];

    pub fn good() -> Facts {
        Fact::Known(GOOD.map(|(name, text)| (name, text.to_owned())).into())
    }

    /// What is found where one count is another.
    fn with(name: &'static str, text: &str, config: &Config) -> Vec<Finding> {
        let Fact::Known(mut counts) = good() else {
            return Vec::new();
        };
        counts.insert(name, text.to_owned());
        examine(&Fact::Known(counts), Some(config))
    }

    #[test]
    fn each_count_that_is_too_small_is_found_alone() {
        let three = config("[workspaces.dan]\n[workspaces.alice]\n[workspaces.sam]\n");
        assert_eq!(wrong(&examine(&good(), Some(&three))), [""; 0]);
        for (name, text, setting) in [
            (PTY_MAX, "1400", "write kernel.pty.max = 1408 into"),
            (PTY_RESERVE, "4000", "write kernel.pty.max = 4384 into"),
            (THREADS, "12000", "write kernel.threads-max = 16384 into"),
            (PIDS, "16000", "write kernel.pid_max = 16384 into"),
            (
                NEIGHBOURS,
                "1024",
                "write net.ipv6.neigh.default.gc_thresh3 = 262144 and",
            ),
            // 3G in pages.
            (
                TCP,
                "94053\t125404\t188106",
                "write net.ipv4.tcp_mem = 393216 589824 786433 into",
            ),
            (
                UDP,
                "188109\t250812\t376218",
                "write net.ipv4.udp_mem = 393216 589824 786433 into",
            ),
            (HUGE, "512", "write vm.nr_hugepages = 0 into"),
            (OVERCOMMIT, "2", "write vm.overcommit_memory = 0 into"),
            (OOM_DUMP, "1", "write vm.oom_dump_tasks = 0 into"),
            (
                PORTS,
                "50000\t60999",
                "write net.ipv4.ip_local_port_range = 16384 65535 into",
            ),
        ] {
            let found = with(name, text, &three);
            assert_eq!(wrong(&found), ["warn kernel-counts"], "{name}");
            assert!(found[0].fix.starts_with(setting), "{}", found[0].fix);
        }
    }

    /// A container of a machine has some of them and not others.
    #[test]
    fn what_is_not_there_is_nothing_to_mend() {
        assert_eq!(wrong(&examine(&Fact::Known(BTreeMap::new()), None)), [""; 0]);
        assert_eq!(
            wrong(&examine(&Fact::Unknown("no /proc".into()), None)),
            ["warn kernel-counts"]
        );
    }

    #[test]
    fn what_is_off_counts_for_nothing() {
        let one = config("[workspaces.dan]\n[workspaces.sam]\nenabled = false\n");
        assert_eq!(wrong(&with(PTY_MAX, "1152", &one)), [""; 0]);
        assert_eq!(wrong(&with(PTY_MAX, "1151", &one)), ["warn kernel-counts"]);
    }
}
