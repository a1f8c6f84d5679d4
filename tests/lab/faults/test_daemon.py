"""The daemon's own trouble: a second one, a worker that panics, a journal that takes nothing, events that are lost, and
more names and changes than anybody has: F19, F29, F31, F32, F34. Bad files (F20, F21) are in stories/test_config.py and
in the tests of src/model."""

import contextlib
import json
import time

import pytest
import tomli_w

from lab.invariants import plant_canary
from lab.product import CONFIG, DAEMON

PANICS = "/run/code-server-multi/panics-of-sam"


def CONFIGURE(product):
    plant_canary(product)


def test_f32_a_second_daemon(host, product, invariants):
    pid, inode = product.daemon_pid(), host.sh("stat -c %i /run/code-server-multi/admin.sock")
    done = host.run("csm", "daemon", check=False, timeout=20)
    assert done.returncode == 1 and "another csm daemon is running" in done.stderr, done
    assert "systemctl status code-server-multi" in done.stderr
    # It touched nothing on its way.
    assert product.daemon_pid() == pid and host.sh("stat -c %i /run/code-server-multi/admin.sock") == inode
    invariants.check()


def test_f34_a_worker_panics(host, product, invariants, sam):
    pid = product.daemon_pid()
    host.put(PANICS, "3")
    assert sam.csm("stop", "sam") == 1, "nobody waits for it for ever"
    host.wait_for("it is told", lambda: sam.finding("worker-panicked"), 5)
    # Others are served at once, by the same daemon.
    begun = time.monotonic()
    product.config["workspaces"]["alice"]["tasks_max"] = 1777
    product.reload()
    host.wait_for("alice's limit is set", lambda: host.show("csm-alice.service", "TasksMax") == "1777", 5)
    print(f"a limit of alice's was set in {time.monotonic() - begun:.1f} s meanwhile")
    host.wait_for("what was asked for came about", sam.is_stopped, 20)
    assert "3 times" in sam.finding("worker-panicked")["message"]
    assert product.daemon_pid() == pid
    assert sam.start() == 0
    host.sh('systemctl restart "$1"', DAEMON)
    product.wait_ready()
    assert not sam.finding("worker-panicked")
    invariants.quick()


@contextlib.contextmanager
def stopped(host, pid):
    host.sh('kill -STOP "$1"', str(pid))
    try:
        yield
    finally:
        host.sh('kill -CONT "$1"', str(pid))


def test_f31_a_journal_that_takes_nothing(host, product, invariants, sam):
    """It stands still; more is said than its socket holds; the daemon does what it is asked all the same."""
    journald = host.show("systemd-journald.service", "MainPID")
    product.config["workspaces"]["sam"]["tasks_max"] = 1999
    with stopped(host, journald):
        product.write_config()
        # A problem each time, which is said each time it is another; more of them than a socket holds.
        flood = 'for n in {1..600}; do echo "nonsense$n = 1" >"$1"; csm reload >/dev/null 2>&1 || true; done'
        host.sh(flood, CONFIG, timeout=90)
        product.write_config()
        begun = time.monotonic()
        product.csm("reload", timeout=10)
        product.csm("status", timeout=10)
        assert time.monotonic() - begun < 3
        host.wait_for("the limit is set", lambda: host.show("csm-sam.service", "TasksMax") == "1999", 10)
        invariants.bystanders.check()
    host.sh("journalctl --sync", timeout=30)
    product.csm("reload")
    host.wait_for("it tells what was lost", lambda: "messages were lost" in host.journal(DAEMON), 20)
    # And away for good, for a while.
    host.sh("systemctl stop systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service 2>/dev/null")
    try:
        assert product.csm("reload", timeout=10).returncode == 0
        assert sam.restart() == 0
        invariants.bystanders.check()
    finally:
        host.sh("systemctl start systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service")
    invariants.check()


