"""Machines that go on from one state are machines of their own, at this time and not at the state's."""

import time

import pytest

from lab.host import Host

NEEDS = {"clock"}
PRODUCT = False


@pytest.fixture(scope="module")
def other():
    with Host("lab-vm-other", "vm") as other:
        yield other


def test_each_has_its_own_name_port_and_chance(host, other):
    assert host.kind == "vm"
    assert [one.sh("hostname") for one in (host, other)] == [host.name, other.name]
    assert host.address != other.address
    # Both go on with the same random numbers, unless they are told that there is another one.
    assert host.sh("cat /proc/sys/kernel/random/uuid") != other.sh("cat /proc/sys/kernel/random/uuid")
    host.put("/root/mine", "mine\n")
    other.run("test", "-e", "/root/mine", check=1)


def test_it_is_now(host):
    before = time.time()
    there = float(host.sh("date +%s.%N"))
    assert before - 30 < there < time.time() + 1


def test_nothing_is_overdue(host):
    """A timer would start at once what it has missed since the state was made."""
    assert host.run("systemctl", "is-system-running").stdout.strip() == "running"
    timers = host.sh("systemctl list-timers --all --no-legend")
    assert [line.split()[-2] for line in timers.splitlines()] == ["systemd-tmpfiles-clean.timer"], timers
    assert not host.sh("systemctl list-jobs --no-legend | grep -v '^No jobs' || true")
