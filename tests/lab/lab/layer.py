"""A host with the product installed and never started, made once: each host that has the product begins as this one was.

It is made by the blocks of docs/operations.md, as `Product.install` does it, up to the configuration, which is each story
file's own. Its name is a hash of all that it is made of, and a number where a host has changed one of that name. Hosts share what
was written to the system's overlay by having it as one more layer below their own; what was written to /var, /home and /srv each
gets a copy of (bin/ns)."""

import functools
import hashlib
import itertools
import os
import shutil
import subprocess
import time
from pathlib import Path

from . import env
from .host import Host
from .once import once
from .product import LAID_DOWN, PEOPLE, Product, blocks, sources

PARTS = ("upper", "var", "home", "srv")
# Layers of other versions that are kept, for whoever changes between them, and for how long at least.
KEPT = 10
A_DAY = 24 * 3600

# What belongs to the one host that the layer was, or to the moment at which it was made.
OF_THE_HOST = (
    "upper/etc/machine-id",  # each host makes its own at its first boot
    "upper/etc/hostname",
    "var/log/journal/*",
    "var/lib/systemd/random-seed",
    # A timer that is persistent would start what it has missed since then.
    "var/lib/systemd/timers/*",
)


@functools.cache
def place():
    """The layer of this checkout and this binary, which is made if need be."""
    # One that a host has changed stays where it is, since others may be up on it.
    places = (env.CACHE / f"layer-{_hash()}{number}" for number in itertools.chain([""], map("-{}".format, itertools.count(2))))
    layer = next(one for one in places if not one.exists() or intact(one))
    if once(layer, _make):
        _remove_old(layer)
    os.utime(layer)
    # For whoever looks at it at the end of the run, which may be another process.
    with (env.artifacts() / ".layers").open("a") as used:
        used.write(f"{layer}\n")
    return layer


def intact(layer):
    """Whether every file is as it was when the layer was made: a host that changed one changed it for all."""
    return (layer / "stamp").read_text() == _stamp(layer)


def changed():
    """A layer that this run uses, if it is not what it was."""
    used = env.artifacts() / ".layers"
    layers = map(Path, sorted(set(used.read_text().splitlines()))) if used.exists() else ()
    return next((one for one in layers if not intact(one)), None)


def _hash():
    tree = subprocess.run([env.LAB / "bin" / "tree"], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return hash_of(tree.stdout, "bin/ns")


def hash_of(below, *makers):
    """Of everything that an installed product is made of: a text that says what is below it, and the lab's own files."""
    made = hashlib.sha256(repr((below, PEOPLE, LAID_DOWN, blocks())).encode())
    for path, file in sources().items():
        content = file[0] if isinstance(file, tuple) else file
        made.update(path.encode() + hashlib.sha256(content.read_bytes()).digest())
    for name in ("images-account", "lab/layer.py", "lab/product.py", *makers):
        made.update((env.LAB / name).read_bytes())
    return made.hexdigest()[:12]


def _make(new):
    with Host("layer") as host:
        product = Product(host, None)
        product.put_sources()
        product.follow(*LAID_DOWN)
        host.halt()
        new.mkdir()
        for part in PARTS:
            (host.directory / part).rename(new / part)
    for log in new.glob("var/log/nginx/*"):
        os.truncate(log, 0)
    for pattern in OF_THE_HOST:
        for found in new.glob(pattern):
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    (new / "stamp").write_text(_stamp(new))


def _stamp(layer):
    lines = []
    for part in PARTS:
        for directory, _, names in os.walk(layer / part):
            for path in (directory, *(os.path.join(directory, name) for name in names)):
                one = os.lstat(path)
                said = os.readlink(path) if os.path.islink(path) else (one.st_size, one.st_mtime_ns) if not os.path.isdir(path) else ""
                lines.append(f"{os.path.relpath(path, layer)} {one.st_mode:o} {one.st_uid}:{one.st_gid} {said}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _remove_old(layer):
    """tests/guards/run makes one for each guard that it takes out."""
    others = [one for one in env.CACHE.glob("layer-*") if one.is_dir() and one.suffix != ".new" and one != layer]
    for one in sorted(others, key=lambda one: one.stat().st_mtime)[:-KEPT]:
        if time.time() - one.stat().st_mtime > A_DAY:
            shutil.rmtree(one, ignore_errors=True)
