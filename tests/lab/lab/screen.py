"""A program on a real pseudo-terminal, with somebody who types and reads."""

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios

from . import pace


class Screen:
    """Runs a command whose terminal is ours. Everything that it printed is in `text`."""

    def __init__(self, argv, rows=24, columns=80, term="xterm-256color"):
        self.master, slave = os.openpty()
        self.text = ""
        self.resize(rows, columns)
        self.mode_before = termios.tcgetattr(self.master)
        self.program = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": term},
        )
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.program.poll() is None:
            os.killpg(self.program.pid, signal.SIGKILL)
            self.program.wait(10)
        self.hang_up()

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def hang_up(self):
        """As when the window is closed, or the connection is lost."""
        if self.master is not None:
            os.close(self.master)
            self.master = None

    def mode_is_restored(self):
        return termios.tcgetattr(self.master) == self.mode_before

    def expect(self, pattern, deadline=20):
        """Reads until this has come since the last time, and returns the match. In seconds of pace.clock(), as all deadlines."""
        until = pace.clock() + deadline
        while not (found := re.search(pattern, self.text)):
            if not self._read(until):
                raise AssertionError(f"no {pattern!r} within {deadline} s or before the end; there was {self.text[-2000:]!r}")
        self.text = self.text[found.end() :]
        return found

    def wait(self, deadline=20):
        """Reads to the end and returns the exit code."""
        until = pace.clock() + deadline
        while self._read(until):
            pass
        return self.program.wait(deadline / pace.SLOWEST)

    def _read(self, until):
        """Whether anything came in time."""
        ready = []
        while not ready and pace.clock() < until:
            ready, _, _ = select.select([self.master], [], [], 0.2)
        piece = b""
        # A terminal that nobody has open any more says EIO.
        with contextlib.suppress(OSError):
            piece = os.read(self.master, 65536) if ready else b""
        self.text += piece.decode(errors="replace")
        return bool(piece)
