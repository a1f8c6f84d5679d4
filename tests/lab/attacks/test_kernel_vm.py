"""What only a kernel of its own shows: what is left of secrets in swap and in crash reports, and a host without a free watch.
Rows A16, A21."""

import json

import pytest

from lab import pace, stand_in
from lab.product import DAEMON, GATEWAY

NEEDS = {"memory"}
pytestmark = pytest.mark.timeout(900)

PASSWORD = "canary-password-Sw3PpE71"
KEY = "canary-key-Sw8ApK20"
PLANTED = "canary-planted-Sw5ApP64"
SWAP = "/var/lab-swap"


def CONFIGURE(product):
    # Everything is slow here; and which editor it is, is of no account.
    for name in ("alice", "sam"):
        del product.config["workspaces"][name]
    stand_in.put(product.host)
    product.config["image"] = {"name": stand_in.NAME, "archive": stand_in.ARCHIVE}
    product.passwords["dan"] = PASSWORD
    product.host.put("/etc/lab/secrets/key", KEY + "\n", 0o600)
    product.config["workspaces"]["dan"] |= {"memory_limit": "300M", "memory_soft_limit": "295M", "secret_environment": {"LAB_KEY": "/etc/lab/secrets/key"}}


@pytest.fixture(scope="module")
def used(host, product):
    """Somebody has signed in, and somebody has mistaken the password; the editor has its key."""
    with product.visitor("dan") as dan:
        assert dan.get("/healthz").status_code == 200
    with product.client("dan") as mistaken:
        product.sign_in(mistaken, password=PASSWORD + "x")
    assert product.inside("dan", "sh", "-c", "cat /run/csm/secrets/LAB_KEY").stdout.strip() == KEY


# Every page that can go, of the processes of a unit.
PUSH_OUT = """
group=/sys/fs/cgroup$(systemctl show --property ControlGroup --value "$1")
for _ in 1 2 3 4 5; do echo 100M >"$group/memory.reclaim" 2>/dev/null || true; done
cat "$group/memory.swap.current"
"""


def test_nothing_of_ours_is_written_to_swap(host, product, used):
    """A16. All that can go is pushed out of the daemon, the gateway and the workspace: what another process holds is found in
    the swap file, and what these hold is not, nor the file on tmpfs that the key is handed over in."""
    # Written whole, so that what the kernel puts there past the file system can be read through it.
    host.sh('dd if=/dev/zero of="$1" bs=1M count=64 status=none; chmod 0600 "$1"; mkswap "$1"; sync; swapon "$1"', SWAP)
    hold = "import sys, time; held = [sys.argv[1].encode() * 400 for _ in range(400)]; time.sleep(600)"
    with host.service("held", "python3", "-c", hold, PLANTED) as held:
        host.wait_for("it holds something", lambda: int(host.show(held, "MemoryCurrent")) > 4 << 20, 30)
        out = {unit: int(host.sh(PUSH_OUT, unit)) for unit in (held, DAEMON, GATEWAY, "csm-dan.service")}
        print(out)
        assert out.pop(held) > 1 << 20 and set(out.values()) == {0}, out
        host.sh("sync; echo 3 >/proc/sys/vm/drop_caches")
        found = {word: int(host.sh('grep -a -c -F -e "$1" "$2" || true', word, SWAP)) for word in (PLANTED, PASSWORD, KEY)}
    host.sh('swapoff "$1"; rm "$1"', SWAP)
    assert found.pop(PLANTED) > 0 and set(found.values()) == {0}, found
    product.wait_ready()
    for unit in (DAEMON, GATEWAY, "csm-dan.service"):
        assert host.show(unit, "MemorySwapMax") == "0", unit


REPORTS = "/var/lib/lab-reports"
# As systemd-coredump and others do it: also for a process whose limit is 0, they write down its environment.
REPORTER = f"""#!/bin/sh
mkdir -p "{REPORTS}/$1"
cat "/proc/$1/environ" >"{REPORTS}/$1/environ"
cat >"{REPORTS}/$1/core"
"""


