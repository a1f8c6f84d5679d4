"""Stories side by side: how many workers share a run, in which order files go to them, and who runs alone."""

import ast
import fcntl
import functools
import os
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

from . import dice, durations, env, needs

# Stories mostly wait; more hosts than this and they wait for each other.
PER_PROCESSOR = 2.5
# Three workspaces, an editor window in each, and a browser; an emulated machine takes as much.
MEMORY = 3 << 30
# Whether the emulated machine is made already: asked by the controller, since all workers have to come to the same order.
MADE = "CSM_LAB_MACHINE_MADE"


def count():
    """By processors and memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(round(PER_PROCESSOR * len(os.sched_getaffinity(0))), memory // MEMORY - 1))


class Scheduling(LoadFileScheduling):
    """A file stays with one worker; all that share a host stay with the same one."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return "shared" if is_shared(env.LAB / file) else file


@functools.cache
def is_shared(file):
    """Whether a file says SHARED = True. By its text: the controller, which hands files out, has none of the modules."""
    said = (node for node in ast.parse(Path(file).read_text()).body if isinstance(node, ast.Assign))
    return any(ast.unparse(node) == "SHARED = True" for node in said)


def in_order(items):
    """The same stories, in the order in which they are begun: what takes longest first, by its latest run; files that run
    alone last, since everybody else has to have ended by then."""
    took, files = durations.known(), {}
    for item in items:
        files.setdefault(item.nodeid.split("::")[0], []).append(item)
    modules = {file: some[0].module for file, some in files.items()}

    emulated = sorted(file for file in files if needs.kind_for(getattr(modules[file], "NEEDS", set())) == "vm")

    def expected(file):
        # An emulated machine takes minutes to make: while one file has that done, the others of its kind would only wait.
        if file in emulated and not os.environ.get(MADE):
            return 1000 if file == emulated[0] else 0
        return took.get(file, len(files[file]))

    shared = [file for file in files if is_shared(modules[file].__file__)]
    together = sum(map(expected, shared))

    def rank(file):
        return is_alone(modules[file]), -(together if file in shared else expected(file)), file not in shared, file

    return [item for file in sorted(files, key=rank) for item in files[file]]


def drawn(items):
    """The same stories without those of the files that say DRAWN = True, but for one of these files, which the run's seed draws.
    Each takes an emulated machine for minutes, and shows what few changes are about; tests/long plays all of them."""
    some = sorted({item.nodeid.split("::")[0] for item in items if getattr(item.module, "DRAWN", False)})
    chosen = dice.of("files").choice(some) if some else None
    return [item for item in items if item.nodeid.split("::")[0] == chosen or not getattr(item.module, "DRAWN", False)]


def is_alone(module):
    """A file says ALONE = True if it compares latencies, fills the machine, or uses up what all hosts of a kernel share."""
    return getattr(module, "ALONE", False)


class Turn:
    """Held for as long as a host is up that stories are played on: with others, or alone, whichever run of this machine they are
    of. Taken before a story's time begins to count. The kernel ends the turn of a run that was killed."""

    # What hosts use up is the kernel's, so one for all checkouts and caches.
    PLACE = Path("/run/csm-lab.turn")

    def __init__(self):
        self._host, self._lock = None, None

    def take(self, module):
        host = _host(module)
        if host == self._host:
            return
        self.leave()
        # Whoever waits for a turn holds the gate, and has the next one: so that others don't follow each other for ever while
        # somebody waits to be alone.
        gate = _open(self.PLACE.with_suffix(".gate"))
        try:
            fcntl.flock(gate, fcntl.LOCK_EX)
            self._lock = _open(self.PLACE)
            fcntl.flock(self._lock, fcntl.LOCK_EX if is_alone(module) else fcntl.LOCK_SH)
        finally:
            os.close(gate)
        self._host = host

    def ends_before(self, module):
        """Whether the next story, which may be none, is on another host."""
        return module is None or _host(module) != self._host

    def leave(self):
        if self._lock is not None:
            os.close(self._lock)
        self._host = self._lock = None


def _host(module):
    return "shared" if is_shared(module.__file__) else module.__file__


def _open(place):
    return os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
