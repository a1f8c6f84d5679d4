//! PODMAN: the only file that spells a podman flag or a line of its configuration (podman-run(1), containers.conf(5),
//! storage.conf(5), pasta(1)).

use std::path::Path;

use crate::model::account::CONTAINER_ID;
use crate::model::desired::{Machine, Workspace};
use crate::model::layout::{HOME_PARTS, Places, SOCKET};
use crate::model::names::ImageId;
use crate::model::network::FORWARDERS;

/// Name of the one container in each account's own store.
pub const CONTAINER: &str = "workspace";

/// Seconds that a container gets between SIGTERM and SIGKILL. code-server needs up to 3 s with an open tab.
pub const STOP_SECONDS: u32 = 8;

/// Where the daemon's own files appear in a container.
pub const INNER: &str = "/run/csm";

/// What runs the entrypoint; every image has one.
const SHELL: &str = "/bin/sh";

/// Terminals of a workspace: of all containers together the kernel has 3,072, if nobody set another number
/// (kernel.pty.max without kernel.pty.reserve).
pub const TERMINALS: u32 = 128;

/// Connections of a workspace at once, and ports of the host that it holds by them: descriptors of its pasta. The host has 28,232
/// ports for connections that go out (ip_local_port_range).
pub const CONNECTIONS: u32 = 4096;

/// Found by Podman before the real one, which is on the PATH.
pub fn pasta() -> String {
    // guard: A21-descriptors
    let most = CONNECTIONS;
    format!(
        "#!/bin/sh\n# Written by code-server-multi: pasta takes as many descriptors as it may.\nulimit -n {most}\nexec pasta \"$@\"\n"
    )
}

/// pasta(1) in full, so that no default of Podman's opens a way to the host: no address of the host's is mapped, no
/// port is forwarded in either direction.
// guard: A2-pasta A3-forwarded
const NETWORK: &str =
    "pasta:--no-map-gw,--map-guest-addr,none,--map-host-loopback,none,-t,none,-u,none,-T,none,-U,none";

/// Arguments of the `podman run` that becomes a workspace's service.
pub fn run(workspace: &Workspace, machine: &Machine, image: &ImageId) -> Vec<String> {
    let places = machine.layout.of(&workspace.name);
    let mut argv = texts(&[
        "--cgroup-manager=cgroupfs",
        "--log-level=error",
        "run",
        "--name",
        CONTAINER,
        "--rm",
        // guard: F12-replaced
        "--replace",
        "--detach",
        "--init",
        "--pull=never",
        "--cgroups=split",
        "--sdnotify=conmon",
        "--log-driver=passthrough",
        // guard: A20-capability
        "--cap-drop=all",
        // guard: A20-privileges
        "--security-opt=no-new-privileges",
    ]);
    let [four, six] = FORWARDERS;
    argv.push(format!("--network={NETWORK},--dns-forward,{four},--dns-forward,{six}"));
    // guard: A41-named
    // Named here, Podman names nobody else: where the host's resolver is on its loopback, it would put Google's beside it.
    argv.extend(FORWARDERS.map(|address| format!("--dns={address}")));
    argv.push(format!("--user={CONTAINER_ID}:{CONTAINER_ID}"));
    argv.push(format!("--hostname={}", workspace.name));
    for (part, inside) in HOME_PARTS {
        argv.push(bind(&places.data_view.join(part).to_string_lossy(), inside, false));
    }
    argv.push(bind(&places.run.to_string_lossy(), &format!("{INNER}/http"), false));
    argv.push(bind(
        &places.secrets.to_string_lossy(),
        &format!("{INNER}/secrets"),
        true,
    ));
    argv.push(bind(
        &machine.layout.entrypoint().to_string_lossy(),
        &format!("{INNER}/entrypoint"),
        true,
    ));
    // As Podman mounts it otherwise, which has no bound.
    // guard: A42-terminals
    argv.push(format!(
        "--mount=type=devpts,dst=/dev/pts,newinstance,ptmxmode=0666,mode=0620,gid=5,max={TERMINALS}"
    ));
    argv.push("--workdir=/home/coder/project".to_owned());
    for (name, value) in built_in_environment(workspace) {
        argv.push(format!("--env={name}={value}"));
    }
    // guard: A16-property
    for (name, value) in &workspace.environment {
        argv.push(format!("--env={name}={value}"));
    }
    // By way of the shell, because /run is mounted `noexec` on a real boot, and what is bound from there with it.
    argv.push(format!("--entrypoint=[\"{SHELL}\",\"{INNER}/entrypoint\"]"));
    argv.push(image.to_string());
    argv.extend(editor(workspace));
    argv
}

