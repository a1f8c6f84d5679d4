//! What systemd and Podman are told, word for word, for a workspace with little and for one with everything.

use insta::assert_snapshot;

use super::*;
use crate::model::config;
use crate::model::desired::{self, Desired};
use crate::model::layout::Layout;
use crate::model::names::AccountName;

pub(crate) const TOP: &str = "domain = 'code.example.org'\n[image]\nname = 'localhost/workspace:1'\n[nginx]\n\
     certificate = '/etc/ssl/c.pem'\ncertificate_key = '/etc/ssl/k.pem'\n";

/// What an admin may write that means something to systemd, Podman or a shell.
pub(super) const FULL: &str = r#"
[workspaces.full-stack]
account = "dan"
memory_limit = "4G"
memory_soft_limit = "3G"
memory_low = "256M"
cpu_limit = "2.5"
cpu_weight = 200
tasks_max = 2048
environment = { GREETING = "it's \"$HOME\" %n 100%", EMPTY = "", PATH_LIKE = "a:b=c\\d; $(reboot)", LOOKS_LIKE = "--privileged" }
secret_environment = { API_KEY = "/run/secrets/dan@key" }
"#;

/// What is desired with these `[workspaces.*]` sections.
pub(crate) fn desired(sections: &str) -> Desired {
    let config = config::parse(&format!("{TOP}{sections}")).expect("a right configuration");
    desired::build(&config, machine(), &[].into())
}

pub(crate) fn machine() -> Machine {
    Machine {
        layout: Layout::default(),
        podman: "/usr/bin/podman".into(),
        path: "/usr/bin:/usr/sbin".to_owned(),
        images: Account {
            name: AccountName::service("code-server-multi-images"),
            uid: 900,
            gid: 901,
            subuid: 100_000,
            subgid: 200_000,
        },
        web_gid: 950,
        own_addresses: vec!["192.0.2.7".parse().expect("an address")],
    }
}

pub(crate) fn account(name: &str) -> Account {
    Account {
        name: AccountName::parse(name).expect("an account's name"),
        uid: 1001,
        gid: 1002,
        subuid: 300_000,
        subgid: 400_000,
    }
}

/// The id of an image; different for each digit.
pub(crate) fn image(digit: char) -> ImageId {
    ImageId::parse(&digit.to_string().repeat(64)).expect("an image's id")
}

pub(super) fn one(sections: &str) -> Workspace {
    let mut desired = desired(sections);
    desired.workspaces.pop_first().expect("a workspace").1
}

pub(super) fn made_from(sections: &str) -> (UnitSpec, SpecHash) {
    let workspace = one(sections);
    let account = account(workspace.account.as_str());
    service(&workspace, &account, &machine(), &image('a'))
}

/// A unit, a property a line, a word of an argv a line.
pub(crate) fn shown(spec: &UnitSpec) -> String {
    let mut text = format!("{}\n", spec.name);
    for (name, value) in &spec.properties {
        match value {
            Value::Execs(execs) => {
                for exec in execs {
                    let _ = writeln!(text, "{name} {}", exec.path);
                    for word in &exec.argv {
                        let _ = writeln!(text, "    {word}");
                    }
                }
            }
            other => {
                let _ = writeln!(text, "{name} {other:?}");
            }
        }
    }
    text
}

