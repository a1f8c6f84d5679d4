"""What a user's own files ask for: containers, units, devices, mounts, rights. Nobody outside reads them. Rows A19, A20.

The same container is looked at before and after; that each file would have been obeyed, had it been named, is shown where
Podman can be asked."""

import copy
import json

import pytest
import tomli_w

# Everything that containers.conf(5) knows to loosen a container by.
EVERYTHING = """
[containers]
privileged = true
default_capabilities = ["ALL"]
devices = ["/dev/fuse", "/dev/kvm"]
volumes = ["/etc:/host-etc", "/:/host"]
mounts = ["type=bind,source=/etc,destination=/host-mounts"]
env = ["LAB_PLANTED=1"]
env_host = true
userns = "host"
pidns = "host"
netns = "host"
ipcns = "host"
utsns = "host"
cgroupns = "host"
cgroups = "disabled"
seccomp_profile = "unconfined"
apparmor_profile = "unconfined"
default_ulimits = ["nofile=500000:500000", "core=-1:-1"]
default_sysctls = ["net.ipv4.ip_unprivileged_port_start=1", "net.ipv4.ping_group_range=0 4294967295"]
annotations = ["run.oci.keep_original_groups=1"]
init_path = "/home/coder/trap"
no_hosts = true
label = false
[engine]
runtime = "/home/coder/trap"
conmon_path = ["/home/coder/trap"]
hooks_dir = ["/home/coder/.config/containers/hooks"]
helper_binaries_dir = ["/home/coder"]
no_pivot_root = true
"""

UNIT = """
[Service]
ExecStart=/bin/sh -c 'id >/tmp/lab-sprung'
User=root
BindPaths=/etc
DeviceAllow=/dev/kvm rwm
AmbientCapabilities=~
[Install]
WantedBy=default.target multi-user.target
"""

DEVCONTAINER = {
    "image": "localhost/lab", "privileged": True, "capAdd": ["SYS_ADMIN"], "securityOpt": ["seccomp=unconfined"], "mounts": ["source=/etc,target=/host,type=bind"],
    "runArgs": ["--privileged", "--device=/dev/kvm", "--volume=/:/host"], "initializeCommand": "id >/tmp/lab-sprung",
}  # fmt: skip

QUADLET = "[Container]\nImage=localhost/lab\nAddCapability=ALL\nAddDevice=/dev/kvm\nVolume=/etc:/host\nPodmanArgs=--privileged\nNetwork=host\n"

COMPOSE = "services:\n  lab:\n    image: localhost/lab\n    privileged: true\n    cap_add: [ALL]\n    devices: [/dev/kvm]\n    volumes: [/:/host]\n    network_mode: host\n"

# Below the home.
PLANTED = {
    ".config/containers/containers.conf": EVERYTHING,
    ".config/containers/containers.conf.d/99-lab.conf": EVERYTHING,
    ".config/containers/storage.conf": '[storage]\ndriver = "vfs"\ngraphroot = "/etc"\n',
    ".config/containers/registries.conf": 'unqualified-search-registries = ["evil.example"]\n',
    ".config/containers/mounts.conf": "/etc:/host-mounts\n",
    ".config/containers/systemd/lab.container": QUADLET,
    ".config/containers/systemd/csm-dan.container": QUADLET,
    ".config/systemd/user/lab.service": UNIT,
    ".config/systemd/user/csm-dan.service": UNIT,
    ".config/systemd/user/csm-dan.service.d/override.conf": UNIT,
    ".config/systemd/user/default.target.wants/lab.service": UNIT,
    ".config/environment.d/99-lab.conf": "PATH=/home/coder\nCONTAINERS_CONF=/home/coder/.config/containers/containers.conf\nLD_PRELOAD=/home/coder/x.so\n",
    ".config/csm/config.toml": '[workspaces.dan]\nprivileged = true\n',
    ".pam_environment": "LD_PRELOAD=/home/coder/x.so\n",
    "project/.devcontainer/devcontainer.json": json.dumps(DEVCONTAINER),
    "project/docker-compose.yml": COMPOSE,
    "project/csm.toml": '[workspaces.dan]\nprivileged = true\ndevices = ["/dev/kvm"]\n',
    "trap": "#!/bin/sh\nid >>/tmp/lab-sprung\nexit 1\n",
}

