"""What the kernel counts once for the whole machine, and anybody may take: terminals, and slots for asynchronous input and output.
Row A42.

Little more is taken here than a workspace may have, since hosts of one kernel share these."""

import json

import pytest

from lab import pace

# By src/model/podman.rs.
TERMINALS = 128

# Opens as many terminals as it gets, 40 more than it may have at most, says how many, and holds them until its input ends.
TAKE_TERMINALS = r"""
import errno, json, os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
held, ended = [], None
try:
    while len(held) < int(sys.argv[1]) + 40:
        held.append(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
except OSError as error:
    ended = errno.errorcode[error.errno]
print(json.dumps([len(held), ended]), flush=True)
sys.stdin.read()
"""

# One more terminal, used: what is written to one end is read from the other.
ONE_TERMINAL = r"""
import os, tty
master, slave = os.openpty()
tty.setraw(slave)
os.write(slave, b"lab")
assert os.read(master, 3) == b"lab"
print(os.ttyname(slave), oct(os.fstat(slave).st_mode & 0o777))
"""


@pytest.fixture
def taken(host, product):
    """dan has every terminal that he gets: how many, and what he is told then. What the editor has open counts as well."""
    holder = host.start(*product.inside_argv("dan", "python3", "-c", TAKE_TERMINALS, str(TERMINALS)), stdin=-1, text=True)
    try:
        yield json.loads(holder.stdout.readline())
    finally:
        holder.stdin.close()
        holder.wait(60 / pace.SLOWEST)


def test_one_workspace_does_not_take_all_terminals_of_the_machine(host, product, taken):
    """A42. It took all 3,072 that there are for containers, and nobody had a terminal any more."""
    count, ended = taken
    assert TERMINALS - 10 < count <= TERMINALS and ended in ("ENOSPC", "EIO"), taken
    # A neighbour has one, by the editor's way and by an admin's, and so has the host.
    assert "/dev/pts/" in product.inside("alice", "python3", "-c", ONE_TERMINAL).stdout
    assert "/dev/pts/" in host.run("script", "--quiet", "--return", "--command", "csm exec -t alice -- tty", "/dev/null").stdout
    # He himself is reached without one.
    assert product.csm("exec", "-T", "dan", "--", "echo", "reached").stdout == "reached\n"


def test_terminals_inside_are_as_they_were(product):
    """Owned by who opens them, in a group that may write and not read, without a file that could be executed."""
    shown = product.inside("alice", "python3", "-c", ONE_TERMINAL).stdout.split()
    assert shown[1] == "0o620", shown
    row = next(line.split() for line in product.inside_sh("alice", "cat /proc/self/mountinfo").splitlines() if line.split()[4] == "/dev/pts")
    assert {f"max={TERMINALS}", "ptmxmode=666", "mode=620"} <= set(row[-1].split(",")), row


# x86_64: io_setup, of as many slots as most programs ask for, 64 times; each is left as it is.
SLOTS = r"""
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
answers = []
for _ in range(64):
    context = ctypes.c_ulong(0)
    answers.append("taken" if libc.syscall(206, 128, ctypes.byref(context)) == 0 else errno.errorcode[ctypes.get_errno()])
print(" ".join(sorted(set(answers))))
"""


def test_no_slots_for_asynchronous_input_and_output_are_taken(host, product):
    """A42. They are 65,536 for all; who wants some takes to another way when there is no such call. By a command here; what the editor
    starts is asked in test_inside.py."""
    before = int(host.get("/proc/sys/fs/aio-nr"))
    assert product.csm("exec", "dan", "--", "python3", "-c", SLOTS).stdout.strip() == "ENOSYS"
    assert int(host.get("/proc/sys/fs/aio-nr")) <= before
