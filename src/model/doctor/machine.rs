//! The machine itself: versions, programs, controllers, memory, file systems.

use crate::model::config::Config;
use crate::model::doctor::versions::{KERNEL, NGINX, PODMAN, SYSTEMD, UTIL_LINUX};
use crate::model::doctor::{Finding, seen};
use crate::model::plan::Fact;
use crate::model::size::format_bytes_rounded;

#[derive(Debug, Clone)]
pub struct Facts {
    /// What `uname -r` says.
    pub kernel: Fact<String>,
    /// What each program says of its version; nothing when it is not installed.
    pub systemd: Fact<Option<String>>,
    pub util_linux: Fact<Option<String>>,
    pub podman: Fact<Option<String>>,
    pub nginx: Fact<Option<String>>,
    /// Podman is built to find its helpers itself (as Nix does), whether or not they are seen from here.
    pub bundled: bool,
    /// What `pasta --help` says.
    pub pasta: Fact<Option<String>>,
    /// Whether Podman finds it.
    pub crun: Fact<bool>,
    pub catatonit: Fact<bool>,
    pub newuidmap: Fact<IdHelper>,
    pub newgidmap: Fact<IdHelper>,
    /// `cgroup.controllers` of the unified hierarchy's root; nothing without that hierarchy.
    pub controllers: Fact<Option<String>>,
    /// `/proc/meminfo`.
    pub memory: Fact<String>,
    pub directories: Vec<Directory>,
}

/// newuidmap(1), newgidmap(1): they write id maps for accounts that may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdHelper {
    Missing,
    /// Neither setuid root nor with file capabilities.
    Powerless,
    Able,
}

/// Where data of workspaces is, or will be.
#[derive(Debug, Clone)]
pub struct Directory {
    pub path: String,
    /// `f_type` of statfs(2).
    pub kind: Fact<u64>,
    pub free: Fact<u64>,
    /// Less than this is too little.
    pub least: u64,
}

/// Options by which pasta keeps a workspace away from this host.
const PASTA_OPTIONS: [&str; 2] = ["--map-guest-addr", "--map-host-loopback"];

/// Left to everything that is not a workspace.
const SYSTEM_MEMORY: u64 = 1 << 30;

pub fn examine(facts: &Facts, config: Option<&Config>) -> Vec<Finding> {
    let kernel = match &facts.kernel {
        Fact::Known(text) => Fact::Known(Some(text.clone())),
        Fact::Unknown(why) => Fact::Unknown(why.clone()),
    };
    let mut findings = vec![
        KERNEL.check(&kernel),
        SYSTEMD.check(&facts.systemd),
        UTIL_LINUX.check(&facts.util_linux),
        PODMAN.check(&facts.podman),
        NGINX.check(&facts.nginx),
        pasta(&facts.pasta, facts.bundled),
        program(&facts.crun, facts.bundled, "crun", "runs the containers"),
        program(
            &facts.catatonit,
            facts.bundled,
            "catatonit",
            "is process 1 of a workspace and reaps what its shells leave",
        ),
        id_helper(&facts.newuidmap, "newuidmap"),
        id_helper(&facts.newgidmap, "newgidmap"),
        controllers(&facts.controllers),
        memory(&facts.memory, config),
    ];
    findings.extend(facts.directories.iter().flat_map(directory));
    findings
}

fn pasta(fact: &Fact<Option<String>>, bundled: bool) -> Finding {
    const FIX: &str = "install it (Debian: apt-get install passt), or upgrade the distribution: Debian 13 has it";
    match seen(fact, "pasta", "pasta") {
        Err(finding) => finding,
        Ok(None) if bundled => Finding::ok("pasta", "Podman brings its own pasta"),
        Ok(None) => Finding::fail(
            "pasta",
            "pasta, which gives workspaces their network, is not installed",
            FIX,
        ),
        Ok(Some(help)) => match PASTA_OPTIONS.iter().find(|option| !help.contains(**option)) {
            None => Finding::ok("pasta", "pasta can keep workspaces away from this host"),
            Some(option) => Finding::fail("pasta", format!("pasta is too old: it has no {option}"), FIX),
        },
    }
}