LOOK = r"""
grep -E '^(Cap|Seccomp|NoNewPrivs|Uid|Gid|Groups)' /proc/1/status
sed 's/^[^ ]* [^ ]* [^ ]* //; s/ - .*//; s/[0-9a-f]\{64\}/ID/' /proc/self/mountinfo | sort
ls /dev /; cat /proc/self/uid_map; ulimit -Ha; cat /proc/sys/net/ipv4/ip_unprivileged_port_start
tr '\0' '\n' </proc/1/environ | grep -v '^container_uuid' | sort
"""


@pytest.fixture(scope="module", autouse=True)
def devices(host, product):
    """There on the host, for everybody: so that what is missing inside is missing for a reason."""
    host.sh("for one in 'kvm 10 232' 'vhost-net 10 238' 'sda 8 0'; do set -- $one; k=c; [ \"$1\" = sda ] && k=b; test -e /dev/$1 || mknod -m 666 /dev/$1 $k $2 $3; done; ls -l /dev/kvm /dev/fuse")


def plant(host, top, owner):
    for name, text in PLANTED.items():
        host.put(f"{top}/{name}", text, 0o755 if name == "trap" else 0o644)
    host.sh('chown -R "$1:" "$2"/.config "$2"/.pam_environment "$2"/trap "$2"/project', owner, top)


def namespaces(host, product, name):
    pid = max(product.pids(name) & set(map(int, host.sh("pgrep -f 'code-server.*--socket'").split())))
    shown = lambda pid: set(host.sh('readlink /proc/$1/ns/{user,pid,net,ipc,uts,cgroup,mnt}', str(pid)).split())  # noqa: E731
    return shown(pid), shown(1)


def test_nothing_that_a_users_files_ask_for_is_done(host, product):
    """A19. CAP_ADD, --privileged, devices, mounts of /etc, a unit of their own, another runtime: in the home, and, should it ever
    be written, in the account's own directory outside."""
    before = product.inside_sh("dan", LOOK)
    units = lambda: host.sh("systemctl list-units --all --plain --no-legend --type=service | awk '{ print $1 }' | grep -v -- '--\\|^lab-\\|systemd-\\|session' | sort")  # noqa: E731
    known = units()
    account = "/var/lib/code-server-multi/accounts/dan"
    plant(host, "/var/lib/vscode/dan/home", "csm-dan")
    plant(host, account, "csm-dan")
    # What lies in the project is seen there.
    host.sh('cp -a /var/lib/vscode/dan/home/project/. /var/lib/vscode/dan/workspace/')
    # They are as Podman would take them, where it reads such a file at all.
    as_dan = ("setpriv", "--reuid", "csm-dan", "--regid", "csm-dan", "--init-groups", "env", "-i", f"HOME={account}", "PATH=/usr/bin:/usr/sbin", "sh", "-c")
    bare = host.run(*as_dan, "cd /; XDG_RUNTIME_DIR=/run/csm-dan podman info 2>&1", check=False).stdout
    assert "trap" in bare or "vfs" in bare or "/etc" in bare, bare
    host.sh("rm -f /tmp/lab-sprung")
    try:
        for _ in range(2):
            product.csm("restart", "dan")
            assert product.inside_sh("dan", LOOK) == before
            inside, outside = namespaces(host, product, "dan")
            assert not inside & outside, inside & outside
        product.csm("exec", "dan", "--", "true")
        product.csm("stop", "dan")
        product.csm("start", "dan")
        assert not host.sh("ls /tmp/lab-sprung 2>/dev/null || true")
        assert units() == known
    finally:
        host.sh('cd "$1"; rm -rf .config .pam_environment trap project/{*,.devcontainer}; cd "$2"; rm -rf .config .pam_environment trap project; cd "$3"; rm -rf .devcontainer docker-compose.yml csm.toml', "/var/lib/vscode/dan/home", account, "/var/lib/vscode/dan/workspace")
        product.csm("restart", "dan")


