"""What only a kernel of its own shows: what is left of secrets in swap and in crash reports. Row A16."""

import pytest

from lab import stand_in
from lab.product import DAEMON, GATEWAY

NEEDS = {"memory"}
DRAWN = True

PASSWORD = "canary-password-Sw3PpE71"
KEY = "canary-key-Sw8ApK20"
PLANTED = "canary-planted-Sw5ApP64"
SWAP = "/var/lab-swap"


def CONFIGURE(product):
    stand_in.only(product, "dan")
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
            product.wait_ready()
        assert reports() == known, host.sh('cd "$1"; grep -a . */environ | tr "\\0" " "', REPORTS)
        assert KEY not in host.journal() and PASSWORD not in host.journal()
    finally:
        host.sh('echo "$1" >/proc/sys/kernel/core_pattern', before)
