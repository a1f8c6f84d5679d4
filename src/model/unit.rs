//! UNITS: a workspace as transient systemd units: its mounts and its service, with their names, properties and limits
//! (systemd.service(5), systemd.resource-control(5), systemd.mount(5)).

use std::fmt::Write as _;
use std::net::IpAddr;

use blake2::{Blake2s256, Digest};

use crate::model::account::Account;
use crate::model::config::Limits;
use crate::model::desired::{Machine, Workspace};
use crate::model::layout::Places;
use crate::model::names::{ImageId, WorkspaceName};
use crate::model::network;
use crate::model::podman;
use crate::model::systemd::{ANY_LINE, UnitSpec, Value, exec, path_unit_name};

pub const SLICE: &str = "csm.slice";

/// Where journald keeps what containers print (systemd.exec(5), LogNamespace=): what is written without end there pushes nothing out
/// that is in the machine's own journal, our events and everybody's refused sign-ins for example.
pub const LOG_NAMESPACE: &str = "code-server-multi";

/// A start that has not finished by then has failed.
pub const START_SECONDS: u64 = 60;

/// `podman rm` kills the container after [`podman::STOP_SECONDS`]; past this, systemd kills the rest.
pub const STOP_SECONDS: u64 = 20;

/// Podman needs a second to find that its store is damaged. The unit gets longer: its own timeout ends its job as `failed`,
/// like a check that found something.
pub const STORAGE_CHECK_SECONDS: u64 = 8;

/// Of a process of a workspace; of pasta there are fewer ([`podman::CONNECTIONS`]).
const MOST_DESCRIPTORS: u64 = 16_384;

pub fn service_name(name: &WorkspaceName) -> String {
    format!("csm-{name}.service")
}

/// The workspace whose service this is; nothing for any other unit. `--` never occurs in a workspace's name, so the
/// helper units (`csm-NAME--exec-ID.service`) are not mistaken for one.
pub fn workspace_of(unit: &str) -> Option<WorkspaceName> {
    WorkspaceName::parse(unit.strip_prefix("csm-")?.strip_suffix(".service")?).ok()
}

/// What a running service was made from, in three parts, so that a difference has a name. It rides on the unit's
/// Description, which one ListUnits call shows for all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecHash {
    /// The image's id itself, which people compare with `podman images`.
    pub image: String,
    pub environment: String,
    /// Everything else: command line, mounts, Podman's configuration, identities, properties that can't be changed live.
    pub runtime: String,
}

impl SpecHash {
    /// `code-server-multi workspace dan image=.. environment=.. runtime=..`
    pub fn describe(&self, name: &WorkspaceName) -> String {
        format!(
            "code-server-multi workspace {name} image={} environment={} runtime={}",
            self.image, self.environment, self.runtime
        )
    }

    /// Reads it back from a Description; nothing when the unit was not made by this product.
    pub fn parse(description: &str) -> Option<Self> {
        let mut words = description
            .strip_prefix("code-server-multi workspace ")?
            .split(' ')
            .skip(1);
        let mut part = |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=').map(str::to_owned);
        Some(Self {
            image: part("image")?,
            environment: part("environment")?,
            runtime: part("runtime")?,
        })
    }

    /// The parts that differ from `other`, by name.
    pub fn differences(&self, other: &Self) -> Vec<Part> {
        [
            (Part::Image, self.image != other.image),
            (Part::Environment, self.environment != other.environment),
            (Part::Runtime, self.runtime != other.runtime),
        ]
        .into_iter()
        .filter_map(|(part, differs)| differs.then_some(part))
        .collect()
    }
}

/// A part of a workspace that only a restart changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Image,
    Environment,
    /// The content of files that `secret_environment` names. Not part of the hash: what a workspace was given lies on its
    /// tmpfs, to be compared with.
    Secrets,
    Runtime,
}

impl Part {
    pub fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Environment => "environment",
            Self::Secrets => "secrets",
            Self::Runtime => "runtime",
        }
    }
}

/// What can be changed while a service runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    pub limits: Limits,
    /// IPAddressDeny=: networks no process of the unit may send to or receive from.
    pub denied: Vec<(IpAddr, u32)>,
}

impl Live {
    pub fn of(workspace: &Workspace, machine: &Machine) -> Self {
        Self {
            limits: workspace.limits.clone(),
            denied: network::denied(&machine.own_addresses),
        }
    }

