"""PID 1 is slow: it stands still, or has a thousand jobs to do: F6. Pages are answered by those who never ask it, and what was
asked for comes about once. How many starts are under way at a time is in tests/it/engine/pace.rs."""

import contextlib
import os
import signal

from lab import latency, pace
from lab.invariants import plant_canary
from lab.meanwhile import exit_code, under_way

# Pages are compared with those before it.
ALONE = True
SAMPLES = 160
JOBS = 1000

GATE = """
[Service]
Type=oneshot
ExecStart=/bin/sleep 600
"""
# Each waits for the gate, in PID 1's queue.
ONE_OF_MANY = """
[Unit]
After=lab-gate.service
[Service]
Type=oneshot
ExecStart=/bin/true
"""


def CONFIGURE(product):
    plant_canary(product)
    product.only("dan", "sam")


@contextlib.contextmanager
def standing_still(host):
    """The host's PID 1, by its number out here: from inside nobody can stop it."""
    pid = int((host.directory / "pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def pages(product):
    """How long they take: the sign-in page, a signed-in editor, and the page of one who waits for a workspace that is not there."""
    with product.client("dan") as stranger, product.visitor("dan") as dan, product.visitor("sam") as waiting:
        return {
            "the sign-in page": latency.in_rounds(lambda: stranger.get("/"), SAMPLES, 401),
            "an editor": latency.in_rounds(lambda: dan.get("/healthz"), SAMPLES),
            "a page that waits": latency.in_rounds(lambda: waiting.get("/", headers={"Accept": "text/html"}), SAMPLES, 503),
        }


def test_f6_pid_1_stands_still(host, product, invariants, sam):
    assert sam.stop() == 0
    before = pages(product)
    starts, degraded = sam.starts(), lambda: [one["code"] for one in product.status()["degraded"]]
    with contextlib.ExitStack() as ends:
        with standing_still(host):
            starting = ends.enter_context(under_way(host, "csm", "start", "sam"))
            host.wait_for("the wish is on disk", lambda: sam.intent()["running"] is True, 5)
            latency.assert_stays_unnoticed(before, lambda: pages(product))
            host.wait_for("status tells", lambda: degraded() == ["systemd-unreachable"], 30)
        host.wait_for("it mended by itself", lambda: not degraded(), 15)
        begun = pace.clock()
        assert exit_code(starting, 40) == 0
        print(f"csm start was answered {pace.clock() - begun:.1f} s after PID 1 went on")
    # Asked for twice maybe, begun once. That nobody at work waited meanwhile is looked at now: it takes PID 1 to look.
    assert sam.is_ready() and sam.starts() - starts == 1
    invariants.quick()


def test_f6_a_thousand_jobs_are_queued(host, product, invariants, sam):
    assert sam.stop() == 0
    before = pages(product)
    assert sam.start() == 0
    host.put("/run/systemd/system/lab-gate.service", GATE)
    host.put("/run/systemd/system/lab-many@.service", ONE_OF_MANY)
    host.sh("systemctl daemon-reload; systemctl start --no-block lab-gate.service")
    queued = lambda: int(host.sh("systemctl list-jobs --no-legend 'lab-*' | wc -l"))  # noqa: E731
    try:
        host.sh('systemctl start --no-block $(seq -f "lab-many@%g.service" "$1")', str(JOBS), timeout=120)
        assert queued() > JOBS

        begun = pace.clock()
        assert sam.stop() == 0
        latency.assert_stays_unnoticed(before, lambda: pages(product))
        assert sam.start() == 0 and sam.is_ready()
        print(f"csm stop and start, with a look at the pages in between, took {pace.clock() - begun:.1f} s")
        invariants.check()
        assert queued() > JOBS
    finally:
        # They are taken out of the queue, not done: a thousand processes at once are the machine's trouble, not PID 1's. All at once,
        # too: one by one it takes PID 1 longer than systemctl waits for it.
        host.sh("systemctl cancel; systemctl stop lab-gate.service; rm /run/systemd/system/lab-*; systemctl daemon-reload")