# What one could take for keys of a workspace. The admin's file has none of them either: what isn't there can't be set.
NO_KEYS = {
    "exec_start": "/bin/sh", "command": ["sh"], "privileged": True, "cap_add": ["SYS_ADMIN"], "capabilities": ["ALL"], "devices": ["/dev/kvm"], "device": "/dev/kvm", "mounts": ["/etc:/etc"],
    "volumes": ["/etc:/etc"], "podman_arguments": ["--privileged"], "security_opt": ["seccomp=unconfined"], "user": "root", "unit": {"ExecStart": "/bin/sh"}, "properties": {"User": "root"},
    "network": "host", "pid": "host", "image": "x", "entrypoint": "/bin/sh", "sysctls": {"a": "b"},
}  # fmt: skip


def test_no_key_of_a_workspace_is_a_property(host, product):
    """A19. Each is refused by its name."""
    for key, value in NO_KEYS.items():
        config = copy.deepcopy(product.config)
        config["workspaces"]["dan"][key] = value
        host.put("/etc/lab/odd.toml", tomli_w.dumps(config))
        done = host.run("csm", "check-config", "/etc/lab/odd.toml", check=2)
        assert f"workspaces.dan.{key}: " in done.stdout + done.stderr, (key, done)


OPEN = r"""
import errno, json, os, sys
found = {}
for path in sys.argv[1:]:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        found[path] = "open"
    except OSError as error:
        found[path] = errno.errorcode[error.errno]
print(json.dumps(found))
"""


def test_a_device_in_a_home_is_not_opened(host, product):
    """A20. Nobody inside makes one; a restored backup could bring it. It opens on the host, and not where it is mounted."""
    nodes = {"project/null": ("c", "1", "3"), "lab-null": ("c", "1", "3"), "lab-kvm": ("c", "10", "232"), "lab-fuse": ("c", "10", "229")}
    places = {inside: f"/var/lib/vscode/dan/{inside.replace('project/', 'workspace/') if '/' in inside else 'home/' + inside}" for inside in nodes}
    try:
        for inside, node in nodes.items():
            host.run("mknod", "-m", "666", places[inside], *node)
            host.sh('chown csm-dan: "$1"', places[inside])
        host.sh('cat "$1"; cat "$2"', places["project/null"], places["lab-null"])
        found = json.loads(product.inside("dan", "python3", "-c", OPEN, *(f"/home/coder/{one}" for one in nodes), "/dev/kvm", "/dev/fuse", "/dev/sda", "/dev/vhost-net", "/dev/net/tun", "/dev/mem").stdout)
        assert found == {f"/home/coder/{one}": "EACCES" for one in nodes} | dict.fromkeys(("/dev/kvm", "/dev/fuse", "/dev/sda", "/dev/vhost-net", "/dev/net/tun", "/dev/mem"), "ENOENT")
    finally:
        host.sh('rm -f "$@"', *places.values())


MAY_WRITE = r"""
import errno, json, os, sys
found = {}
for path in sys.argv[1:]:
    # access(2) says what would be answered, and writes nothing: the files are all workspaces'.
    found[path] = os.access(path, os.W_OK)
print(json.dumps(found))
"""


def test_the_image_store_is_written_by_nobody(host, product):
    """A20. It is one for all. As root in a container, which is the account: the view of it is the account's own by number, and
    read-only; and no setuid file in it gives anybody anything."""
    view = "/run/code-server-multi/mounts/dan/images"
    as_dan = ("setpriv", "--reuid", "csm-dan", "--regid", "csm-dan", "--init-groups")
    layers = host.run(*as_dan, "sh", "-c", f"cd {view}; ls -d overlay overlay/*/diff overlay/*/diff/usr overlay-images storage.lock").stdout.split()
    assert len(layers) > 3, layers
    owners = set(host.sh('cd "$1"; shift; stat -c %U "$@"', view, *layers).split())
    assert "csm-dan" in owners, owners
    found = json.loads(host.run(*as_dan, "python3", "-c", MAY_WRITE, view, *(f"{view}/{one}" for one in layers)).stdout)
    assert not any(found.values()), found
    store = "/var/lib/code-server-multi/images/store"
    assert host.run(*as_dan, "ls", store, check=2).stderr.strip().endswith("Permission denied")
    options = set(host.sh('findmnt -n -o OPTIONS "$1"', view).split(","))
    assert {"ro", "nosuid", "nodev"} <= options, options
    # Inside, what looks like the image is a layer of dan's own above it.
    assert product.inside("dan", "sh", "-c", "echo x >/usr/bin/lab", check=False).returncode != 0
    product.inside("dan", "test", "-e", "/nix", check=1)
