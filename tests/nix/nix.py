"""Nix, run from an unpacked Debian tree with a store of its own that is thrown away."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
# What evaluation reads, and nothing else: what was built beside it would be copied with a flake.
INPUTS = ["flake.nix", "flake.lock", "Cargo.toml", "Cargo.lock", "nix", "src", "tests", "docs/options.md", "images/workspace"]


class Nix:
    def __init__(self):
        self.tree, self.lib = Path(os.environ["NIX_TREE"]), Path(os.environ["NIX_LIB"])
        self.room = Path(tempfile.mkdtemp(prefix="csm-nix-"))
        settings = f"store = local?root={self.room}/root\nexperimental-features = nix-command flakes\n"
        (self.room / "nix.conf").write_text(settings + "flake-registry =\nwarn-dirty = false\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["chmod", "-R", "u+w", self.room], check=True)
        shutil.rmtree(self.room)

    def run(self, name, *argv):
        libraries = next(self.tree.glob("usr/lib/*-linux-gnu"))
        loader = next(libraries.glob("ld-linux-*.so.*"))
        # One program with many names.
        program = [loader, "--library-path", libraries, "--argv0", name, self.tree / "usr/bin/nix"]
        own = {"HOME": self.room, "NIX_CONF_DIR": self.room, "NIX_STATE_DIR": self.room / "state", "PATH": os.environ["PATH"]}
        return subprocess.run([*program, *argv], capture_output=True, text=True, env=own, timeout=300)

    def evaluate(self, attribute):
        """What an attribute of default.nix is: (value, None) or (None, what Nix said)."""
        expression = f'(import {HERE}/default.nix {{ lib = import {self.lib}; }}).{attribute}'
        done = self.run("nix-instantiate", "--eval", "--strict", "--json", "--expr", expression)
        if done.returncode:
            # The trace names places in `lib`, which differ from one version to the next.
            return None, done.stderr[done.stderr.rfind("error: ") :]
        return json.loads(done.stdout), None

    def parses(self, text):
        """Whether it is Nix: a whole expression, or lines of an attribute set."""
        tried = (self.run("nix-instantiate", "--parse", "--expr", f"{{ config, pkgs }}: {one}") for one in (text, f"{{ {text} }}"))
        return any(done.returncode == 0 for done in tried)

    def check_flake(self):
        """What is wrong with the flake's shape, with Nixpkgs played by stub.nix; empty is right."""
        copy = self.room / "checkout"
        for name in INPUTS:
            source, place = CHECKOUT / name, copy / name
            place.parent.mkdir(parents=True, exist_ok=True)
            ignore = shutil.ignore_patterns("target", "__pycache__")
            shutil.copytree(source, place, ignore=ignore) if source.is_dir() else shutil.copy(source, place)
        stub = self.room / "nixpkgs"
        shutil.copytree(self.lib, stub / "lib")
        shutil.copy(HERE / "stub.nix", stub / "default.nix")
        (stub / "flake.nix").write_text("{ outputs = _: import ./. { lib = import ./lib; }; }\n")
        options = ["--no-build", "--offline", "--no-write-lock-file", "--all-systems"]
        done = self.run("nix", "flake", "check", *options, "--override-input", "nixpkgs", f"path:{stub}", f"path:{copy}")
        if done.returncode:
            return [done.stderr[done.stderr.rfind("error:") :]]
        # The lock says what flake.nix asks for: Nix would write another one if it didn't.
        lock = copy / "flake.lock"
        done = self.run("nix", "flake", "lock", "--offline", f"path:{copy}")
        if done.returncode or lock.read_bytes() != (CHECKOUT / "flake.lock").read_bytes():
            return [f"flake.lock is not what flake.nix asks for: {done.stderr}"]
        return []