def test_f29_more_events_than_the_kernel_keeps(host, product, invariants, sam):
    """The change that counts comes after the overflow, so that nobody is told of it."""
    most = int(host.get("/proc/sys/fs/inotify/max_queued_events"))
    with stopped(host, product.daemon_pid()):
        host.sh(
            'cd "$1"; python3 -c \'import os, sys\nfor n in range(int(sys.argv[1])): os.close(os.open("lab-" + str(n % 7), os.O_CREAT | os.O_WRONLY)); os.unlink("lab-" + str(n % 7))\' "$2"',
            "/etc/code-server-multi",
            str(most),
            timeout=120,
        )
        product.config["workspaces"]["sam"]["tasks_max"] = 1888
        product.write_config()
    host.wait_for("the limit is set", lambda: host.show("csm-sam.service", "TasksMax") == "1888", 10)
    invariants.quick()


def test_f19_changed_a_hundred_times_a_second(host, product, invariants, sam):
    """Taken together, and the last one counts."""
    product.config["workspaces"]["sam"]["tasks_max"] = 1888
    text = tomli_w.dumps(product.config)
    before = host.journal(DAEMON).count("configuration read")
    changes = 'i=1; while [ $i -le 200 ]; do sed "s/tasks_max = 1888/tasks_max = $((3000 + i))/" /etc/lab/many.toml >/etc/lab/many.new; mv /etc/lab/many.new "$1"; i=$((i + 1)); sleep 0.01; done'
    host.put("/etc/lab/many.toml", text)
    begun = time.monotonic()
    # On the file system of the configuration, so that the move is a rename.
    host.sh(changes, CONFIG, timeout=60)
    took = time.monotonic() - begun
    host.wait_for("the last one counts", lambda: host.show("csm-sam.service", "TasksMax") == "3200", 5)
    applied = host.journal(DAEMON).count("configuration read") - before
    print(f"200 changes in {took:.1f} s were read {applied} times")
    assert applied <= 10
    product.config["workspaces"]["sam"]["tasks_max"] = 3200
    product.write_config()
    invariants.check()


def rss(host, pid):
    status = host.get(f"/proc/{pid}/status").decode()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def test_f19_ten_thousand_names(host, product, invariants):
    """The last story of this host. nginx rests: what ten thousand servers cost it is its own."""
    many = {f"w{number}": {"enabled": False} for number in range(10_000)}
    small = product.config["workspaces"]
    product.config["workspaces"] = small | many
    host.put("/etc/lab/many.toml", tomli_w.dumps(product.config))
    begun = time.monotonic()
    product.csm("check-config", "/etc/lab/many.toml")
    print(f"check-config took {time.monotonic() - begun:.2f} s")
    assert time.monotonic() - begun < 5
    host.sh("systemctl stop nginx")
    before, pid = rss(host, product.daemon_pid()), product.daemon_pid()
    host.sh('cp /etc/lab/many.toml "$1"', CONFIG)
    begun = time.monotonic()
    product.csm("reload", timeout=60)
    took = time.monotonic() - begun

    def all_there():
        states = [one["state"] for one in product.status()["workspaces"]]
        return len(states) == 10_003 and states.count("disabled") == 10_000

    host.wait_for("ten thousand are known", all_there, 120)
    after = rss(host, product.daemon_pid())
    print(f"reload took {took:.2f} s, all known after {time.monotonic() - begun:.1f} s; memory {before / 1e6:.1f} MB, then {after / 1e6:.1f} MB")
    assert product.daemon_pid() == pid
    # Whoever runs is looked after meanwhile.
    begun = time.monotonic()
    assert product.csm("restart", "sam").returncode == 0
    print(f"csm restart sam took {time.monotonic() - begun:.1f} s beside them")
    product.config["workspaces"] = small
    product.write_config()
    host.wait_for("they are gone", lambda: len(json.loads(product.csm("status", "--json").stdout)["workspaces"]) == 3, 120)
    host.sh("systemctl start nginx")
