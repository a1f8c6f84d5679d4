"""strace(1) of the daemon: what it calls, and calls that end otherwise than the kernel would have them."""

import re

from . import pace

# Where nobody looks for secrets: the daemon handles them, and strace shows it. And in no directory that the daemon watches:
# each line there would be an event, each event a system call, and each call a line.
TRACE = "/srv/lab-trace"


class Tracer:
    """strace(1) of the daemon from outside its sandbox, which lets it trace nobody."""

    def __init__(self, host, pid, *options):
        self.host = host
        threads = int(host.sh('ls "/proc/$1/task" | wc -l', str(pid)))
        self._strace = host.start("strace", "-f", "-y", "-o", TRACE, "-p", str(pid), *options)
        # It says so once it holds the process with its threads; everything after that is seen.
        line = self._strace.stdout.readline()
        assert b"attached" in line and (threads == 1 or b"threads" in line), line

    def has_ended(self):
        """As it does with the process that it traces."""
        return self._strace.poll() is not None

    def end(self):
        self.host.run("pkill", "-x", "strace", check=False)
        self._strace.communicate(timeout=20 / pace.SLOWEST)

    def calls(self):
        """What it saw: [(name, which one of that name, the call in words)]."""
        counts, calls = {}, []
        for line in self.host.get(TRACE).decode(errors="replace").splitlines():
            if found := re.match(r"(?:(\d+) +)?([a-z0-9_]+)\(", line):
                counts[found.groups()] = counts.get(found.groups(), 0) + 1
                calls.append((found[2], counts[found.groups()], line))
        return calls
