"""What takes a machine of its own: the kernel ends the editor, or what watches over its container, for want of memory (F14),
and the power fails right after something was answered (F17). A child that is ended is in stories/test_limits_vm.py,
a proper reboot in stories/test_reboot_vm.py."""

import contextlib
import json

import pytest

from lab import pace
from lab.invariants import KEY, KEY_FILE, Invariants, plant_canary
from lab.product import DAEMON

NEEDS = {"memory", "reboot"}
pytestmark = pytest.mark.long

# An emulated processor keeps everybody waiting for longer than any fault may.
SLOW = 10


def CONFIGURE(product):
    plant_canary(product)
    product.only("dan", "sam")
    # Its password is set by `csm password`.
    del product.config["workspaces"]["sam"]["password_file"]
    # Little room between slowed down and killed: a process crawls through it.
    product.config["workspaces"]["sam"] |= {"memory_limit": "700M", "memory_soft_limit": "690M"}


def editor(host, product):
    """What answers to the browser: of code-server's two processes the younger."""
    editors = set(map(int, host.sh("pgrep -f 'code-server.*--socket' || true").split()))
    return max(product.pids("sam") & editors)


def use_up(host, product, victim):
    """Something inside takes more than there is, and the kernel's choice is the one process."""
    host.sh('echo 1000 >"/proc/$1/oom_score_adj"', str(victim))
    # What asks for it may end with its workspace, or be the next one.
    taking = host.start(*product.inside_argv("sam", "python3", "-c", "b = bytearray(900 << 20)"))
    try:
        host.wait_for("the kernel has ended it", lambda: not host.sh('grep -sh ^State: "/proc/$1/status" | grep -v Z || true', str(victim)), 60)
    finally:
        taking.kill()
        taking.wait()


@pytest.mark.parametrize("victim", ["code-server", "conmon"])
def test_f14_ended_for_want_of_memory(host, product, invariants, sam, victim):
    """It is started again, and the status says what happened, in words. (That the pause grows is in test_containers.py; here
    it takes too long to die for that.)"""
    # An editor that has run for a while is started at once when it ends.
    host.sh('systemctl restart "$1"', DAEMON)
    product.wait_ready()
    told = lambda kind: sum(one.get("count", 1) for one in map(json.loads, product.csm("events", "sam", "--json").stdout.splitlines()) if one["kind"] == kind)  # noqa: E731
    killed = told("oom-kill")
    for times in (1, 2):
        pid = sam.pid()
        use_up(host, product, pid if victim == "conmon" else editor(host, product))
        begun = pace.clock()
        host.wait_for("another one", lambda: sam.pid() not in (0, pid), 60)
        print(f"{victim} ended for want of memory, the {times}. time: started again after {pace.clock() - begun:.1f} s")
        host.wait_for("it answers", sam.is_ready, 100)
        host.wait_for("the status says why", lambda: sam.finding("oom-killed"), 20)
        assert "because memory_limit (700M) was reached" in sam.finding("oom-killed")["message"]
        host.wait_for("so do the events", lambda: told("oom-kill") >= killed + times, 20)
    invariants.quick(within=SLOW, most_delay=SLOW)


def comes_back(host, product):
    host.wait_for("the daemon is up", lambda: host.show(DAEMON, "ActiveState") == "active", 60)
    product.wait_ready("dan")


def people_come_back(host, product):
    with contextlib.closing(Invariants(host, product)) as now:
        now.check(within=SLOW, most_delay=SLOW)


def test_f17_the_power_fails_right_after_an_answer(host, product, invariants, sam):
    """The last story of this host. What was answered was on disk: a wish, a password, a sign-in. What ran comes back, what
    was stopped stays stopped, and starts as ever."""
    invariants.check(within=SLOW, most_delay=SLOW)
    # The machine was set up long ago.
    host.sh("sync")
    with product.visitor("dan") as dan:
        # Sam wants to run and can't, so that nothing but the wish is written when it is taken back.
        host.sh('rm "$1"', KEY_FILE)
        assert sam.stop() == 0
        assert sam.start() == 1 and sam.state() == "blocked"
        host.sh("sync")
        product.passwords["sam"] = product.csm("password", "sam", "--generate").stdout.strip()
        assert sam.stop() == 0
        host.cut_power()
        comes_back(host, product)
        assert sam.intent()["running"] is False
        assert dan.get("/healthz").status_code == 200, "a session that was there before"
    host.put(KEY_FILE, KEY + "\n", 0o600)
    product.csm("reload")
    product.wait_settled()
    assert sam.is_stopped()
    invariants.homes_are_left_alone()
    people_come_back(host, product)

    assert sam.start() == 0
    with product.visitor("sam") as visitor:
        assert visitor.get("/healthz").status_code == 200
    assert sam.stop() == 0
    host.sh("sync")
    # In the middle of it: the wish is on disk, and so is half of a container.
    starting = host.start("csm", "start", "sam")
    host.wait_for("the start is under way", lambda: sam.intent()["running"] and host.show("csm-sam.service", "ActiveState") != "inactive", 30)
    host.cut_power()
    starting.kill()
    starting.wait()
    comes_back(host, product)
    product.wait_ready("sam")
    invariants.homes_are_left_alone()
    people_come_back(host, product)
