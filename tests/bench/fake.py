"""The controller alone, on the engine that tests/it made up: what deciding costs, without a machine."""

import json
import subprocess

from lab import env

from .parts import spread


def fake(place, options):
    """Runs tests/bench/controller.rs. Built beforehand by `run`, so that building is no part of it."""
    found = subprocess.run([env.product("CONTROLLER"), "--bench"], capture_output=True, text=True, check=True, timeout=300)
    return [
        {what: spread(value) if isinstance(value, list) else value for what, value in row.items()}
        for row in json.loads(found.stdout)
    ]