fn built_in_environment(workspace: &Workspace) -> [(&'static str, String); 3] {
    [
        ("HOME", "/home/coder".to_owned()),
        ("USER", "coder".to_owned()),
        ("CSM_WORKSPACE", workspace.name.to_string()),
    ]
}

/// code-server's command line. Sign-in is at the edge, so it asks nobody itself; its socket is one that only nginx reaches.
fn editor(workspace: &Workspace) -> Vec<String> {
    let mut argv = texts(&[
        "code-server",
        "--auth",
        "none",
        "--socket-mode",
        // guard: A9-socket-mode
        "660",
        "--disable-telemetry",
        "--disable-update-check",
        "--disable-workspace-trust",
        "--disable-getting-started-override",
    ]);
    argv.extend(["--socket".to_owned(), format!("{INNER}/http/{SOCKET}")]);
    argv.extend(["--app-name".to_owned(), workspace.name.to_string()]);
    argv.push("/home/coder/project".to_owned());
    argv
}

/// Arguments that remove the container whatever state it is in.
pub fn remove() -> Vec<String> {
    texts(&[
        "--cgroup-manager=cgroupfs",
        "--log-level=error",
        "rm",
        "--force",
        "--ignore",
        "--time",
    ])
    .into_iter()
    .chain([STOP_SECONDS.to_string(), CONTAINER.to_owned()])
    .collect()
}

/// Arguments that fail when the account's own store is damaged.
pub fn check() -> Vec<String> {
    texts(&[
        "--cgroup-manager=cgroupfs",
        "--log-level=error",
        "system",
        "check",
        "--quick",
    ])
}

/// Arguments that run a command in the container; secrets are exported by the entrypoint there too. `terminal` is what
/// TERM says if it has one.
pub fn exec(command: &[String], terminal: Option<&str>, directory: Option<&str>) -> Vec<String> {
    let mut argv = texts(&[
        "--cgroup-manager=cgroupfs",
        "--log-level=error",
        "exec",
        "--interactive",
        // Else Ctrl-P would wait for a Ctrl-Q that detaches.
        "--detach-keys=",
    ]);
    if let Some(term) = terminal {
        argv.push("--tty".to_owned());
        argv.push(format!("--env=TERM={term}"));
    }
    if let Some(directory) = directory {
        argv.push(format!("--workdir={directory}"));
    }
    argv.push(CONTAINER.to_owned());
    argv.extend([SHELL.to_owned(), format!("{INNER}/entrypoint")]);
    argv.extend(command.iter().cloned());
    argv
}

/// Arguments that load an archive from standard input into the store.
pub fn load() -> Vec<String> {
    texts(&["--cgroup-manager=cgroupfs", "--log-level=error", "load", "--quiet"])
}

/// Arguments that fetch an image; progress goes to standard error, which is the journal.
pub fn pull(image: &str) -> Vec<String> {
    texts(&["--cgroup-manager=cgroupfs", "--log-level=error", "pull", "--", image])
}

/// Arguments that print the id of an image, or fail when the store lacks it.
pub fn image_id(image: &str) -> Vec<String> {
    texts(&[
        "--cgroup-manager=cgroupfs",
        "--log-level=error",
        "image",
        "inspect",
        "--format",
        "{{.Id}}",
        "--",
        image,
    ])
}

/// containers.conf of an account. Pointed at by CONTAINERS_CONF, so that no other file of that name counts. `hooks`: the
/// directory that [`NO_NAMESPACES`] is in; other accounts have no hooks.
pub fn containers_conf(hooks: Option<&Path>) -> String {
    let hooks = hooks.map(|path| format!("\"{}\"", path.display())).unwrap_or_default();
    format!(
        r#"[containers]
# Devices come from nowhere, hooks from root's own directory if at all.
annotations = []
devices = []
# The unit's TasksMax= is the limit.
pids_limit = 0

[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
hooks_dir = [{hooks}]
runtime = "crun"
"#
    )
}

/// The one hook (oci-hooks(5)): before a workspace's container starts, the user namespace that it lives in is forbidden to
/// have others below it. In one of those a process has every capability, and with them a large part of the kernel to find
/// a hole in; Podman's filter of system calls lets them be made. Only root of the outer namespace could lift it.
// guard: A20-namespaces
pub const NO_NAMESPACES: &str = r#"{
  "version": "1.0.0",
  "hook": {
    "path": "/bin/sh",
    "args": ["sh", "-c", "echo 0 >/proc/sys/user/max_user_namespaces"]
  },
  "when": { "always": true },
  "stages": ["createRuntime"]
}
"#;

/// registries.conf of an account: a workspace's own Podman fetches nothing.
pub const REGISTRIES_CONF: &str = "unqualified-search-registries = []\n";

/// storage.conf of a workspace's account: its own containers, and the shared images read-only.
pub fn storage_conf(places: &Places) -> String {
    format!(
        "[storage]\ndriver = \"overlay\"\nrootless_storage_path = \"{}\"\n\n[storage.options]\nadditionalimagestores = [\"{}\"]\n",
        places.container_store.display(),
        places.images_view.display(),
    )
}

/// storage.conf of the account that owns the images.
pub fn image_storage_conf(machine: &Machine) -> String {
    format!(
        "[storage]\ndriver = \"overlay\"\nrootless_storage_path = \"{}\"\n",
        machine.layout.image_store().display()
    )
}

/// What is mounted at `/run/csm/entrypoint`: gives the command its secrets without their being in an argument, a
/// property or a file of Podman's. One trailing newline of a secret is dropped, as everywhere.
pub const ENTRYPOINT: &str = r#"#!/bin/sh
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
"#;

fn bind(source: &str, inside: &str, read_only: bool) -> String {
    let mode = if read_only { ",ro=true" } else { "" };
    format!("--mount=type=bind,src={source},dst={inside}{mode}")
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