    /// As properties; the same names serve StartTransientUnit and SetUnitProperties.
    pub fn properties(&self) -> Vec<(&'static str, Value)> {
        let limits = &self.limits;
        vec![
            ("MemoryHigh", Value::U64(limits.memory_high)),
            ("MemoryMax", Value::U64(limits.memory_max)),
            ("MemoryLow", Value::U64(limits.memory_low)),
            // The hard limit is hard: nothing of a running workspace goes to swap.
            ("MemorySwapMax", Value::U64(0)),
            ("CPUQuotaPerSecUSec", Value::U64(limits.cpu_quota_usec)),
            ("CPUWeight", Value::U64(limits.cpu_weight)),
            // guard: F15-processes
            ("TasksMax", Value::U64(limits.tasks_max)),
            // A list is added to what is there; an empty one clears it first.
            ("IPAddressDeny", Value::Networks(Vec::new())),
            ("IPAddressDeny", Value::Networks(self.denied.clone())),
        ]
    }
}

/// The service of a workspace and the hash of what it is made from.
pub fn service(workspace: &Workspace, account: &Account, machine: &Machine, image: &ImageId) -> (UnitSpec, SpecHash) {
    let places = machine.layout.of(&workspace.name);
    let podman_path = machine.podman.to_string_lossy().into_owned();
    let mut fixed = vec![
        ("Slice", Value::Text(SLICE.to_owned())),
        ("Type", Value::Text("notify".to_owned())),
        // conmon, not the command that ExecStart names, tells that the container runs.
        ("NotifyAccess", Value::Text("all".to_owned())),
        ("Delegate", Value::Bool(true)),
        // A killed child is its user's business; the editor stays.
        // guard: F14-child-killed
        ("OOMPolicy", Value::Text("continue".to_owned())),
        ("User", Value::Text(workspace.account.to_string())),
        ("WorkingDirectory", Value::Text("/".to_owned())),
        ("KillMode", Value::Text("mixed".to_owned())),
        // A failed unit that stays loaded would block its name.
        ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
        (
            "RuntimeDirectory",
            Value::Texts(vec![format!("csm-{}", workspace.name)]),
        ),
        ("RuntimeDirectoryMode", Value::U32(0o700)),
        ("TimeoutStartUSec", Value::U64(START_SECONDS * 1_000_000)),
        ("TimeoutStopUSec", Value::U64(STOP_SECONDS * 1_000_000)),
        // guard: A43-namespace
        ("LogNamespace", Value::Text(LOG_NAMESPACE.to_owned())),
        ("LogRateLimitIntervalUSec", Value::U64(10_000_000)),
        // guard: A21-log-rate
        ("LogRateLimitBurst", Value::U32(500)),
        ("Environment", Value::Texts(podman_environment(&places, machine))),
        ("Requires", Value::Texts(mount_names(&places))),
        ("After", Value::Texts(mount_names(&places))),
        // Nor pasta, which takes the port of the host that is sent from inside. A change while it runs counts for nothing (systemd
        // 257 shows it, and leaves the kernel's program as it is), so it is none of what is set live.
        // guard: A45-reserved
        ("SocketBindDeny", Value::UdpPorts(workspace.reserved_ports.clone())),
        ("ExecStop", Value::Execs(vec![exec(&podman_path, podman::remove())])),
    ];
    fixed.extend(inherited());
    let argv = podman::run(workspace, machine, image);
    let hash = SpecHash {
        image: image.as_str().to_owned(),
        environment: digest_all(environment_words(workspace)),
        runtime: digest_all(runtime_words(workspace, account, machine, &fixed, &argv, image)),
    };
    let mut properties = vec![("Description", Value::Text(hash.describe(&workspace.name)))];
    properties.extend(fixed);
    properties.push(("ExecStart", Value::Execs(vec![exec(&podman_path, argv)])));
    properties.extend(Live::of(workspace, machine).properties());
    (
        UnitSpec {
            name: service_name(&workspace.name),
            properties,
        },
        hash,
    )
}

/// There is never more than one.
pub fn storage_check_name(name: &WorkspaceName) -> String {
    format!("csm-{name}--check-0.service")
}

