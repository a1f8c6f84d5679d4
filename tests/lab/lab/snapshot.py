"""What a `vm` was when the product had been installed in it, the long way, and all workspaces were ready: made once, and the
machine of each story file goes on from there in seconds. What a state is, bin/vm says.

A state is named after a hash of all that it is made of."""

import functools
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from . import env, layer
from .host import Host
from .once import once
from .pki import Pki
from .product import Product

# A state takes a gigabyte, and tests/guards/run makes one for each guard that a `vm` has a story for.
KEPT = 4
AN_HOUR = 3600
A_WEEK = 7 * 24 * AN_HOUR


@functools.cache
def place():
    """The state of this checkout, this binary and this image store, which is made if need be."""
    state = _path()
    if once(state, _make):
        _remove_old()
    os.utime(state)
    return state


def exists():
    """Whether it is made already. On a machine without QEMU it is not, and none is installed to ask."""
    return bool(shutil.which("qemu-system-x86_64")) and _path().exists()


def _path():
    asked = [env.LAB / "bin" / "vm", "id", env.product("STORE")]
    differ = subprocess.run(asked, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return env.CACHE / f"vm-installed-{layer.hash_of(differ.stdout, 'lab/host.py', 'lab/snapshot.py')}"


class _Master(Host):
    """One that can be saved, which ends it."""

    def up(self):
        self._up("make")

    def save(self, place):
        self._drive("save", self.name, place, timeout=300)


def _make(new):
    with _Master("snapshot", "vm", env.product("STORE")) as host, tempfile.TemporaryDirectory() as scratch:
        product = Product(host, Pki(Path(scratch)))
        # One editor after the other: code-server gives up when its own second process is not there within seconds, and three
        # that start at once on an emulated processor keep each other from it.
        later = [product.config["workspaces"].popitem()[0] for _ in product.people[1:]]
        product.install()
        product.wait_ready(deadline=75)
        for name in reversed(later):
            product.add(name)
            product.wait_ready(name, deadline=75)
        product.wait_settled(60)
        host.save(new)


def _remove_old():
    """Machines that are up keep their state by links of their own. A disk goes with the last state that was made from it, if no
    machine was made from it for a week either (bin/vm)."""
    states = [one for one in env.CACHE.glob("vm-*") if one.is_dir() and one.suffix != ".new"]
    for kind in ("booted", "installed"):
        of_kind = [one for one in states if one.name.startswith(f"vm-{kind}-")]
        for one in sorted(of_kind, key=lambda one: one.stat().st_mtime)[:-KEPT]:
            if time.time() - one.stat().st_mtime > AN_HOUR:
                shutil.rmtree(one, ignore_errors=True)
    of_states = {_disk_of(one) for one in states if one.exists()}
    for one in env.CACHE.glob("disk-*"):
        if one.is_dir() and one.suffix != ".new" and one not in of_states and time.time() - one.stat().st_mtime > A_WEEK:
            shutil.rmtree(one, ignore_errors=True)


def _disk_of(state):
    """As the state's own disk says, which is what differs from it; nothing where another run has just removed the state."""
    asked = ["qemu-img", "info", "--force-share", "--output=json", state / "disk"]
    told = subprocess.run(asked, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return None if told.returncode else Path(json.loads(told.stdout)["full-backing-filename"]).parent