fn program(fact: &Fact<bool>, bundled: bool, name: &'static str, purpose: &str) -> Finding {
    match seen(fact, name, name) {
        Err(finding) => finding,
        Ok(true) => Finding::ok(name, format!("{name} is there")),
        Ok(false) if bundled => Finding::ok(name, format!("Podman brings its own {name}")),
        Ok(false) => Finding::fail(
            name,
            format!("{name}, which {purpose}, is not installed"),
            format!("install it (Debian: apt-get install {name})"),
        ),
    }
}

fn id_helper(fact: &Fact<IdHelper>, name: &'static str) -> Finding {
    match seen(fact, name, name) {
        Err(finding) => finding,
        Ok(IdHelper::Able) => Finding::ok(name, format!("{name} may write id maps")),
        Ok(IdHelper::Missing) => Finding::fail(
            name,
            format!("{name}, which gives a container its ids, is not installed"),
            "install it (Debian: apt-get install uidmap)",
        ),
        Ok(IdHelper::Powerless) => Finding::fail(
            name,
            format!("{name} is neither setuid root nor has file capabilities, so it can't write id maps"),
            format!(
                "reinstall it (Debian: apt-get install --reinstall uidmap), or: chmod u+s \"$(command -v {name})\""
            ),
        ),
    }
}

fn controllers(fact: &Fact<Option<String>>) -> Finding {
    const FIX: &str = "boot with the unified cgroup hierarchy and without cgroup_disable=: on the kernel's command line \
                       systemd.unified_cgroup_hierarchy=1, on some small boards also cgroup_enable=memory";
    let present = match seen(fact, "controllers", "the cgroup controllers") {
        Err(finding) => return finding,
        Ok(None) => {
            return Finding::fail(
                "controllers",
                "there is no unified cgroup hierarchy on /sys/fs/cgroup",
                FIX,
            );
        }
        Ok(Some(text)) => text,
    };
    let missing: Vec<&str> = ["memory", "cpu", "pids"]
        .into_iter()
        .filter(|name| !present.split_whitespace().any(|one| one == *name))
        .collect();
    if missing.is_empty() {
        return Finding::ok("controllers", "cgroup controllers memory, cpu and pids");
    }
    let what = format!(
        "no cgroup controller for {}: limits of workspaces do not hold",
        missing.join(", ")
    );
    Finding::fail("controllers", what, FIX)
}

