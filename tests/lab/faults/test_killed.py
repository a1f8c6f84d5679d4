"""The daemon is killed at a system call of what it is doing, and nobody notices: F1 and F2. At some calls, drawn by
CSM_LAB_SEED; at all of them with CSM_LAB_CALLS=all (tests/long does). stories/test_kill9.py kills it around each step and
at random moments.

strace(1) counts calls for each thread by itself, and so does the recording. Which thread comes to a number first may differ
from time to time: then the daemon is killed a little earlier, and that is told."""

import os
import re

from lab import dice
from lab.invariants import plant_canary
from lab.product import DAEMON
from lab.tracer import Tracer

CALLS = os.environ.get("CSM_LAB_CALLS", "3")
# Of all calls, every Nth, beginning with this one: "2/6" is the second of six shares, which go on side by side.
SHARE, SHARES = map(int, os.environ.get("CSM_LAB_SHARE", "1/1").split("/"))
INTENT = "/var/lib/code-server-multi/intent"

# Of those that are wanted, at least so many are met. One that isn't was not reached, since what the daemon does differs a little
# from time to time; the first of each kind always are.
LEAST = 3


def CONFIGURE(product):
    plant_canary(product)
    product.only("dan", "sam")
    product.host.put(f"/etc/systemd/system/{DAEMON}.d/lab.conf", "[Service]\nRestartSec=20ms\n")


def calls_of(host, product, act, arrived):
    """Every system call of the daemon while it does it."""
    tracer = Tracer(host, product.daemon_pid())
    try:
        assert act() == 0
        host.wait_for(arrived.__name__, arrived, 40)
    finally:
        tracer.end()
    return tracer.calls()


def any_of(calls):
    # Not of the last: how often it waits differs, and what is not reached shows nothing.
    return calls[SHARE - 1 :: SHARES] if CALLS == "all" else calls[: len(calls) * 3 // 4]


def of_the_intent(calls):
    """Those that write the intent: of all of them some, and those that make it last. Its new file is made, written, given
    away, synced and renamed, and the directory synced."""
    chosen = [call for call in calls if INTENT in call[2]]
    assert {"openat", "write"} <= {call[0] for call in chosen}, chosen
    # Nobody cuts the power here, so the order is looked at: the content, the name, and the directory that has it.
    lasting = [line for name, _, line in chosen if name == "fsync" or name.startswith("rename")]
    expected = [rf"fsync\(\d+<{INTENT}/\.sam\.toml\.new>", r"rename\w*\(", rf"fsync\(\d+<{INTENT}>"]
    assert len(lasting) == 3 and all(map(re.search, expected, lasting)), lasting
    others = [call for call in chosen if call[2] not in lasting]
    return chosen if CALLS == "all" else that_last(chosen) + dice.of("intent").sample(others, int(CALLS))


def that_last(calls):
    return [call for call in calls if INTENT in call[2] and (call[0] == "fsync" or call[0].startswith("rename"))]


def killed_at(host, product, sam, call, act, arrived):
    """Does it with the kill armed, and waits until it came about. The call that it was killed at; nothing when it was not
    reached."""
    name, number, _ = call
    before = product.daemon_pid()
    tracer = Tracer(host, before, "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}")
    try:
        code = act()
        # Some acts only ask.
        host.wait_for(f"killed, or {arrived.__name__}", lambda: tracer.has_ended() or arrived(), 40)
    finally:
        tracer.end()
    host.wait_for("a daemon answers", product.status, 20)
    killed = product.daemon_pid() != before
    if code == 0:
        sam.assert_done(act.__name__)
    else:
        assert killed, f"undisturbed it ended with {code}"
        # Whether it was on disk by then nobody can know; asking again is what people do.
        assert sam.again(act.__name__) == 0
    host.wait_for(arrived.__name__, arrived, 40)
    calls = tracer.calls()
    assert killed or all(one[1] < number for one in calls if one[0] == name), f"it went on after its {number}. {name}"
    return calls[-1][2] if killed else None


def at_system_calls(host, product, invariants, sam, story, acts, choose=any_of, enough=CALLS):
    """`acts` lead from one to the next and back to the first. Each is recorded once, then done and killed at its calls.
    Gives the calls that were drawn, with those that it was killed at."""
    found = [calls_of(host, product, act, arrived) for act, arrived in acts]
    assert all(len(calls) > 20 for calls in found), list(map(len, found))
    draws = [dice.Draw(dice.of(f"{story} {act.__name__}"), choose(calls), enough) for (act, _), calls in zip(acts, found)]
    met = []
    while any(drawn := [draw.next() for draw in draws]):
        for (act, arrived), draw, call in zip(acts, draws, drawn):
            try:
                if call:
                    met.append((call, killed_at(host, product, sam, call, act, arrived)))
                    draw.took(call, met[-1][1] is not None)
                    invariants.intents_are_whole()
                else:
                    assert act() == 0
                    host.wait_for(arrived.__name__, arrived, 40)
                invariants.quick(within=10)
            except AssertionError as error:
                raise AssertionError(f"seed {dice.SEED}: {act.__name__}, to be killed at {call}") from error
    print("system calls that it was killed at:", {act.__name__: str(draw) for (act, _), draw in zip(acts, draws)})
    assert all(draw.met >= min(draw.wanted, LEAST) for draw in draws), [call for call, at in met if at is None]
    return met


def test_f1_stop_and_start_at_system_calls(host, product, invariants, sam):
    at_system_calls(host, product, invariants, sam, "stop and start", [(sam.stop, sam.is_stopped), (sam.start, sam.is_ready)])


def test_f1_a_change_that_applies_itself_at_system_calls(host, product, invariants, sam):
    at_system_calls(host, product, invariants, sam, "change", [(sam.change_now, sam.has_greeting)])
    product.config["workspaces"]["sam"]["apply"] = "pending"
    product.reload()


def test_f2_every_call_that_writes_an_intent(host, product, invariants, sam):
    """Only what is on disk counts after it: the old intent or the new one, and never a mix."""
    acts = [(sam.stop, sam.is_stopped), (sam.start, sam.is_ready)]
    met = at_system_calls(host, product, invariants, sam, "intent", acts, of_the_intent, "all")
    # Where another thread came to a number first, it was killed a little earlier.
    exact = {call[0] for call, at in met if at and INTENT in at}
    while not ({"fsync"} < exact and any(name.startswith("rename") for name in exact)) and len(met) < 100:
        met += at_system_calls(host, product, invariants, sam, "intent", acts, that_last, "all")
        exact = {call[0] for call, at in met if at and INTENT in at}
    assert not {call for call, at in met if not at} - {call for call, at in met if at}, met
    print(f"at {sum(INTENT in at for _, at in met if at)} of {len(met)} exactly there: {sorted(exact)}")
    assert {"fsync"} < exact and any(name.startswith("rename") for name in exact), met
    invariants.check()
