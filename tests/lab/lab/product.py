"""code-server-multi on a host: installed by the blocks of docs/operations.md, so that the document is what is tested."""

import json
import re
import secrets
import shlex

import tomli_w

from . import env

PEOPLE = ("dan", "alice", "sam")
DOCUMENT = env.CHECKOUT / "docs" / "operations.md"
SOURCE = "/usr/src/code-server-multi"
CONFIG = "/etc/code-server-multi/config.toml"
IMAGE = "/var/lib/code-server-multi-image.tar"


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
            "workspaces": {name: {"password_file": self.password_file(name)} for name in people},
        }

    def password_file(self, name):
        return f"/etc/lab/passwords/{name}"

    def install(self, by_document=False):
        """Up to running services. `by_document`: with the document's configuration, else with this one's."""
        host = self.host
        host.put("/etc/lab/certificate.pem", self.pki.certificate)
        host.put("/etc/lab/key.pem", self.pki.key, 0o640, "root:www-data")
        for name in self.people:
            self.set_password(name, self.passwords[name])
        host.run("bash", "-eu", "-s", input=(env.LAB / "images-account").read_text())
        host.put_tree(env.CHECKOUT / "nix" / "units", f"{SOURCE}/nix/units")
        host.put(f"{SOURCE}/images/workspace/versions", env.CHECKOUT / "images" / "workspace" / "versions")
        host.put("/usr/src/csm", env.product("CSM"), 0o755)
        if not by_document:
            self.write_config()
        settings = {
            "DOMAIN": self.domain,
            "PEOPLE": " ".join(self.people),
            "CERTIFICATE": "/etc/lab/certificate.pem",
            "CERTIFICATE_KEY": "/etc/lab/key.pem",
            "SOURCE": SOURCE,
            "CSM": "/usr/src/csm",
            "IMAGE": IMAGE,
        }
        script = [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
        for purpose, name, text in blocks():
            if purpose == "install" and (by_document or name != "config"):
                script.append(text)
        host.run("bash", "-euo", "pipefail", "-s", input="\n".join(script), timeout=180)

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
        """Ready is what the daemon says after the editor has answered."""
        for name in names or self.people:
            self.host.wait_for(f"{name} is ready", lambda name=name: self.state(name) == "ready", deadline)

    def state(self, name):
        return self.workspace(name)["state"]

    def workspace(self, name):
        return next(one for one in self.status()["workspaces"] if one["name"] == name)

    def cgroup(self, name, file):
        """A file of the workspace's cgroup."""
        group = self.host.show(f"csm-{name}.service", "ControlGroup")
        return self.host.sh('cat "/sys/fs/cgroup$1/$2"', group, file)

    def pids(self, name):
        """Every process of a workspace's service."""
        group = self.host.show(f"csm-{name}.service", "ControlGroup")
        return set(map(int, self.host.sh('find "/sys/fs/cgroup$1" -name cgroup.procs -exec cat {} +', group).split()))
