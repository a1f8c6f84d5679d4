"""The daemon is killed at a system call of what it is doing, and nobody notices: F1 and F2. At all of them with
CSM_LAB_CALLS=all (tests/long does); at some, drawn by CSM_LAB_SEED, otherwise. stories/test_kill9.py kills it around
each step and at random moments."""

import os
import random
import re
import time

import pytest

from lab.invariants import plant_canary
from lab.product import DAEMON

CALLS = os.environ.get("CSM_LAB_CALLS", "3")
SEED = int(os.environ.get("CSM_LAB_SEED") or time.time_ns() % 1_000_000)
# Where nobody looks for secrets: the daemon handles them, and strace shows it.
TRACE = "/etc/lab/trace"

# How an intent is replaced: F2 kills at each of these up to the rename, on every run.
WRITING = ("fchown", "fchmod", "fsync", "renameat", "renameat2")


def CONFIGURE(product):
    plant_canary(product)
    product.host.put(f"/etc/systemd/system/{DAEMON}.d/lab.conf", "[Service]\nRestartSec=20ms\n")


class Tracer:
    """strace(1) of the daemon from outside its sandbox, which lets it trace nobody."""

    def __init__(self, host, pid, *options):
        self.host = host
        self._strace = host.start("strace", "-f", "-p", str(pid), *options)
        # It says so once it holds the process; everything after that is seen.
        line = self._strace.stdout.readline()
        assert b"attached" in line, line

    def has_ended(self):
        """As it does with the process that it traces."""
        return self._strace.poll() is not None

    def end(self):
        self.host.run("pkill", "-x", "strace", check=False)
        self._strace.communicate(timeout=20)


def calls_of(host, product, act, arrived):
    """Every system call of the daemon while it does it: [(name, which one of that name, the call in words)]."""
    tracer = Tracer(host, product.daemon_pid(), "-o", TRACE)
    assert act() == 0
    host.wait_for(arrived.__name__, arrived, 40)
    tracer.end()
    counts, calls = {}, []
    for line in host.get(TRACE).decode(errors="replace").splitlines():
        found = re.match(r"(?:\d+ +)?([a-z0-9_]+)\(", line)
        if found:
            name = found[1]
            counts[name] = counts.get(name, 0) + 1
            calls.append((name, counts[name], line))
    return calls


def drawn(calls, dice):
    if CALLS == "all":
        return calls
    # Not of the last: how often it waits differs, and what is not reached shows nothing.
    return sorted(dice.sample(calls[: len(calls) * 3 // 4], int(CALLS)), key=calls.index)


def killed_at(host, product, call, act, arrived, again):
    """Does it with the kill armed, and waits until it came about. Whether the daemon was killed on the way."""
    name, number, _ = call
    before = product.daemon_pid()
    tracer = Tracer(host, before, "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}")
    try:
        code = act()
        # Some acts only ask.
        host.wait_for(f"killed, or {arrived.__name__}", lambda: tracer.has_ended() or arrived(), 40)
    finally:
        tracer.end()
    host.wait_for("a daemon answers", lambda: product.status(), 20)
    killed = product.daemon_pid() != before
    if code != 0:
        assert killed, f"undisturbed it ended with {code}"
        # Whether it was on disk by then nobody can know; asking again is what people do.
        again()
    host.wait_for(arrived.__name__, arrived, 40)
    return killed


@pytest.fixture(scope="module")
def dice():
    print(f"seed: {SEED} (CSM_LAB_SEED={SEED} repeats it)")
    return random.Random(SEED)


def of_the_intent(calls):
    """Those that write the intent: from the first that names its file to the one that syncs its directory."""
    first = next(n for n, call in enumerate(calls) if "sam.toml" in call[2])
    last = next(n for n, call in enumerate(calls) if call[0].startswith("rename") and "sam.toml" in call[2])
    return [call for call in calls[first : last + 2] if call[0] in WRITING or "running = " in call[2]]


def at_system_calls(host, product, invariants, dice, acts, only=None):
    """`acts` lead from one to the next and back to the first. Each is recorded once, then done and killed at its calls."""
    found = [calls_of(host, product, act, arrived) for act, arrived in acts]
    chosen = [only(calls) if only else drawn(calls, dice) for calls in found]
    print("system calls:", {act.__name__: f"{len(some)} of {len(calls)}" for (act, _), some, calls in zip(acts, chosen, found)})
    assert all(len(calls) > 20 for calls in found) and all(chosen)
    kills = 0
    for turn in range(max(map(len, chosen))):
        for (act, arrived), some in zip(acts, chosen):
            call = some[turn % len(some)]
            what = f"seed {SEED}: {act.__name__} killed at {call[0]} number {call[1]}"
            try:
                kills += killed_at(host, product, call, act, arrived, act)
                invariants.intents_are_whole()
                invariants.quick(within=10)
            except AssertionError as error:
                raise AssertionError(what) from error
    print(f"killed {kills} times")
    assert kills


@pytest.mark.long
def test_f1_stop_and_start_at_system_calls(host, product, invariants, sam, dice):
    at_system_calls(host, product, invariants, dice, [(sam.stop, sam.is_stopped), (sam.start, sam.is_ready)])


@pytest.mark.long
def test_f1_a_change_that_applies_itself_at_system_calls(host, product, invariants, sam, dice):
    at_system_calls(host, product, invariants, dice, [(sam.change_now, sam.has_greeting)])
    product.config["workspaces"]["sam"]["apply"] = "pending"
    product.reload()


@pytest.mark.long
def test_f2_every_call_that_writes_an_intent(host, product, invariants, sam, dice):
    """Only what is on disk counts after it: the old intent or the new one, and never a mix."""
    acts = [(sam.stop, sam.is_stopped), (sam.start, sam.is_ready)]
    at_system_calls(host, product, invariants, dice, acts, only=of_the_intent)
    invariants.check()
