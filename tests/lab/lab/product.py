"""code-server-multi on a host: installed by the blocks of docs/operations.md, so that the document is what is tested."""

import json
import re
import secrets
import shlex

import tomli_w

from . import env
from .client import Client
from .editor import Session

PEOPLE = ("dan", "alice", "sam")
DOCUMENT = env.CHECKOUT / "docs" / "operations.md"
SOURCE = "/usr/src/code-server-multi"
CONFIG = "/etc/code-server-multi/config.toml"
CSM = "/usr/src/csm"
IMAGE = "/var/lib/code-server-multi-image.tar"
DAEMON = "code-server-multi.service"
GATEWAY = "code-server-multi-gateway.service"
# The document's install blocks that ask for no configuration yet.
LAID_DOWN = ("files", "accounts", "nginx", "nginx-account")

ENTER = """
name=$1; shift
busctl -- call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager \\
  AttachProcessesToUnit ssau "csm-$name.service" /runtime 1 $$ >/dev/null
state=/var/lib/code-server-multi
cd /
exec setpriv --reuid "csm-$name" --regid "csm-$name" --init-groups env -i PATH="$PATH" \\
  HOME="$state/accounts/$name" XDG_RUNTIME_DIR="/run/csm-$name" \\
  CONTAINERS_CONF="$state/podman/$name/containers.conf" CONTAINERS_STORAGE_CONF="$state/podman/$name/storage.conf" \\
  podman --cgroup-manager=cgroupfs exec --interactive workspace "$@"
"""


# Of each process whose real user id is in one of the ranges "FIRST COUNT ...": its number, that id, its cgroup and its name.
OF_IDS = r"""
import os, sys
numbers = list(map(int, sys.argv[1:]))
ids = [range(first, first + count) for first, count in zip(numbers[::2], numbers[1::2])]
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.rstrip("\n").split(":", 1) for line in file)
        with open(f"/proc/{pid}/cgroup") as file:
            group = file.read().split("::")[-1].strip()
    except (FileNotFoundError, ProcessLookupError):
        continue  # it has ended
    uid = int(status["Uid"].split()[0])
    if status["State"].split()[0] not in "ZX" and any(uid in some for some in ids):
        print(pid, uid, group, status["Name"].strip())
"""


def blocks():
    """The document's shell blocks that have a purpose, as [(purpose, name, text)]."""
    found = re.findall(
        r"^```sh (settings|packages|install)(?: ([a-z-]+))?\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S
    )
    if len(found) < 5:
        raise RuntimeError(f"{DOCUMENT} has lost its install blocks")
    return found


def image_name():
    """The reference under which the archive holds the image."""
    versions = (env.CHECKOUT / "images" / "workspace" / "versions").read_text()
    return "localhost/code-server-multi/workspace:" + re.search(r"^VERSION=(.*)$", versions, re.M)[1].strip("\"'")


def sources():
    """What the blocks take from a checkout, as Host.put_all takes it."""
    units = env.CHECKOUT / "nix" / "units"
    files = {f"{SOURCE}/nix/units/{one.relative_to(units)}": one for one in sorted(units.rglob("*")) if one.is_file()}
    files[f"{SOURCE}/images/workspace/versions"] = env.CHECKOUT / "images" / "workspace" / "versions"
    return files | {CSM: (env.product("CSM"), 0o755, "root:root")}


