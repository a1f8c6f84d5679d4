"""The bus to PID 1 is killed, or takes every call and answers none; PID 1 itself is replaced in the middle of a job: F4
and F5. What runs goes on; the status tells; and nobody waits for what has happened."""

import contextlib
import time

import pytest

from lab.invariants import plant_canary
from lab.product import DAEMON

BUS = "dbus.service"

pytestmark = pytest.mark.long


def CONFIGURE(product):
    plant_canary(product)


@contextlib.contextmanager
def stopped(host, unit):
    """Its processes take no notice of anything for as long as the block lasts."""
    host.run("systemctl", "kill", "--signal=STOP", unit)
    try:
        yield
    finally:
        # systemctl would ask the very bus that is stopped.
        host.sh('for pid in $(cat "/sys/fs/cgroup/system.slice/$1/cgroup.procs"); do kill -CONT "$pid"; done', unit)


def end(started):
    started.kill()
    started.wait()
    started.stdout.close()


def cpu_seconds(host, pid):
    return sum(map(int, host.get(f"/proc/{pid}/stat").decode().rsplit(")", 1)[1].split()[11:13])) / 100


def degraded(product):
    return [one["code"] for one in product.status()["degraded"]]


def test_f4_the_bus_is_killed_in_the_middle_of_starts(host, product, invariants, sam):
    for _ in range(3):
        sam.stop()
        starting = host.start("csm", "start", "sam")
        try:
            # The job is under way, and its end will be signalled to nobody.
            host.wait_for("the start is under way", lambda: host.show("csm-sam.service", "ActiveState") != "inactive", 10)
            host.sh('kill -KILL "$(systemctl show --value --property MainPID "$1")"', BUS)
            begun = time.monotonic()
            assert starting.wait(30) == 0, starting.stdout.read()
            took = time.monotonic() - begun
        finally:
            end(starting)
        print(f"csm start was answered {took:.1f} s after the bus was killed")
        # Not after the minute that a job may take.
        assert took < 10
        invariants.quick()
    invariants.check()


def test_f4_no_bus_at_all(host, product, invariants, sam):
    pid = product.daemon_pid()
    host.sh("systemctl stop dbus.socket dbus.service")
    try:
        host.wait_for("status tells", lambda: degraded(product) == ["systemd-unreachable"], 5)
        assert "systemctl status dbus" in product.csm("status").stdout
        # People go on working, and sign in; what is asked for is kept for later.
        invariants.bystanders.check()
        with product.visitor("dan") as dan:
            assert dan.get("/healthz").status_code == 200
        busy = cpu_seconds(host, pid)
        begun = time.monotonic()
        stopping = host.start("csm", "stop", "sam")
        host.wait_for("the wish is on disk", lambda: sam.intent()["running"] is False, 5)
        host.wait_for("a while goes by", lambda: time.monotonic() - begun > 4, 10)
        busy = cpu_seconds(host, pid) - busy
        print(f"{busy:.2f} s of processor in {time.monotonic() - begun:.1f} s without a bus")
        assert busy < 0.5, "a busy loop"
    finally:
        host.sh("systemctl start dbus.socket dbus.service")
    host.wait_for("it mended by itself", lambda: not degraded(product), 15)
    assert stopping.wait(40) == 0, stopping.stdout.read()
    end(stopping)
    assert sam.is_stopped()
    assert product.daemon_pid() == pid
    assert sam.start() == 0
    invariants.check()


def test_f4_a_bus_that_answers_nobody(host, product, invariants, sam):
    """Each call has a deadline of 15 s; the first that passes it says so in the status."""
    with stopped(host, BUS):
        stopping = host.start("csm", "stop", "sam")
        host.wait_for("status tells", lambda: degraded(product) == ["systemd-unreachable"], 30)
        # The daemon itself answers at once.
        begun = time.monotonic()
        product.csm("status")
        assert time.monotonic() - begun < 2
        invariants.bystanders.check()
    host.wait_for("it mended by itself", lambda: not degraded(product), 15)
    assert stopping.wait(40) == 0, stopping.stdout.read()
    end(stopping)
    host.wait_for("stopped", sam.is_stopped, 20)
    assert sam.start() == 0
    invariants.check()


@pytest.mark.parametrize("verb", ["daemon-reload", "daemon-reexec"])
def test_f5_pid_1_is_replaced_while_starts_are_under_way(host, product, invariants, sam, verb):
    starts = sam.starts()
    for _ in range(3):
        sam.stop()
        starting = host.start("csm", "start", "sam")
        try:
            host.wait_for("the start is under way", lambda: host.show("csm-sam.service", "ActiveState") != "inactive", 10)
            host.run("systemctl", verb)
            begun = time.monotonic()
            assert starting.wait(30) == 0, starting.stdout.read()
            took = time.monotonic() - begun
        finally:
            end(starting)
        print(f"csm start was answered {took:.1f} s after {verb}")
        assert took < 10
        invariants.quick()
    # One start each: what was under way was adopted.
    assert sam.starts() - starts == 3
    assert host.show(DAEMON, "ActiveState") == "active"
    invariants.check()