/// A unit that asks the account's Podman whether its own store is whole; it fails when it is not. `service` is the one
/// that did not start; the two share a runtime directory, which has to go with this one: a Podman that finds what another
/// left there wants to join a process that is no more.
pub fn storage_check(name: &WorkspaceName, service: &UnitSpec, program: &str) -> UnitSpec {
    const SAME: [&str; 9] = [
        "Slice",
        "User",
        "WorkingDirectory",
        "RuntimeDirectory",
        "RuntimeDirectoryMode",
        "LogNamespace",
        "Environment",
        "Requires",
        "After",
    ];
    let same = service
        .properties
        .iter()
        .filter(|(property, _)| SAME.contains(property));
    let mut properties = vec![
        (
            "Description",
            Value::Text(format!("code-server-multi storage check {name}")),
        ),
        ("Type", Value::Text("oneshot".to_owned())),
        ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
        ("TimeoutStartUSec", Value::U64(3 * STORAGE_CHECK_SECONDS * 1_000_000)),
        ("TimeoutStopUSec", Value::U64(1_000_000)),
        ANY_LINE,
        ("ExecStart", Value::Execs(vec![exec(program, podman::check())])),
    ];
    properties.extend(same.cloned());
    UnitSpec {
        name: storage_check_name(name),
        properties,
    }
}

