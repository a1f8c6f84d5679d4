"""Limits that the kernel enforces: on a machine with a kernel of its own."""

import json

from lab.product import DAEMON

NEEDS = {"memory", "cpu", "pids"}
MIB = 1 << 20

LIMITS = {
    # Little room between slowed down and killed: a process crawls through it.
    "dan": {
        "memory_limit": "700M",
        "memory_soft_limit": "690M",
        "memory_low": "64M",
        "cpu_limit": 1.25,
        "cpu_weight": 200,
        "tasks_max": 400,
    },
    "sam": {"memory_limit": "1G", "cpu_limit": "0.8", "tasks_max": 150},
}

SHOWN = {
    "dan": {
        "MemoryMax": 700 * MIB,
        "MemoryHigh": 690 * MIB,
        "MemoryLow": 64 * MIB,
        "MemorySwapMax": 0,
        "CPUQuotaPerSecUSec": "1.250000s",
        "CPUWeight": 200,
        "TasksMax": 400,
    },
    # The soft limit is five sixths of the hard one unless it is said.
    "sam": {
        "MemoryMax": 1024 * MIB,
        "MemoryHigh": 1024 * MIB * 5 // 6 // 4096 * 4096,  # in whole pages
        "MemoryLow": 0,
        "MemorySwapMax": 0,
        "CPUQuotaPerSecUSec": "800ms",
        "CPUWeight": 100,
        "TasksMax": 150,
    },
}


def CONFIGURE(product):
    product.only("dan", "sam")
    for name, limits in LIMITS.items():
        product.config["workspaces"][name] |= limits


def events(product, name, file, key):
    return int(dict(line.split() for line in product.cgroup(name, file).splitlines())[key])


def test_the_machine_has_what_was_asked_for(host):
    assert host.kind == "vm"
    assert {"memory", "cpu", "pids"} <= set(host.sh("cat /sys/fs/cgroup/cgroup.controllers").split())


def test_systemd_shows_what_is_configured(host, product):
    for name, expected in SHOWN.items():
        names = ",".join(expected)
        shown = dict(line.split("=", 1) for line in host.sh('systemctl show --property "$2" "csm-$1.service"', name, names).splitlines())
        if shown.get("CPUQuotaPerSecUSec", "").rstrip("s").replace(".", "").isdigit():
            shown["CPUQuotaPerSecUSec"] = f"{float(shown['CPUQuotaPerSecUSec'].rstrip('s')):.6f}s"
        assert shown == {key: str(value) for key, value in expected.items()}, name
    # And the kernel was told.
    assert product.cgroup("dan", "memory.max") == str(700 * MIB)
    assert product.cgroup("dan", "memory.swap.max") == "0"
    assert product.cgroup("dan", "cpu.max").split()[0] == "125000"
    assert product.cgroup("sam", "pids.max") == "150"


def test_over_the_hard_limit_a_process_dies_and_the_editor_stays(host, product):
    pid = product.main_pids("dan")
    done = product.inside("dan", "python3", "-c", "b = bytearray(900 << 20)", check=False, timeout=120)
    assert done.returncode == 137, done
    assert events(product, "dan", "memory.events", "oom_kill") > 0
    assert product.main_pids("dan") == pid
    product.wait_ready("dan")
    with product.visitor("dan") as dan:
        assert dan.get("/healthz").status_code == 200
    # Nobody else paid for it.
    assert events(product, "sam", "memory.events", "oom_kill") == 0


def test_it_is_told_in_words_and_remembered(host, product):
    """After the one before: within seconds, and by a daemon that did not see it too."""
    killed = events(product, "dan", "memory.events", "oom_kill")

    def said():
        return [one["message"] for one in product.workspace("dan")["findings"] if one["code"] == "oom-killed"]

    def told():
        lines = product.csm("events", "dan", "--json").stdout.splitlines()
        return sum(one["count"] for one in map(json.loads, lines) if one["kind"] == "oom-kill")

    host.wait_for("the status says it", said, 10)
    assert "because memory_limit (700M) was reached" in said()[0]
    assert told() == killed
    assert usage(product, "dan")["counts"]["oom_kills"] == killed
    # By a daemon that has only the journal, and of a run that is over.
    message = said()
    host.sh('systemctl restart "$1"', DAEMON)
    product.wait_ready("dan")
    host.wait_for("the new daemon says it", lambda: said() == message, 20)
    product.csm("restart", "dan", timeout=180)
    assert said() == message
    assert told() == killed
    assert usage(product, "dan")["counts"]["oom_kills"] == 0
    # While no daemon ran: the counter tells the next one.
    host.sh('systemctl stop "$1"', DAEMON)
    done = product.inside("dan", "python3", "-c", "b = bytearray(900 << 20)", check=False, timeout=120)
    assert done.returncode == 137, done
    more = events(product, "dan", "memory.events", "oom_kill")
    host.sh('systemctl start "$1"', DAEMON)
    product.wait_ready("dan")
    host.wait_for("it is told afterwards", lambda: told() == killed + more, 20)


def test_top_shows_what_the_kernel_counts(host, product):
    counts = usage(product, "dan")["counts"]
    group = host.show("csm-dan.service", "ControlGroup")
    shown = int(host.sh('cat "/sys/fs/cgroup$1/memory.current"', group))
    assert abs(counts["memory_bytes"] - shown) < 64 * MIB
    assert counts["memory_bytes"] <= counts["memory_peak_bytes"] <= 701 * MIB
    assert abs(counts["tasks"] - int(host.sh('cat "/sys/fs/cgroup$1/pids.current"', group))) < 30
    row = next(line for line in product.csm("top").stdout.splitlines() if line.startswith("sam "))
    assert " of 0.8 " in row and " of 1G " in row and " of 150 " in row and "n/a" not in row, row
    # A loop that would take a core gets its quota.
    loop = host.start(*product.inside_argv("sam", "bash", "-c", "while :; do :; done"))
    try:
        host.wait_for("sam is at its quota", lambda: 0.6 < usage(product, "sam")["counts"]["cpu_cores"] < 0.9, 60)
        assert usage(product, "sam")["counts"]["pressure_cpu"] > 0
    finally:
        product.inside("sam", "pkill", "-f", "while :; do :; done", check=False)
        loop.kill()
        loop.wait()


def usage(product, name):
    return json.loads(product.csm("top", name, "--json").stdout)["workspaces"][0]
