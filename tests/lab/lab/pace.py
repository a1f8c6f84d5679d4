"""A clock for what the product promises in seconds, on a machine that has other things to do as well.

A promise is about a machine that is the product's own. Stories run side by side, beside whatever else there is, and get their
share of the processors. So this clock goes as fast as somebody who is always ready to run is served: with twice as many
processes ready as there are processors, a second of it takes two. What waits for a disk counts as ready, since it would run.
It is read by everything that asserts seconds; what compares two latencies measures both on the same machine instead
(latency.py). It never goes slower than SLOWEST: an endless wait ends."""

import os
import threading
import time

# Between two looks at the machine.
EVERY = 0.02
SLOWEST = 1 / 6


def share(stat, processors):
    """What somebody who is always ready gets of a processor, by proc_stat(5). Whoever looks is running too, and doesn't count."""
    counts = dict(line.split()[:2] for line in stat.splitlines() if line.startswith("procs_"))
    ready = int(counts["procs_running"]) - 1 + int(counts["procs_blocked"])
    return min(1.0, max(SLOWEST, processors / max(1, ready)))


class _Clock:
    def __init__(self):
        self._processors = len(os.sched_getaffinity(0))
        self._lock = threading.Lock()
        self._passed, self._seen, self._share = 0.0, time.monotonic(), 1.0
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self):
        with open("/proc/stat", "rb", buffering=0) as file:
            while True:
                time.sleep(EVERY)
                file.seek(0)
                self._look(file.read(1 << 20).decode())

    def _look(self, stat):
        now = time.monotonic()
        with self._lock:
            self._passed += self._since(now)
            self._seen, self._share = now, share(stat, self._processors)

    def _since(self, now):
        """By the last look. A look that is late was itself kept waiting, and so was everybody else."""
        late = max(0.0, now - self._seen - 2 * EVERY)
        return (now - self._seen - late) * self._share + late * min(self._share, 0.5)

    def read(self):
        with self._lock:
            return self._passed + self._since(time.monotonic())


_clock = None
_making = threading.Lock()


def clock():
    """Seconds, for differences only; see above."""
    global _clock
    with _making:
        _clock = _clock or _Clock()
    return _clock.read()
