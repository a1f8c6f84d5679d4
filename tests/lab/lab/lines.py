"""What a program prints line by line while it runs."""

import queue
import threading

from . import pace


class Lines:
    """Use as a context manager, with a program whose output is a pipe of text; it is killed at the end."""

    def __init__(self, program):
        self._program, self._lines, self.seen = program, queue.Queue(), []

    def __enter__(self):
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._program.kill()
        self._program.wait()

    def next(self, deadline=30):
        """The next one, in seconds of pace.clock()."""
        until = pace.clock() + deadline
        while pace.clock() < until:
            try:
                line = self._lines.get(timeout=0.2)
            except queue.Empty:
                continue
            assert line is not None, f"it ended; there were {self.seen}"
            self.seen.append(line)
            return line
        raise AssertionError(f"no further line within {deadline} s; there were {self.seen}")

    def _read(self):
        for line in self._program.stdout:
            self._lines.put(line)
        self._lines.put(None)
