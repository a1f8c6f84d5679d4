"""The bus to PID 1 is killed, or takes every call and answers none; PID 1 itself is replaced in the middle of a job: F4
and F5. What runs goes on; the status tells; and nobody waits for what has happened."""

import contextlib

import pytest

from lab import pace
from lab.invariants import plant_canary
from lab.meanwhile import busy, exit_code, stopped, under_way
from lab.product import DAEMON

BUS = "dbus.service"
# Of a processor. Less is used by who asks now and then, on a machine that has little time; more by who never waits.
LOOP = 0.15


def CONFIGURE(product):
    plant_canary(product)
    product.only("dan", "sam")
    # Podman asks logind for something, which these hosts lack. The bus would have PID 1 start it, and if PID 1 is replaced just
    # then, wait 25 s for what was never begun, and Podman with it: so it says at once that there is none.
    product.host.sh("rm /usr/share/dbus-1/system-services/org.freedesktop.login1.service; systemctl reload dbus")


def degraded(product):
    return [one["code"] for one in product.status()["degraded"]]


def test_f4_the_bus_is_killed_in_the_middle_of_starts(host, product, invariants, sam):
    for _ in range(3):
        sam.stop()
        with under_way(host, "csm", "start", "sam") as starting:
            # The job is under way, and its end will be signalled to nobody.
            host.wait_for("the start is under way", lambda: host.show("csm-sam.service", "ActiveState") != "inactive", 10)
            host.sh('kill -KILL "$(systemctl show --value --property MainPID "$1")"', BUS)
            begun = pace.clock()
            assert exit_code(starting, 30) == 0
            took = pace.clock() - begun
        print(f"csm start was answered {took:.1f} s after the bus was killed")
        # Not after the minute that a job may take.
        assert took < 10
        invariants.quick()
    invariants.quick()


# Lets a container be started when it is told to.
PODMAN = """#!/bin/sh
case " $* " in *" run "*) until [ -e /run/lab-go ]; do sleep 0.05; done ;; esac
exec /usr/bin/podman.away "$@"
"""


def test_f4_a_start_that_ends_while_there_is_no_bus(host, product, invariants, sam):
    """Nobody is told of its end, and nobody waits for it."""
    assert sam.stop() == 0
    host.sh("mv /usr/bin/podman /usr/bin/podman.away")
    host.put("/usr/bin/podman", PODMAN, 0o755)
    try:
        with under_way(host, "csm", "start", "sam") as starting:
            state = lambda: host.show("csm-sam.service", "ActiveState")  # noqa: E731
            host.wait_for("the start is under way", lambda: state() == "activating", 10)
            host.sh("systemctl stop dbus.socket dbus.service; touch /run/lab-go")
            host.wait_for("it has ended", lambda: state() == "active", 20)
            host.sh("systemctl start dbus.socket dbus.service")
            begun = pace.clock()
            assert exit_code(starting, 40) == 0
            took = pace.clock() - begun
        print(f"csm start was answered {took:.1f} s after the bus was back")
        # Not after the minute that a job may take.
        assert took < 20
    finally:
        host.sh("systemctl start dbus.socket dbus.service; mv -f /usr/bin/podman.away /usr/bin/podman; rm -f /run/lab-go")
    invariants.quick()


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
        with under_way(host, "csm", "stop", "sam") as stopping:
            host.wait_for("the wish is on disk", lambda: sam.intent()["running"] is False, 5)
            used = busy(host, pid)
            print(f"the daemon uses {used:.3f} of a processor without a bus")
            assert used < LOOP, "a busy loop"
            host.sh("systemctl start dbus.socket dbus.service")
            host.wait_for("it mended by itself", lambda: not degraded(product), 15)
            assert exit_code(stopping, 40) == 0
    finally:
        host.sh("systemctl start dbus.socket dbus.service")
    assert sam.is_stopped()
    assert product.daemon_pid() == pid
    assert sam.start() == 0
    invariants.quick()


def test_f4_a_bus_that_answers_nobody(host, product, invariants, sam):
    """Each call has a deadline of 15 s; the first that passes it says so in the status."""
    with contextlib.ExitStack() as ends:
        with stopped(host, BUS):
            stopping = ends.enter_context(under_way(host, "csm", "stop", "sam"))
            host.wait_for("status tells", lambda: degraded(product) == ["systemd-unreachable"], 30)
            # The daemon itself answers at once.
            begun = pace.clock()
            product.csm("status")
            assert pace.clock() - begun < 2
            invariants.bystanders.check()
        host.wait_for("it mended by itself", lambda: not degraded(product), 15)
        assert exit_code(stopping, 40) == 0
    host.wait_for("stopped", sam.is_stopped, 20)
    assert sam.start() == 0
    invariants.quick()


@pytest.mark.parametrize("verb", ["daemon-reload", "daemon-reexec"])
def test_f5_pid_1_is_replaced_while_starts_are_under_way(host, product, invariants, sam, verb):
    starts = sam.starts()
    for _ in range(3):
        sam.stop()
        with under_way(host, "csm", "start", "sam") as starting:
            host.wait_for("the start is under way", lambda: host.show("csm-sam.service", "ActiveState") != "inactive", 10)
            host.run("systemctl", verb)
            begun = pace.clock()
            assert exit_code(starting, 30) == 0
            took = pace.clock() - begun
        print(f"csm start was answered {took:.1f} s after {verb}")
        assert took < 10
        invariants.quick()
    # One start each: what was under way was adopted.
    assert sam.starts() - starts == 3
    assert host.show(DAEMON, "ActiveState") == "active"
    invariants.check()