def test_no_crash_reporter_is_called(host, product, used):
    """A16. By the kernel's own rule for a limit of one byte (core(5)): a core that is not written is handed to no program."""
    host.put("/usr/local/sbin/lab-report", REPORTER, 0o755)
    before = host.sh("cat /proc/sys/kernel/core_pattern")
    reports = lambda: set(host.sh('ls "$1" 2>/dev/null || true', REPORTS).split())  # noqa: E731
    host.sh("echo '|/usr/local/sbin/lab-report %P' >/proc/sys/kernel/core_pattern")
    try:
        host.run("systemd-run", "--quiet", "--wait", "--property=LimitCORE=0", f"--setenv=PLANTED={PLANTED}", "python3", "-c", "import os; os.abort()", check=False)
        host.wait_for("the reporter works", lambda: PLANTED in host.sh('cat "$1"/*/environ', REPORTS), 20)
        known = reports()
        main = lambda unit: host.show(unit, "MainPID")  # noqa: E731
        # In the workspace: a command, and the editor, which has the key.
        product.csm("exec", "dan", "--", "sh", "-c", "kill -ABRT $$", check=134)
        editor = max(product.pids("dan") & set(map(int, host.sh("pgrep -f 'code-server.*--socket'").split())))
        assert KEY in host.sh('tr "\\0" "\\n" <"/proc/$1/environ"', str(editor))
        for unit, pid in (("csm-dan.service", str(editor)), (GATEWAY, main(GATEWAY)), (DAEMON, main(DAEMON))):
            old = main(unit)
            host.sh('kill -ABRT "$1"', pid)
            host.wait_for(f"{unit} is another process", lambda unit=unit, old=old: main(unit) not in ("0", old), 60)
            product.wait_ready(deadline=120)
        assert reports() == known, host.sh('cd "$1"; grep -a . */environ | tr "\\0" " "', REPORTS)
        assert KEY not in host.journal() and PASSWORD not in host.journal()
    finally:
        host.sh('echo "$1" >/proc/sys/kernel/core_pattern', before)


# Takes every watch that a user id may have (x86_64's inotify_init1 and inotify_add_watch), says how many, and holds them.
HOG = r"""
use strict; $| = 1;
my ($place, $taken) = ("/run/lab-watches", 0);
mkdir $place;
my $own = syscall(294, 0);
for my $number (1 .. 5000) {
  my $here = "$place/$number";
  mkdir $here;
  last if syscall(254, $own, $here, 0x100) < 0;
  $taken++;
}
print "$taken\n";
<STDIN>;
"""


def test_without_a_free_watch(host, product, used):
    """A21. Somebody with root's own user id has taken all of its watches: the daemon starts, starts and stops what it is told,
    reads what it is told to read, and says in its log what it can't do."""
    before = host.sh("cat /proc/sys/fs/inotify/max_user_watches")
    host.sh("echo 3000 >/proc/sys/fs/inotify/max_user_watches")
    # What the daemon has comes free when it ends.
    host.sh('systemctl stop "$1"', DAEMON)
    hog = host.start("perl", "-e", HOG, stdin=-1, text=True)
    try:
        assert int(hog.stdout.readline()) > 1000
        host.sh('systemctl start "$1"', DAEMON)
        product.wait_ready(deadline=60)
        assert "can't watch for changes" in host.journal(DAEMON)
        product.csm("restart", "dan", timeout=180)
        assert product.state("dan") == "ready"
        with product.visitor("dan") as dan:
            product.set_password("dan", PASSWORD + "-next")
            product.csm("reload")
            host.wait_for("the new password counts", lambda: dan.get("/healthz").status_code == 401, 20)
        product.set_password("dan", PASSWORD)
        product.config["workspaces"]["dan"]["tasks_max"] = 1789
        product.reload()
        host.wait_for("the limit is set", lambda: host.show("csm-dan.service", "TasksMax") == "1789", 20)
        # A kill for want of memory is counted, though nobody hears of it at once.
        done = product.inside("dan", "python3", "-c", "b = bytearray(600 << 20)", check=False, timeout=180)
        assert done.returncode == 137, done
        counts = json.loads(product.csm("top", "dan", "--json").stdout)["workspaces"][0]["counts"]
        assert counts["oom_kills"] > 0
    finally:
        hog.stdin.close()
        hog.wait(60)
        host.sh('echo "$1" >/proc/sys/fs/inotify/max_user_watches', before)
    begun = pace.clock()
    host.sh('systemctl restart "$1"', DAEMON)
    product.wait_ready(deadline=60)
    product.wait_settled()
    print(f"{pace.clock() - begun:.1f} s with watches again")