#[test]
fn the_service_of_a_workspace_with_little() {
    assert_snapshot!(shown(&made_from("[workspaces.dan]\n").0), @r#"
csm-dan.service
Description Text("code-server-multi workspace dan image=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa environment=69217a3079908094 runtime=573a0a84c6873db7")
Slice Text("csm.slice")
Type Text("notify")
NotifyAccess Text("all")
Delegate Bool(true)
OOMPolicy Text("continue")
User Text("csm-dan")
WorkingDirectory Text("/")
KillMode Text("mixed")
CollectMode Text("inactive-or-failed")
RuntimeDirectory Texts(["csm-dan"])
RuntimeDirectoryMode U32(448)
TimeoutStartUSec U64(60000000)
TimeoutStopUSec U64(20000000)
LogNamespace Text("code-server-multi")
LogRateLimitIntervalUSec U64(10000000)
LogRateLimitBurst U32(500)
Environment Texts(["HOME=/var/lib/code-server-multi/accounts/dan", "PATH=/usr/bin:/usr/sbin", "XDG_RUNTIME_DIR=/run/csm-dan", "CONTAINERS_CONF=/var/lib/code-server-multi/podman/dan/containers.conf", "CONTAINERS_STORAGE_CONF=/var/lib/code-server-multi/podman/dan/storage.conf", "CONTAINERS_REGISTRIES_CONF=/var/lib/code-server-multi/podman/dan/registries.conf", "CONTAINERS_HELPER_BINARY_DIR=/var/lib/code-server-multi/podman/dan/bin"])
Requires Texts(["run-code\\x2dserver\\x2dmulti-mounts-dan-images.mount", "run-code\\x2dserver\\x2dmulti-mounts-dan-data.mount", "run-code\\x2dserver\\x2dmulti-run-dan.mount"])
After Texts(["run-code\\x2dserver\\x2dmulti-mounts-dan-images.mount", "run-code\\x2dserver\\x2dmulti-mounts-dan-data.mount", "run-code\\x2dserver\\x2dmulti-run-dan.mount"])
SocketBindDeny UdpPorts({51820})
ExecStop /usr/bin/podman
    /usr/bin/podman
    --cgroup-manager=cgroupfs
    --log-level=error
    rm
    --force
    --ignore
    --time
    8
    workspace
LimitCORE U64(1)
LimitCORESoft U64(1)
LimitNOFILE U64(16384)
LimitNOFILESoft U64(1024)
RestrictAddressFamilies Allowed(["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"])
SystemCallArchitectures Texts(["native"])
SystemCallFilter Refused(["io_setup:ENOSYS"])
SyslogLevelPrefix Bool(false)
ExecStart /usr/bin/podman
    /usr/bin/podman
    --cgroup-manager=cgroupfs
    --log-level=error
    run
    --name
    workspace
    --rm
    --replace
    --detach
    --init
    --pull=never
    --cgroups=split
    --sdnotify=conmon
    --log-driver=passthrough
    --cap-drop=all
    --security-opt=no-new-privileges
    --network=pasta:--no-map-gw,--map-guest-addr,none,--map-host-loopback,none,-t,none,-u,none,-T,none,-U,none,--dns-forward,192.0.0.8,--dns-forward,100::8
    --dns=192.0.0.8
    --dns=100::8
    --user=1000:1000
    --hostname=dan
    --mount=type=bind,src=/run/code-server-multi/mounts/dan/data/home,dst=/home/coder
    --mount=type=bind,src=/run/code-server-multi/mounts/dan/data/workspace,dst=/home/coder/project
    --mount=type=bind,src=/run/code-server-multi/mounts/dan/data/config,dst=/home/coder/.local/share/code-server
    --mount=type=bind,src=/run/code-server-multi/run/dan,dst=/run/csm/http
    --mount=type=bind,src=/run/code-server-multi/secrets/dan,dst=/run/csm/secrets,ro=true
    --mount=type=bind,src=/run/code-server-multi/entrypoint,dst=/run/csm/entrypoint,ro=true
    --mount=type=devpts,dst=/dev/pts,newinstance,ptmxmode=0666,mode=0620,gid=5,max=128
    --workdir=/home/coder/project
    --env=HOME=/home/coder
    --env=USER=coder
    --env=CSM_WORKSPACE=dan
    --entrypoint=["/bin/sh","/run/csm/entrypoint"]
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    code-server
    --auth
    none
    --socket-mode
    660
    --disable-telemetry
    --disable-update-check
    --disable-workspace-trust
    --disable-getting-started-override
    --socket
    /run/csm/http/http.sock
    --app-name
    dan
    /home/coder/project
MemoryHigh U64(2684354560)
MemoryMax U64(3221225472)
MemoryLow U64(0)
MemorySwapMax U64(0)
CPUQuotaPerSecUSec U64(1500000)
CPUWeight U64(100)
TasksMax U64(4096)
IPAddressDeny Networks([])
IPAddressDeny Networks([(100.100.100.200, 32), (168.63.129.16, 32), (169.254.0.0, 16), (192.0.0.192, 32), (192.0.2.7, 32), (224.0.0.0, 4), (255.255.255.255, 32), (fd00:42::42, 128), (fd00:ec2::254, 128), (fd00:a9fe:a9fe::1, 128), (fd20:ce::254, 128), (fe80::, 10), (ff00::, 8)])
"#);
}

/// Only what differs from the workspace with little: the environment, the limits, the names.
#[test]
fn the_service_of_a_workspace_with_everything() {
    let little = shown(&made_from("[workspaces.dan]\n").0);
    let full = shown(&made_from(FULL).0);
    let differing: Vec<&str> = full
        .lines()
        .filter(|line| !little.lines().any(|own| own == *line))
        .collect();
    assert_snapshot!(differing.join("\n"), @r#"
csm-full-stack.service
Description Text("code-server-multi workspace full-stack image=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa environment=eb7eb39dafa7e101 runtime=4c3126d144273160")
User Text("dan")
RuntimeDirectory Texts(["csm-full-stack"])
Environment Texts(["HOME=/var/lib/code-server-multi/accounts/full-stack", "PATH=/usr/bin:/usr/sbin", "XDG_RUNTIME_DIR=/run/csm-full-stack", "CONTAINERS_CONF=/var/lib/code-server-multi/podman/full-stack/containers.conf", "CONTAINERS_STORAGE_CONF=/var/lib/code-server-multi/podman/full-stack/storage.conf", "CONTAINERS_REGISTRIES_CONF=/var/lib/code-server-multi/podman/full-stack/registries.conf", "CONTAINERS_HELPER_BINARY_DIR=/var/lib/code-server-multi/podman/full-stack/bin"])
Requires Texts(["run-code\\x2dserver\\x2dmulti-mounts-full\\x2dstack-images.mount", "run-code\\x2dserver\\x2dmulti-mounts-full\\x2dstack-data.mount", "run-code\\x2dserver\\x2dmulti-run-full\\x2dstack.mount"])
After Texts(["run-code\\x2dserver\\x2dmulti-mounts-full\\x2dstack-images.mount", "run-code\\x2dserver\\x2dmulti-mounts-full\\x2dstack-data.mount", "run-code\\x2dserver\\x2dmulti-run-full\\x2dstack.mount"])
    --hostname=full-stack
    --mount=type=bind,src=/run/code-server-multi/mounts/full-stack/data/home,dst=/home/coder
    --mount=type=bind,src=/run/code-server-multi/mounts/full-stack/data/workspace,dst=/home/coder/project
    --mount=type=bind,src=/run/code-server-multi/mounts/full-stack/data/config,dst=/home/coder/.local/share/code-server
    --mount=type=bind,src=/run/code-server-multi/run/full-stack,dst=/run/csm/http
    --mount=type=bind,src=/run/code-server-multi/secrets/full-stack,dst=/run/csm/secrets,ro=true
    --env=CSM_WORKSPACE=full-stack
    --env=EMPTY=
    --env=GREETING=it's "$$HOME" %n 100%
    --env=LOOKS_LIKE=--privileged
    --env=PATH_LIKE=a:b=c\d; $$(reboot)
    full-stack
MemoryHigh U64(3221225472)
MemoryMax U64(4294967296)
MemoryLow U64(268435456)
CPUQuotaPerSecUSec U64(2500000)
CPUWeight U64(200)
TasksMax U64(2048)
"#);
}

/// A secret's file is named nowhere in a unit, and its content is never read for one.
#[test]
fn secrets_are_in_no_property() {
    let (spec, _) = made_from(FULL);
    let text = format!("{spec:?}");
    for secret in ["/run/secrets/dan@key", "API_KEY"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

#[test]
fn the_mounts() {
    let workspace = one("[workspaces.dan]\n");
    let text: String = MOUNTS
        .iter()
        .map(|own| shown(&mount(*own, &workspace, &account("csm-dan"), &machine())))
        .collect();
    assert_snapshot!(text, @r#"
run-code\x2dserver\x2dmulti-mounts-dan-images.mount
Description Text("code-server-multi mount dan images spec=a1fdac41a7fac593")
What Text("/var/lib/code-server-multi/images/store")
Type Text("none")
Options Text("bind,ro,nosuid,nodev,X-mount.idmap=u:900:1001:1 u:100000:300000:65536 g:901:1002:1 g:200000:400000:65536")
CollectMode Text("inactive-or-failed")
run-code\x2dserver\x2dmulti-mounts-dan-data.mount
Description Text("code-server-multi mount dan data spec=c61ead04fdc35d8c")
What Text("/var/lib/vscode/dan")
Type Text("none")
Options Text("bind,nosuid,nodev,X-mount.idmap=u:1001:300999:1 g:1002:400999:1")
CollectMode Text("inactive-or-failed")
run-code\x2dserver\x2dmulti-run-dan.mount
Description Text("code-server-multi mount dan run spec=f81c6bfe3631fbc3")
What Text("tmpfs")
Type Text("tmpfs")
Options Text("size=256k,nr_inodes=64,nosuid,nodev,noexec,nosymfollow,mode=2750,uid=300999,gid=950")
CollectMode Text("inactive-or-failed")
"#);
}

#[test]
fn podmans_files() {
    let places = machine().layout.of(&WorkspaceName::parse("dan").expect("a name"));
    let text = format!(
        "# storage.conf\n{}# of the images' account\n{}# containers.conf\n{}# pasta\n{}# no-namespaces.json\n{}# registries.conf\n{}\
         # entrypoint\n{}",
        podman::storage_conf(&places),
        podman::image_storage_conf(&machine()),
        podman::containers_conf(Some(&places.podman)),
        podman::pasta(),
        podman::NO_NAMESPACES,
        podman::REGISTRIES_CONF,
        podman::ENTRYPOINT,
    );
    assert_snapshot!(text, @r#"
# storage.conf
[storage]
driver = "overlay"
rootless_storage_path = "/var/lib/code-server-multi/accounts/dan/storage"

[storage.options]
additionalimagestores = ["/run/code-server-multi/mounts/dan/images"]
# of the images' account
[storage]
driver = "overlay"
rootless_storage_path = "/var/lib/code-server-multi/images/store"
# containers.conf
[containers]
# Devices come from nowhere, hooks from root's own directory if at all.
annotations = []
devices = []
# The unit's TasksMax= is the limit.
pids_limit = 0

[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
hooks_dir = ["/var/lib/code-server-multi/podman/dan"]
runtime = "crun"
# pasta
#!/bin/sh
# Written by code-server-multi: pasta takes as many descriptors as it may.
ulimit -n 4096
exec pasta "$@"
# no-namespaces.json
{
  "version": "1.0.0",
  "hook": {
    "path": "/bin/sh",
    "args": ["sh", "-c", "echo 0 >/proc/sys/user/max_user_namespaces"]
  },
  "when": { "always": true },
  "stages": ["createRuntime"]
}
# registries.conf
unqualified-search-registries = []
# entrypoint
#!/bin/sh
# Written by code-server-multi; mounted read-only into every workspace.
for csm_file in /run/csm/secrets/*; do
  [ -f "$csm_file" ] || continue
  csm_value=$(cat "$csm_file" && echo .) || exit 78
  csm_value=${csm_value%.}
  csm_value=${csm_value%"
"}
  export "${csm_file##*/}=$csm_value"
done
unset csm_file csm_value
umask 0022
exec "$@"
"#);
}

#[test]
fn units_lead_back_to_their_workspace() {
    let workspace = one(FULL);
    let account = account("dan");
    let (spec, _) = service(&workspace, &account, &machine(), &image('a'));
    assert_eq!(owner_of(&spec.name, description(&spec)).as_ref(), Some(&workspace.name));
    for own in MOUNTS {
        let spec = mount(own, &workspace, &account, &machine());
        assert_eq!(owner_of(&spec.name, description(&spec)).as_ref(), Some(&workspace.name));
    }
    for foreign in [
        "csm-dan--exec-17.service",
        "csm-.service",
        "csm-dan.socket",
        "nginx.service",
        "csm-Dan.service",
    ] {
        assert_eq!(owner_of(foreign, ""), None, "{foreign}");
    }
}
