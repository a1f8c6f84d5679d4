"""What happens while something else does: processes that stand still, commands that are under way, time that is used up."""

import contextlib
import os
import signal

from . import pace, wait


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
        command.communicate(timeout=20 / pace.SLOWEST)


def exit_code(command, deadline):
    """Of a command that was begun, within so many seconds of pace.clock(). What it said is in the complaint."""
    try:
        wait.until("the command ends", lambda: command.poll() is not None, deadline)
    except wait.TimedOut:
        command.kill()
        raise
    if command.returncode:
        print(command.stdout.read())
    return command.returncode


def busy(host, pid, seconds=3):
    """How much of the processors a process uses, of what somebody who is always ready gets: who is in a loop uses 1, wherever
    else the machine is busy."""
    before, begun = _used(host, pid), pace.clock()
    wait.until("a while goes by", lambda: pace.clock() - begun > seconds, seconds + 10, every=0.2)
    return (_used(host, pid) - before) / (pace.clock() - begun)


def _used(host, pid):
    """Seconds so far, all threads together."""
    return sum(map(int, host.get(f"/proc/{pid}/stat").decode().rsplit(")", 1)[1].split()[11:13])) / 100
