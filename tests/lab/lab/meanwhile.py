"""What happens while something else does: processes that stand still, commands that are under way, time that is used up."""

import contextlib


@contextlib.contextmanager
def stopped(host, unit):
    """Its processes take no notice of anything for as long as the block lasts. By signals, since systemctl would ask the very
    bus that may be what is stopped."""
    group = host.show(unit, "ControlGroup")
    signal = 'for pid in $(cat "/sys/fs/cgroup$1/cgroup.procs"); do kill "-$2" "$pid"; done'
    host.sh(signal, group, "STOP")
    try:
        yield
    finally:
        host.sh(signal, group, "CONT")


@contextlib.contextmanager
def under_way(host, *argv):
    """A command that was begun. It ends with the block, if it hasn't by then."""
    command = host.start(*argv)
    try:
        yield command
    finally:
        command.kill()
        command.communicate(timeout=150)


def cpu_seconds(host, pid):
    """What a process has used of the processors so far, all threads together."""
    return sum(map(int, host.get(f"/proc/{pid}/stat").decode().rsplit(")", 1)[1].split()[11:13])) / 100
