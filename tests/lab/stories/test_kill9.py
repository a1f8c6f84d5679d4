"""kill -9 of the daemon around the steps it takes and at random moments, and of the gateway: nobody notices.

The lab's binary counts down a number at the boundaries of its actions and kills itself at zero: here at some boundaries,
drawn by CSM_LAB_SEED, and at every one with CSM_LAB_BOUNDARIES=all. CSM_LAB_KILLS makes random moments more. tests/long
does both."""

import concurrent.futures
import os
import time

import pytest

from lab import dice, pace
from lab.bystanders import Bystanders
from lab.product import DAEMON, GATEWAY
from lab.subject import Subject

BOUNDARY = "/run/code-server-multi/kill-at-boundary"
BYSTANDERS = ("dan",)
# Of each act; and far more than any has.
BOUNDARIES = os.environ.get("CSM_LAB_BOUNDARIES", "3")
ENOUGH = 60
# Each act has more of them, however often the daemon looks again: so these are met whenever they are drawn.
LEAST = 3
KILLS = int(os.environ.get("CSM_LAB_KILLS", "8"))


def CONFIGURE(product):
    product.only("dan", "sam")
    # A second's pause before each of a hundred restarts is time that shows nothing.
    product.host.put(f"/etc/systemd/system/{DAEMON}.d/lab.conf", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=20ms\n")


@pytest.fixture(scope="module")
def bystanders(product):
    bystanders = Bystanders(product, *BYSTANDERS)
    yield bystanders
    bystanders.close()


@pytest.fixture(scope="module")
def sam(host, product):
    return Subject(host, product)


def armed(host, product, boundary, act):
    """Does it, to be killed at that boundary. Who was the daemon before; and the exit code."""
    before = product.daemon_pid()
    host.sh('echo "$2" >"$1"', BOUNDARY, str(boundary))
    return before, act()


def settle(host, product, before, arrived):
    """Waits until it came about. How many boundaries were left to go; nothing when the daemon was killed on the way."""
    host.wait_for(f"sam: {arrived.__name__}", lambda: arrived() and product.is_settled(), 40)
    left = host.sh('cat "$1" 2>/dev/null || true; rm -f "$1"', BOUNDARY)
    killed = product.daemon_pid() != before
    assert killed != bool(left), "the daemon died otherwise than by the boundary"
    return None if killed else int(left)


def boundaries_of(host, product, act, arrived):
    """How many it has: it is done once without being killed, and what is counted down meanwhile is what it has."""
    before, code = armed(host, product, ENOUGH, act)
    left = settle(host, product, before, arrived)
    assert left is not None, f"{act.__name__} has {ENOUGH} boundaries"
    assert code == 0, f"{act.__name__} undisturbed ended with {code}"
    return came_to(ENOUGH, left)


def came_to(boundary, left):
    """How many there were, where it was not killed. Fewer would mean that fail points have gone."""
    assert boundary - left >= LEAST, (boundary, left)
    return boundary - left


def at_boundaries(host, product, bystanders, story, *acts):
    """Each act in turn, killed at its boundaries. They lead from one to the next and back to the first."""
    draws = []
    for act, arrived in acts:
        count = boundaries_of(host, product, act, arrived)
        draws.append(dice.Draw(dice.of(f"{story} {act.__name__}"), range(1, count + 1), BOUNDARIES))
    while any(drawn := [draw.next() for draw in draws]):
        for (act, arrived), draw, boundary in zip(acts, draws, drawn):
            before, code = armed(host, product, boundary or ENOUGH, act)
            try:
                left = settle(host, product, before, arrived)
                if left is not None:
                    assert code == 0, f"undisturbed it ended with {code}"
                    came_to(boundary or ENOUGH, left)
                if boundary:
                    draw.took(boundary, left is None)
                bystanders.check()
            except AssertionError as error:
                raise AssertionError(f"seed {dice.SEED}: {act.__name__}, to be killed at boundary {boundary}") from error
    print("killed at boundaries:", {act.__name__: str(draw) for (act, _), draw in zip(acts, draws)})
    assert all(draw.met >= min(draw.wanted, LEAST) for draw in draws)


def test_stop_and_start(host, product, bystanders, sam):
    before = sam.starts()
    done = 0

    def start():
        nonlocal done
        done += 1
        return sam.start()

    at_boundaries(host, product, bystanders, "stop and start", (sam.stop, sam.is_stopped), (start, sam.is_ready))
    # Adopted, not started once more: as many starts as were asked for.
    assert sam.starts() - before == done


def test_remove_and_add(host, product, bystanders, sam):
    at_boundaries(host, product, bystanders, "remove and add", (sam.remove, sam.is_gone), (sam.add, sam.is_ready))


def test_a_changed_environment_and_the_restart_that_applies_it(host, product, bystanders, sam):
    """What the caller was told is true: a restart that ended well has happened."""

    def change():
        code = sam.change()
        if code == 0:
            sam.assert_done("change")
        return code

    at_boundaries(host, product, bystanders, "change", (change, sam.is_ready))
    sam.restart()
    assert sam.has_greeting()


def test_random_moments(host, product, bystanders, sam):
    drawn = dice.of("random moments")
    arrived = {"stop": sam.is_stopped, "start": sam.is_ready, "restart": sam.is_ready, "remove": sam.is_gone, "add": sam.is_ready, "change": sam.is_ready}
    state = "ready"
    after = {"stop": "stopped", "remove": "gone"}
    acknowledged = 0
    choices = {"ready": ("stop", "restart", "remove", "change"), "stopped": ("start", "restart", "change"), "gone": ("add",)}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for number in range(KILLS):
            act = drawn.choice(choices[state])
            moment = drawn.uniform(0, 1.5)
            what = f"seed {dice.SEED}, kill {number}: {act}, after {moment:.3f} s"
            print(what)
            before = product.daemon_pid()
            doing = pool.submit(getattr(sam, act))
            # The moment itself, not a wait for anything.
            time.sleep(moment)
            undisturbed = doing.done()
            host.sh('kill -KILL "$1"', str(before))
            code = doing.result(90 / pace.SLOWEST)
            state = after.get(act, "ready")
            try:
                if code == 0:
                    # What the caller was told is true, whatever became of the daemon since.
                    sam.assert_done(act)
                    acknowledged += 1
                else:
                    assert not undisturbed, f"undisturbed it ended with {code}"
                    # Whether it was on disk by then nobody can know; asking again is what people do.
                    host.wait_for("a daemon answers", product.status, 20)
                    assert sam.again(act) == 0
                host.wait_for(f"sam: {arrived[act].__name__}", lambda act=act: arrived[act]() and product.is_settled(), 40)
                bystanders.check()
            except AssertionError as error:
                raise AssertionError(what) from error
            assert product.daemon_pid() not in (0, before)
    print(f"{acknowledged} of {KILLS} were acknowledged all the same")
    if state != "ready":
        sam.add() if state == "gone" else sam.start()
        host.wait_for("sam is back", sam.is_ready, 40)


def test_the_gateway(host, product, bystanders):
    """Its socket is systemd's: what comes while it is away waits there."""
    stop, codes = False, {number: [] for number in range(4)}

    def ask(number):
        with product.same_visitor(bystanders.clients[BYSTANDERS[0]]) as client:
            while not stop:
                codes[number].append(client.get("/healthz").status_code)

    def everybody_was_answered_since(before):
        return all(len(codes[number]) > before[number] for number in codes)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, number) for number in codes]
        try:
            for _ in range(10):
                pid = host.show(GATEWAY, "MainPID")
                host.sh('kill -KILL "$1"', pid)
                before = {number: len(codes[number]) + 1 for number in codes}
                host.wait_for("another gateway answers everybody", lambda before=before: everybody_was_answered_since(before), 20)
                assert host.show(GATEWAY, "MainPID") not in ("0", pid)
        finally:
            stop = True
        for one in asking:
            one.result(60 / pace.SLOWEST)
    codes = sum(codes.values(), [])
    print(f"{len(codes)} requests meanwhile")
    assert len(codes) > 50
    assert set(codes) == {200}
    # They waited for another gateway, and that is all.
    bystanders.check(most_delay=20)
    # And who signs in now can.
    with product.visitor("sam") as client:
        assert client.get("/healthz").status_code == 200