fn memory(fact: &Fact<String>, config: Option<&Config>) -> Finding {
    let total = match seen(fact, "memory", "the memory") {
        Err(finding) => return finding,
        Ok(text) => total(text),
    };
    let Some(total) = total else {
        return Finding::unseen("memory", "the memory", "/proc/meminfo has no MemTotal");
    };
    let size = format_bytes_rounded;
    let enabled = config
        .iter()
        .flat_map(|config| &config.workspaces)
        .filter(|(_, workspace)| workspace.enabled);
    let limits: u64 = enabled.map(|(_, workspace)| workspace.limits.memory_max).sum();
    let wanted = limits.saturating_add(SYSTEM_MEMORY);
    if limits > 0 && wanted > total {
        return Finding::warn(
            "memory",
            format!(
                "hard limits of {} and {} for the system are more than the {} of this machine",
                size(limits),
                size(SYSTEM_MEMORY),
                size(total)
            ),
            "lower memory_limit of some workspaces, or accept that they are slowed down and killed when all are busy at once",
        );
    }
    Finding::ok(
        "memory",
        format!("{} of memory, {} of it in hard limits", size(total), size(limits)),
    )
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// File systems by magic(7) that are known to take idmapped mounts, since kernels older than the least one above or,
/// for ZFS and bcachefs, since their own first versions in use.
const IDMAPPABLE: [(u64, &str); 6] = [
    (0xef53, "ext4"),
    (0x5846_5342, "XFS"),
    (0x9123_683e, "Btrfs"),
    (0xf2f5_2010, "F2FS"),
    (0x2fc1_2fc1, "ZFS"),
    (0xca45_1a4e, "bcachefs"),
];
const TMPFS: u64 = 0x0102_1994;
const NOT_IDMAPPABLE: [(u64, &str); 4] = [
    (0x794c_7630, "overlayfs"),
    (0x6969, "NFS"),
    (0x6573_5546, "FUSE"),
    (0xff53_4d42, "CIFS"),
];

fn directory(directory: &Directory) -> Vec<Finding> {
    const FIX: &str = "put it on a disk with ext4, XFS or Btrfs";
    let path = &directory.path;
    let named = |list: &[(u64, &'static str)], magic| list.iter().find(|(one, _)| *one == magic).map(|(_, name)| *name);
    let kind = match seen(&directory.kind, "file-system", &format!("the file system of {path}")) {
        Err(finding) => finding,
        Ok(&TMPFS) => Finding::warn(
            "file-system",
            format!("{path} is on tmpfs, so a reboot loses what is in it"),
            FIX,
        ),
        Ok(&magic) => match (named(&IDMAPPABLE, magic), named(&NOT_IDMAPPABLE, magic)) {
            (Some(name), _) => Finding::ok("file-system", format!("{path} is on {name}")),
            (_, Some(name)) => Finding::fail(
                "file-system",
                format!("{path} is on {name}, which takes no idmapped mounts"),
                FIX,
            ),
            _ => Finding::warn(
                "file-system",
                format!("{path} is on a file system ({magic:#x}) not known to take idmapped mounts"),
                FIX,
            ),
        },
    };
    let space = match seen(&directory.free, "disk-space", &format!("the space below {path}")) {
        Err(finding) => finding,
        Ok(free) if *free < directory.least => Finding::warn(
            "disk-space",
            format!(
                "{} are free below {path}, less than {}",
                format_bytes_rounded(*free),
                format_bytes_rounded(directory.least)
            ),
            "make room, or move it to a larger disk",
        ),
        Ok(free) => Finding::ok(
            "disk-space",
            format!("{} free below {path}", format_bytes_rounded(*free)),
        ),
    };
    vec![kind, space]
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::model::doctor::tests::{config, wrong};

    fn text(text: &str) -> Fact<Option<String>> {
        Fact::Known(Some(text.to_owned()))
    }

    /// Debian 13.
    pub fn good() -> Facts {
        Facts {
            kernel: Fact::Known("6.12.43+deb13-amd64".into()),
            systemd: text("systemd 257 (257.8-1~deb13u2)\n+PAM +AUDIT"),
            util_linux: text("mount from util-linux 2.41 (libmount 2.41: selinux, idmapping)"),
            podman: text("podman version 5.4.2"),
            nginx: text("nginx version: nginx/1.26.3"),
            bundled: false,
            pasta: text("  --map-host-loopback ADDR\n  --map-guest-addr ADDR\n"),
            crun: Fact::Known(true),
            catatonit: Fact::Known(true),
            newuidmap: Fact::Known(IdHelper::Able),
            newgidmap: Fact::Known(IdHelper::Able),
            controllers: text("cpuset cpu io memory hugetlb pids rdma misc\n"),
            memory: Fact::Known("MemTotal:        8131072 kB\nMemFree: 1 kB\n".into()),
            directories: vec![Directory {
                path: "/var/lib/vscode".into(),
                kind: Fact::Known(0xef53),
                free: Fact::Known(100 << 30),
                least: 1 << 30,
            }],
        }
    }

    #[test]
    fn debian_13_is_fine() {
        let findings = examine(&good(), Some(&config("[workspaces.dan]\n[workspaces.alice]\n")));
        assert_eq!(wrong(&findings), [""; 0]);
        let said: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(
            said[..5],
            [
                "Linux 6.12.43",
                "systemd 257",
                "util-linux 2.41",
                "Podman 5.4.2",
                "nginx 1.26.3"
            ]
        );
        assert!(said.contains(&"7.7G of memory, 6G of it in hard limits"), "{said:?}");
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    #[test]
    fn each_thing_that_is_missing_or_old_is_found_alone() {
        type Break = fn(&mut Facts);
        let cases: Vec<(Break, &str, &str)> = vec![
            (
                |f| f.kernel = Fact::Known("5.15.0-119-generic".into()),
                "fail kernel",
                "Linux 5.15.0 is older than 5.19",
            ),
            (
                |f| f.systemd = text("systemd 252 (252.39-1~deb12u1)"),
                "fail systemd",
                "systemd 252 is older than 255",
            ),
            (
                |f| f.util_linux = text("mount from util-linux 2.38.1"),
                "fail util-linux",
                "2.38.1 is older than 2.39",
            ),
            (
                |f| f.podman = text("podman version 4.9.3"),
                "fail podman",
                "Podman 4.9.3 is older than 5",
            ),
            (
                |f| f.podman = Fact::Known(None),
                "fail podman",
                "Podman is not installed",
            ),
            (
                |f| f.nginx = text("nginx version: nginx/1.25.0"),
                "fail nginx",
                "older than 1.25.1",
            ),
            (
                |f| f.nginx = text("nginx version: ?"),
                "warn nginx",
                "no version that can be read",
            ),
            (|f| f.pasta = Fact::Known(None), "fail pasta", "not installed"),
            (
                |f| f.pasta = text("--map-host-loopback"),
                "fail pasta",
                "it has no --map-guest-addr",
            ),
            (|f| f.crun = Fact::Known(false), "fail crun", "runs the containers"),
            (|f| f.catatonit = Fact::Known(false), "fail catatonit", "process 1"),
            (
                |f| f.newuidmap = Fact::Known(IdHelper::Missing),
                "fail newuidmap",
                "not installed",
            ),
            (
                |f| f.newgidmap = Fact::Known(IdHelper::Powerless),
                "fail newgidmap",
                "setuid",
            ),
            (
                |f| f.controllers = text("cpuset cpu io pids"),
                "fail controllers",
                "for memory:",
            ),
            (
                |f| f.controllers = text("cpuset cpuacct"),
                "fail controllers",
                "for memory, cpu, pids:",
            ),
            (
                |f| f.controllers = Fact::Known(None),
                "fail controllers",
                "no unified cgroup hierarchy",
            ),
            (
                |f| f.memory = Fact::Known("MemTotal: 4000000 kB".into()),
                "warn memory",
                "limits of 3G and 1G for",
            ),
            (
                |f| f.memory = Fact::Known("nonsense".into()),
                "warn memory",
                "no MemTotal",
            ),
            (
                |f| f.directories[0].kind = Fact::Known(0x794c_7630),
                "fail file-system",
                "overlayfs",
            ),
            (
                |f| f.directories[0].kind = Fact::Known(TMPFS),
                "warn file-system",
                "a reboot loses",
            ),
            (
                |f| f.directories[0].kind = Fact::Known(0x1234),
                "warn file-system",
                "(0x1234)",
            ),
            (
                |f| f.directories[0].free = Fact::Known(1 << 20),
                "warn disk-space",
                "1M are free",
            ),
            (
                |f| f.kernel = Fact::Unknown("no /proc".into()),
                "warn kernel",
                "could not be checked: no /proc",
            ),
            (
                |f| f.crun = Fact::Unknown("denied".into()),
                "warn crun",
                "could not be checked: denied",
            ),
        ];
        let config = config("[workspaces.dan]\n");
        for (break_it, expected, words) in cases {
            let mut facts = good();
            break_it(&mut facts);
            let findings = examine(&facts, Some(&config));
            assert_eq!(wrong(&findings), [expected]);
            let finding = findings.iter().find(|finding| !finding.fix.is_empty()).unwrap();
            assert!(finding.what.contains(words), "{:?} has no {words:?}", finding.what);
        }
    }

    #[test]
    fn a_podman_that_brings_its_helpers_needs_none_on_the_path() {
        let mut facts = good();
        facts.bundled = true;
        (facts.crun, facts.catatonit, facts.pasta) = (Fact::Known(false), Fact::Known(false), Fact::Known(None));
        assert_eq!(wrong(&examine(&facts, None)), [""; 0]);
    }

    #[test]
    fn disabled_workspaces_take_no_memory() {
        let config = config("[workspaces.dan]\n[workspaces.eve]\nenabled = false\nmemory_limit = \"64G\"\n");
        assert_eq!(wrong(&examine(&good(), Some(&config))), [""; 0]);
    }
}