class Product:
    """The installed product. Passwords are made here and known only to the run."""

    def __init__(self, host, pki, people=PEOPLE, domain=env.DOMAIN):
        self.host, self.pki, self.people, self.domain = host, pki, people, domain
        self.passwords = {name: secrets.token_urlsafe(12) for name in people}
        self.config = {
            "domain": domain,
            "image": {"name": image_name(), "archive": IMAGE},
            "nginx": {
                "group": "www-data",
                "certificate": "/etc/lab/certificate.pem",
                "certificate_key": "/etc/lab/key.pem",
            },
            "workspaces": {name: self.workspace_table(name) for name in people},
        }

    def only(self, *names):
        """For CONFIGURE: no workspaces but these, as they are: where others show no more, each costs the time of a start. The
        accounts of all people are there all the same."""
        self.config["workspaces"] = {name: self.config["workspaces"][name] for name in names}

    def workspace_table(self, name):
        return {"password_file": self.password_file(name)}

    def add(self, name):
        """Puts a workspace into the configuration; the accounts of all people are there from the start."""
        self.config["workspaces"][name] = self.workspace_table(name)
        return self.reload()

    def remove(self, name):
        del self.config["workspaces"][name]
        return self.reload()

    def password_file(self, name):
        return f"/etc/lab/passwords/{name}"

    def install(self, by_document=False):
        """Up to running services. `by_document`: with the document's configuration, else with this one's."""
        self.host.put_all(
            {
                "/etc/lab/certificate.pem": self.pki.certificate,
                "/etc/lab/key.pem": (self.pki.key, 0o640, "root:www-data"),
                **{self.password_file(name): (self.passwords[name] + "\n", 0o600, "root:root") for name in self.people},
            }
        )
        if by_document:
            self.put_sources()
            self.follow("files", "accounts", "config", "nginx", "nginx-account", "start")
            return
        # A host's layer has the accounts of those that the lab knows.
        if not self.host.layer or self.people != PEOPLE:
            self.put_sources()
            self.follow(*LAID_DOWN)
        if self.host.layer and self.host.kind == "vm":
            self._take_over()
            return
        self.write_config()
        self.follow("start")

    def _take_over(self):
        """It runs already, with the accounts of everybody, and everything is ready: only the configuration is another one."""
        self.host.sh("systemctl reload nginx")
        self.reload()
        image = lambda: {key: self.status()["image"][key] for key in ("name", "state")}  # noqa: E731
        self.host.wait_for("the image is there", lambda: image() == {"name": self.config["image"]["name"], "state": "present"}, 120)
        self.wait_settled(120)
        # One after the other, see snapshot.py.
        for name in self.plan()["pending"]:
            self.csm("restart", name, timeout=300)

    def put_sources(self):
        """What the document's blocks take from a checkout; and the image store's account, if need be."""
        if self.host.run("getent", "passwd", "code-server-multi-images", check=False).returncode:
            self.host.run("bash", "-eu", "-s", input=(env.LAB / "images-account").read_text())
        self.host.put_all(sources())

    def follow(self, *names):
        """Runs blocks of the document, in its order, in one shell."""
        settings = {
            "DOMAIN": self.domain,
            "PEOPLE": " ".join(self.people),
            "CERTIFICATE": "/etc/lab/certificate.pem",
            "CERTIFICATE_KEY": "/etc/lab/key.pem",
            "SOURCE": SOURCE,
            "CSM": CSM,
            "IMAGE": IMAGE,
        }
        script = [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
        found = {name: text for purpose, name, text in blocks() if purpose == "install"}
        assert found.keys() == {*LAID_DOWN, "config", "start"}, f"{DOCUMENT} has other install blocks: {found.keys()}"
        script += [text for name, text in found.items() if name in names]
        self.host.run("bash", "-euo", "pipefail", "-s", input="\n".join(script), timeout=180)

    def set_password(self, name, password):
        """Replaces the file at once, as secret managers do."""
        self.host.put(self.password_file(name), password + "\n", 0o600)

    def write_config(self):
        self.host.put(CONFIG, tomli_w.dumps(self.config))

    def reload(self):
        self.write_config()
        return self.csm("reload")

    def csm(self, *argv, check=True, timeout=60, **options):
        return self.host.run("csm", *argv, check=check, timeout=timeout, **options)

    def status(self, name=None):
        return json.loads(self.csm("status", *([name] if name else []), "--json").stdout)

    def wait_ready(self, *names, deadline=60):
        """Ready is what the daemon says after the editor has answered. The deadline is as `Host.wait_for` takes it."""
        wanted = dict.fromkeys(names or self.config["workspaces"], "ready")

        def all_ready():
            states = {one["name"]: one["state"] for one in self.status()["workspaces"] if one["name"] in wanted}
            assert states == wanted, states
            return True

        # Seldom: it starts them, and each question keeps it from that.
        self.host.wait_for(f"{', '.join(wanted)} are ready", all_ready, deadline, every=0.25)

    def state(self, name):
        return self.workspace(name)["state"]

    def workspace(self, name):
        return next(one for one in self.status()["workspaces"] if one["name"] == name)

    def plan(self):
        return json.loads(self.csm("plan", "--json").stdout)

    def is_settled(self):
        """Nothing is left to do, by a fresh look."""
        plan = self.plan()
        return not plan["host"] and not any(plan["workspaces"].values())

    def wait_settled(self, deadline=30):
        self.host.wait_for("nothing is left to do", self.is_settled, deadline)

    def daemon_pid(self):
        return int(self.host.show(DAEMON, "MainPID"))

    def nginx_pids(self):
        """Of the master and of the workers, which each reload replaces; not of those that only wait for their last answers."""
        return set(self.host.sh("pgrep -f '^nginx: (master process|worker process$)'").split())

    def main_pids(self, *names):
        """The process that each workspace's service stands and falls with."""
        names = list(names or self.config["workspaces"])
        units = [f"csm-{name}.service" for name in names]
        pids = self.host.run("systemctl", "show", "--property", "MainPID", "--value", *units).stdout.split()
        return dict(zip(names, map(int, pids), strict=True))

    def sign_in(self, client, name=None, password=None):
        """Signs a client in at the host it visits, and returns the answer."""
        name = name or client.visited.split(".")[0]
        form = {"password": self.passwords[name] if password is None else password, "next": "/"}
        return client.post("/_csm/sign-in", data=form, headers={"Origin": f"https://{client.visited}"})

    def client(self, name):
        """A client that is not signed in. The caller closes it."""
        return Client(self.host, self.pki, name, domain=self.domain)

    def visitor(self, name):
        """A client that is signed in at a workspace. The caller closes it."""
        client = self.client(name)
        answer = self.sign_in(client)
        assert answer.status_code == 303, (answer.status_code, answer.text[:500])
        return client

    def same_visitor(self, client):
        """The same person with a connection of their own, since a client serves one thread."""
        other = self.client(client.visited.split(".")[0])
        other.cookies.update(client.cookies)
        return other

    def session(self, client):
        """An open editor window of a client that is signed in."""
        return Session(client)

    def inside(self, name, *command, **options):
        """Runs a command in a workspace's container."""
        return self.host.run(*self.inside_argv(name, *command), **options)

    def inside_sh(self, name, script, *arguments, **options):
        command = ("bash", "-euo", "pipefail", "-c", script, "lab", *arguments)
        return self.inside(name, *command, **options).stdout.strip()

    def put_inside(self, name, path, content):
        """Writes a file in a workspace's container, as its user."""
        script = 'mkdir -p "$(dirname "$1")"; cat >"$1"'
        self.inside(name, "bash", "-euc", script, "lab", path, input=content, text=False)

    def inside_argv(self, name, *command):
        """Podman refuses to exec from outside the unit's cgroup, so the process joins it first."""
        return ["bash", "-euo", "pipefail", "-c", ENTER, "lab", name, *command]

    def cgroup(self, name, file):
        """A file of the workspace's cgroup."""
        group = self.host.show(f"csm-{name}.service", "ControlGroup")
        return self.host.sh('cat "/sys/fs/cgroup$1/$2"', group, file)

    def pids(self, name):
        """Every process of a workspace's service."""
        group = self.host.show(f"csm-{name}.service", "ControlGroup")
        return set(map(int, self.host.sh('find "/sys/fs/cgroup$1" -name cgroup.procs -exec cat {} +', group).split()))

    def ids(self, name):
        """The user ids of a workspace outside: the account's own, and those below it, which everything inside runs as.
        For somebody whose account is about to go: as the arguments that `processes` takes."""
        return self._ids(name)[name]

    def _ids(self, *names):
        script = 'for name; do echo "$name $(id -u "csm-$name") 1" $(sed -n "s/^csm-$name:\\([0-9]*\\):/\\1 /p" /etc/subuid); done'
        return {name: ids for name, *ids in map(str.split, self.host.sh(script, *names).splitlines())}

    def processes(self, ids):
        """What runs with one of these user ids, wherever: {pid: "cgroup name"}."""
        assert len(ids) >= 4, f"an account and its range: {ids}"
        return {pid: what for pid, _, what in self._of_ids(ids)}

    def strays(self, *names):
        """Those of each workspace that are in no unit of its own: {name: {pid: "cgroup name"}}."""
        ids = {name: list(map(int, some)) for name, some in self._ids(*names).items()}
        assert all(len(some) >= 4 for some in ids.values()), f"accounts and their ranges: {ids}"
        owner = lambda uid: next(name for name in names if any(first <= uid < first + count for first, count in zip(ids[name][::2], ids[name][1::2])))  # noqa: E731
        strays = {name: {} for name in names}
        for pid, uid, what in self._of_ids(map(str, sum(ids.values(), []))):
            name = owner(uid)
            if not re.search(rf"/csm-{name}(--[a-z]+-[0-9]+)?\.service(/| )", what):
                strays[name][pid] = what
        return strays

    def _of_ids(self, ids):
        lines = self.host.run("python3", "-c", OF_IDS, *ids).stdout.splitlines()
        return [(int(pid), int(uid), what) for pid, uid, what in (line.split(" ", 2) for line in lines)]
