begin()


def of_cgroup(file):
    group = show("csm-dan.service", "ControlGroup")
    return machine.succeed(f"cat /sys/fs/cgroup{group}/{file}").strip()


with subtest("limits are in the cgroup"):
    assert of_cgroup("memory.max") == str(1 << 30)
    assert of_cgroup("memory.swap.max") == "0"
    assert of_cgroup("pids.max") == "512"
    quota, period = map(int, of_cgroup("cpu.max").split())
    assert quota * 2 == period

with subtest("another limit is in force in the same process"):
    before = show("csm-dan.service", "MainPID")
    machine.succeed("/run/current-system/specialisation/more/bin/switch-to-configuration test")
    machine.wait_until_succeeds(f"systemctl show -P MemoryMax csm-dan.service | grep -qx {900 << 20}", timeout=60)
    assert show("csm-dan.service", "MainPID") == before
