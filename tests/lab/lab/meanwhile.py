"""What happens while something else does: processes that stand still, commands that are under way, time that is used up."""

import contextlib
import os
import signal


@contextlib.contextmanager
def stopped(host, unit):
    """Its processes take no notice of anything for as long as the block lasts. By signals, since systemctl would ask the very
    bus that may be what is stopped."""
    group = host.show(unit, "ControlGroup")
    send = 'for pid in $(cat "/sys/fs/cgroup$1/cgroup.procs"); do kill "-$2" "$pid"; done'
    host.sh(send, group, "STOP")
    try:
        yield
    finally:
        host.sh(send, group, "CONT")


@contextlib.contextmanager
def under_way(host, *argv):
    """A command that was begun. It ends with the block, if it hasn't by then."""
    command = host.start(*argv, process_group=0)
    try:
        yield command
    finally:
        # With what runs in the host, which would hold the pipes for as long as it likes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
        command.communicate(timeout=20)


def cpu_seconds(host, pid):
    """What a process has used of the processors so far, all threads together."""
    return sum(map(int, host.get(f"/proc/{pid}/stat").decode().rsplit(")", 1)[1].split()[11:13])) / 100