/// What every process of a workspace inherits, be it the service's or a command's. No core, as they hold secrets; and since
/// the limit is one byte and not none, the kernel calls no crash reporter either (core(5)): systemd's writes the environment
/// into the journal. As many descriptors as most programs ever ask for. And filters of system calls before Podman's own: sockets are
/// of networks and local, since `AF_VSOCK` leads past every rule of the network to the hypervisor and to this host's own
/// listeners (sshd is one), and the kernel loads seldom used families for whoever asks. Only the machine's own calls are let
/// through, because a 32-bit one reaches `socket` by a way that can't be filtered (systemd.exec(5), RestrictAddressFamilies=).
///
/// Before systemd 255 these would imply NoNewPrivileges=, and newuidmap could not map the container's ids.
pub fn inherited() -> [(&'static str, Value); 8] {
    // guard: A20-families
    let families = vec!["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"];
    [
        // guard: A16-core A16-reporter
        ("LimitCORE", Value::U64(1)),
        // guard: A16-core-soft A16-reporter-soft
        ("LimitCORESoft", Value::U64(1)),
        ("LimitNOFILE", Value::U64(MOST_DESCRIPTORS)),
        ("LimitNOFILESoft", Value::U64(1024)),
        ("RestrictAddressFamilies", Value::Allowed(families)),
        // guard: A20-architecture
        ("SystemCallArchitectures", Value::Texts(vec!["native".to_owned()])),
        // The kernel has 65,536 of these slots for all, and gives them to whoever asks; the databases that know the call do
        // without where it is not there.
        // guard: A42-slots
        ("SystemCallFilter", Value::Refused(vec!["io_setup:ENOSYS"])),
        ANY_LINE,
    ]
}

/// The environment in which every Podman of an account runs: root-owned configuration only.
pub fn podman_environment(places: &Places, machine: &Machine) -> Vec<String> {
    let configuration = places.podman.display();
    vec![
        format!("HOME={}", places.account_home.display()),
        format!("PATH={}", machine.path),
        format!("XDG_RUNTIME_DIR={}", places.runtime.display()),
        // guard: A2-containers-conf A19-containers-conf
        format!("CONTAINERS_CONF={configuration}/containers.conf"),
        format!("CONTAINERS_STORAGE_CONF={configuration}/storage.conf"),
        format!("CONTAINERS_REGISTRIES_CONF={configuration}/registries.conf"),
        // Looked into before any other place for helpers, also one that was built in.
        format!("CONTAINERS_HELPER_BINARY_DIR={}", places.helpers.display()),
    ]
}

fn environment_words(workspace: &Workspace) -> Vec<String> {
    let plain = workspace
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let secret = workspace
        .secret_environment
        .iter()
        .map(|(name, file)| format!("{name}<{}", file.display()));
    plain.chain(secret).collect()
}

/// The command line without what the other two parts of the hash stand for, and what else a start reads.
fn runtime_words(
    workspace: &Workspace,
    account: &Account,
    machine: &Machine,
    fixed: &[(&'static str, Value)],
    argv: &[String],
    image: &ImageId,
) -> Vec<String> {
    let own = |word: &&String| {
        word.as_str() != image.as_str()
            && !word
                .strip_prefix("--env=")
                .and_then(|pair| pair.split_once('='))
                .is_some_and(|(name, _)| workspace.environment.keys().any(|key| key.as_str() == name))
    };
    let mut words = vec![
        format!("{account:?}"),
        format!("{fixed:?}"),
        podman::containers_conf(None),
        podman::pasta(),
        podman::NO_NAMESPACES.to_owned(),
    ];
    // The command line knows a home only by its view.
    words.extend(MOUNTS.map(|kind| description(&mount(kind, workspace, account, machine)).to_owned()));
    words.extend(argv.iter().filter(own).cloned());
    words
}

fn digest(words: &[&str]) -> String {
    digest_all(words.iter().map(|word| (*word).to_owned()).collect())
}

fn digest_all(words: Vec<String>) -> String {
    let mut hash = Blake2s256::new();
    for word in words {
        hash.update((word.len() as u64).to_le_bytes());
        hash.update(word.as_bytes());
    }
    hash.finalize()[..8].iter().fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The mounts of a workspace, in the order they are named in [`mount_names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mount {
    /// The shared image store as the account sees it.
    Images,
    /// The home, idmapped so that on disk every file is the account's and inside it is user 1000's.
    Data,
    /// The tmpfs with the editor's socket.
    Run,
}

pub const MOUNTS: [Mount; 3] = [Mount::Images, Mount::Data, Mount::Run];

impl Mount {
    pub fn word(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Data => "data",
            Self::Run => "run",
        }
    }

    pub fn unit_name(self, places: &Places) -> String {
        let path = match self {
            Self::Images => &places.images_view,
            Self::Data => &places.data_view,
            Self::Run => &places.run,
        };
        path_unit_name(path, ".mount")
    }
}

fn mount_names(places: &Places) -> Vec<String> {
    MOUNTS.iter().map(|mount| mount.unit_name(places)).collect()
}

/// One mount of a workspace as a unit. Idmaps are `type:id on disk:id seen:count` (mount(8), X-mount.idmap); they need
/// util-linux 2.39.
pub fn mount(mount: Mount, workspace: &Workspace, account: &Account, machine: &Machine) -> UnitSpec {
    let places = machine.layout.of(&workspace.name);
    let (what, kind, options) = match mount {
        Mount::Images => {
            let owner = &machine.images;
            let map = format!(
                "u:{}:{}:1 u:{}:{}:65536 g:{}:{}:1 g:{}:{}:65536",
                owner.uid,
                account.uid,
                owner.subuid,
                account.subuid,
                owner.gid,
                account.gid,
                owner.subgid,
                account.subgid
            );
            // nosuid on the host's side: nobody here runs the image's setuid files.
            let store = machine.layout.image_store().to_string_lossy().into_owned();
            // guard: A20-store
            (store, "none", format!("bind,ro,nosuid,nodev,X-mount.idmap={map}"))
        }
        Mount::Data => {
            let map = format!(
                "u:{}:{}:1 g:{}:{}:1",
                account.uid,
                account.inner_uid(),
                account.gid,
                account.inner_gid()
            );
            (
                workspace.home.to_string_lossy().into_owned(),
                "none",
                // guard: A20-devices
                format!("bind,nosuid,nodev,X-mount.idmap={map}"),
            )
        }
        // Small enough that it can't fill memory, and a socket swapped for a link leads nowhere. It belongs to the
        // container's user directly, so it needs no idmap; setgid hands the socket to nginx's group.
        Mount::Run => (
            "tmpfs".to_owned(),
            "tmpfs",
            // guard: A9-socket A17-leads-nowhere A17-size
            format!(
                "size=256k,nr_inodes=64,nosuid,nodev,noexec,nosymfollow,mode=2750,uid={},gid={}",
                account.inner_uid(),
                machine.web_gid
            ),
        ),
    };
    let description = format!(
        "code-server-multi mount {} {} spec={}",
        workspace.name,
        mount.word(),
        digest(&[&what, kind, &options])
    );
    UnitSpec {
        name: mount.unit_name(&places),
        properties: vec![
            ("Description", Value::Text(description)),
            ("What", Value::Text(what)),
            ("Type", Value::Text(kind.to_owned())),
            ("Options", Value::Text(options)),
            ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
        ],
    }
}

/// The text of a unit's Description property.
pub fn description(spec: &UnitSpec) -> &str {
    spec.properties
        .iter()
        .find_map(|(name, value)| match value {
            Value::Text(text) if *name == "Description" => Some(text.as_str()),
            _ => None,
        })
        .unwrap_or_default()
}

/// The workspace that a unit of ours belongs to, by the unit's name or, for a mount, its Description.
pub fn owner_of(unit: &str, description: &str) -> Option<WorkspaceName> {
    workspace_of(unit).or_else(|| {
        WorkspaceName::parse(
            description
                .strip_prefix("code-server-multi mount ")?
                .split(' ')
                .next()?,
        )
        .ok()
    })
}

#[cfg(test)]
pub(crate) mod tests;

#[cfg(test)]
mod hash_tests;
