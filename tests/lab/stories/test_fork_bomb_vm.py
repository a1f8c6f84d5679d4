"""A fork bomb is stopped by the kernel at its owner's limit, and whoever has it can be stopped. Rows F15, A21."""

from lab import latency, pace

NEEDS = {"pids", "cpu"}
ALONE = True


def CONFIGURE(product):
    product.only("dan", "sam")
    product.config["workspaces"]["sam"] |= {"cpu_limit": "0.8", "tasks_max": 150}


def at_limit(product, name):
    """How often somebody was refused a process."""
    return int(dict(line.split() for line in product.cgroup(name, "pids.events").splitlines())["max"])


def test_a_fork_bomb_is_its_owners_own_trouble(host, product):
    before = product.main_pids("dan")
    dans = lambda: {"a neighbour's /healthz": latency.of_health(product, "dan", 100)}  # noqa: E731
    alone = dans()
    bomb = host.start(*product.inside_argv("sam", "bash", "-c", "bomb() { bomb | bomb & }; while :; do bomb; done"))
    try:
        host.wait_for("the bomb is at its limit", lambda: at_limit(product, "sam") > 50, 90)
        # Below a quarter of a second nobody notices, and an emulated processor jumps that far.
        latency.assert_stays_unnoticed(alone, dans, 0.25)
        # Other people's: nothing of the kind.
        assert at_limit(product, "dan") == 0

        begun = pace.clock()
        product.csm("stop", "sam")
        stopped = pace.clock() - begun
        assert not product.processes(product.ids("sam"))
        print(f"csm stop beside it took {stopped:.1f} s")
    finally:
        bomb.kill()
        bomb.wait()
        # It waits longer (300 s) than a start may take, however slow the machine is by now.
        started = product.csm("start", "sam", check=False, timeout=330)
    assert stopped < 5
    assert product.main_pids("dan") == before
    assert started.returncode == 0, started.stderr
    assert product.state("sam") == "ready"
