"""Where the measuring happens: a host with the product in it, and what it and the machine consist of."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from lab import env
from lab.host import Host
from lab.pki import Pki
from lab.product import PEOPLE, Product

# A workspace that is added while the others run, to see what one more costs.
ONE_MORE = "eve"
INSIDE = "/usr/src/bench"


class Place:
    """Use as a context manager."""

    def __init__(self, kind="ns"):
        self._directory = tempfile.TemporaryDirectory(prefix="csm-bench-")
        self.directory = Path(self._directory.name)
        self.host = Host(f"bench-{kind}", kind, env.product("STORE"))
        self.pki = Pki(self.directory / "pki")
        self.product = Product(self.host, self.pki, people=(*PEOPLE, ONE_MORE))
        del self.product.config["workspaces"][ONE_MORE]

    def __enter__(self):
        self.host.up()
        try:
            for script in Path(__file__).parent.glob("inside*.py"):
                self.host.put(f"{INSIDE}/{script.name}", script)
            self.product.install()
            self.product.wait_ready(deadline=75)
        except BaseException:
            self.host.collect(env.artifacts() / "bench")
            self.host.down()
            raise
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.host.collect(env.artifacts() / "bench")
        self.host.down()
        self._directory.cleanup()

    def inside(self, verb, *words, script="inside.py", timeout=60):
        done = self.host.run("python3", f"{INSIDE}/{script}", verb, *map(str, words), timeout=timeout)
        return json.loads(done.stdout)


def kernel(place):
    return place.host.sh("uname -r")


def load():
    return os.getloadavg()[0]


def machine():
    """The build machine, which is what the host runs on."""
    cpu = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.M)
    return {
        "cpu": cpu[1] if cpu else os.uname().machine,
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[1]) / 2**20, 1),
        "kernel": os.uname().release,
    }


def versions(place):
    host = place.host.sh
    first = lambda *argv: subprocess.run(argv, capture_output=True, text=True, check=True, cwd=env.CHECKOUT).stdout.split("\n")[0]
    pinned = dict(re.findall(r"^([A-Z_]+)=(.*)$", (env.CHECKOUT / "images/workspace/versions").read_text(), re.M))
    return {
        "csm": f"{host('csm version | head -n 1').split()[-1]}, commit {commit()}, {env.product('CSM').stat().st_size / 1e6:.1f} MB",
        "rustc": first("rustc", "--version").split()[1],
        "systemd": host("systemctl --version | sed -n '1s/.*(\\(.*\\)).*/\\1/p'"),
        "podman": host("podman --version").split()[-1],
        "crun": host("crun --version | head -n 1").split()[-1],
        "passt": host("dpkg-query -W -f '${Version}' passt"),
        "nginx": host("nginx -v 2>&1").split("/")[-1],
        "code-server": pinned["CODE_SERVER"],
        "Node": pinned["NODE"],
        "Chromium": first("chromium", "--version").split()[1] if shutil.which("chromium") else "-",
        "wrk": first("dpkg-query", "-W", "-f", "${Version}", "wrk"),
    }


def commit():
    """Of the checkout; nothing when it is no git repository."""
    git = ["git", "-C", str(env.CHECKOUT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        return "unknown"
    changed = subprocess.run([*git, "status", "--porcelain", "src", "Cargo.toml", "nix"], capture_output=True, text=True)
    return head.stdout.strip() + (" with changes" if changed.stdout else "")
