"""Which kind of host a story gets: the fast one wherever it really has what the story needs."""

import functools
import subprocess

from . import env

CONTROLLERS = {"memory", "cpu", "pids"}
KNOWN = CONTROLLERS | {"reboot", "clock"}


def kind_for(needs):
    unknown = set(needs) - KNOWN
    if unknown:
        raise ValueError(f"unknown needs: {sorted(unknown)}; known are {sorted(KNOWN)}")
    return "ns" if set(needs) <= _of_ns() else "vm"


@functools.cache
def _of_ns():
    asked = subprocess.run([env.LAB / "bin" / "ns", "controllers"], capture_output=True, text=True, check=True)
    return CONTROLLERS & set(asked.stdout.split())
