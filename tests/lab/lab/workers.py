"""Stories side by side: how many workers share a run, in which order files go to them, and who runs alone."""

import fcntl
import os

from . import durations, env, needs

# Stories mostly wait; more hosts than this and they wait for each other.
PER_PROCESSOR = 2.5
# Three workspaces, an editor window in each, and a browser; an emulated machine takes as much.
MEMORY = 3 << 30


def count():
    """By processors and memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(round(PER_PROCESSOR * len(os.sched_getaffinity(0))), memory // MEMORY - 1))


def in_order(items):
    """The same files, in the order in which they are begun: the longest first, by their latest run; those that run alone last,
    since everybody else has to have ended by then."""
    took, files = durations.known(), {}
    for item in items:
        files.setdefault(item.nodeid.split("::")[0], []).append(item)

    def rank(file):
        module = files[file][0].module
        emulated = needs.kind_for(getattr(module, "NEEDS", set())) == "vm"
        return is_alone(module), -took.get(file, (1000 if emulated else 0) + len(files[file])), file

    return [item for file in sorted(files, key=rank) for item in files[file]]


def is_alone(module):
    """A file says ALONE = True if it compares latencies, fills the machine, or uses up what all hosts of a kernel share."""
    return getattr(module, "ALONE", False)


class Turn:
    """Held for as long as a file is played: with others, or alone. Taken before a story's time begins to count."""

    def __init__(self):
        self._module, self._lock = None, None

    def take(self, module):
        if module is self._module:
            return
        self.leave()
        self._lock = os.open(env.artifacts() / ".turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX if is_alone(module) else fcntl.LOCK_SH)
        self._module = module

    def leave(self):
        if self._lock is not None:
            os.close(self._lock)
        self._module = self._lock = None
