"""`csm exec`: arguments, streams, exit codes and descriptors; what is refused, and who learns of it."""

import contextlib
import os
import re

import pytest

from lab import commands
from lab.commands import KEY, Started, inner, nothing_is_left, run

ARGUMENT = "canary-argument-Kp2YzH68"

# Sends a request with open descriptors of any kind, as `csm` never would, so many times: COUNT KINDS... ; prints status and body.
RAW = r"""
import os, pathlib, socket, sys
def make(kind):
    if kind == "line":
        return socket.socketpair()
    if kind == "in":
        return os.pipe()
    if kind == "out":
        return os.pipe()[::-1]
    if kind == "file":
        return os.open("/etc/shadow", os.O_RDONLY), None
    if kind == "path":
        os.mkfifo("/run/lab-fifo") if not os.path.exists("/run/lab-fifo") else None
        return os.open("/run/lab-fifo", os.O_PATH), None
    if kind == "null":
        return os.open("/dev/null", os.O_RDWR), None
    if kind == "slave":
        return os.openpty()[::-1]
    if kind == "master":
        return os.openpty()
    if kind == "datagram":
        return socket.socketpair(type=socket.SOCK_DGRAM)
    if kind == "listener":
        one = socket.socket(socket.AF_UNIX)
        one.bind("")
        one.listen()
        return one, None
number = lambda one: one if isinstance(one, int) else one.fileno()
body = b'{"command":["true"]}'
head = f"POST /v1/workspaces/dan/exec HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
for _ in range(int(sys.argv[1])):
    made = [make(kind) for kind in sys.argv[2:]]
    admin = socket.socket(socket.AF_UNIX)
    admin.connect("/run/code-server-multi/admin.sock")
    socket.send_fds(admin, [head.encode() + body], [number(far) for far, _ in made])
    answer = b""
    while piece := admin.recv(65536):
        answer += piece
    print(answer.split(b" ", 2)[1].decode(), answer.decode().split("\r\n\r\n", 1)[1])
"""

CONFIGURE = commands.configure


@pytest.fixture(autouse=True)
def nothing_left(host, product):
    yield
    nothing_is_left(host)


@pytest.mark.parametrize(
    "script, code",
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
        ("exec /nonexistent", 127),
        ("exec /etc/passwd", 126),
    ],
)
def test_the_exit_code_is_the_commands(product, script, code):
    assert run(product, "sh", "-c", script).returncode == code


def test_a_command_that_is_not_there(product):
    done = run(product, "no-such-program")
    assert done.returncode == 127 and "no-such-program" in done.stderr


def test_arguments_arrive_as_they_are(product):
    words = ["a b", "$HOME", "$$", "%n %h", '"', "'", "\\", "", "-t", "--", "two\nlines", "grün"]
    done = run(product, "printf", "<%s>", *words)
    assert done.stdout == "".join(f"<{word}>" for word in words)


def test_streams_stay_apart(product):
    done = run(product, "sh", "-c", "echo out; echo err >&2; cat", input="in\n")
    assert (done.stdout, done.stderr, done.returncode) == ("out\nin\n", "err\n", 0)


def test_ten_megabytes_come_back_as_they_were(product):
    data = os.urandom(10_000_000)
    done = run(product, "cat", input=data, text=False)
    assert done.stdout == data and done.stderr == b""
    done = run(product, "sh", "-c", "cat >&2", input=data, text=False)
    assert done.stderr == data and done.stdout == b""


def test_closed_streams_and_readers_that_leave(host, product):
    assert host.sh("csm exec dan -- sh -c 'cat; echo end' <&-") == "end"
    assert host.sh("csm exec dan -- sh -c 'echo out; echo err >&2' 2>&1 >&-") == "err"
    assert host.run("bash", "-c", "csm exec dan -- yes | head -n 1; echo ${PIPESTATUS[0]}").stdout == "y\n141\n"
    # On a terminal too: it doesn't break, it would only be full.
    assert host.run("bash", "-c", "csm exec -t dan -- yes | head -n 1; echo ${PIPESTATUS[0]}").stdout.split() == ["y", "141"]
    # A disk that is full is no success.
    for command in ("csm exec dan -- echo out", "csm exec -t dan -- yes"):
        done = host.run("bash", "-c", f"{command} >/dev/full", check=125)
        assert "can't write the result: No space left" in done.stderr


def test_sockets_as_sshd_gives_them(host, product):
    """Without a terminal sshd's child has a socket for its streams."""
    script = """
import socket, subprocess
near, far = socket.socketpair()
done = subprocess.Popen(["csm", "exec", "dan", "--", "sh", "-c", "cat; exit 3"], stdin=far, stdout=far)
far.close()
near.sendall(b"over a socket")
near.shutdown(socket.SHUT_WR)
print(near.recv(100).decode(), done.wait(180))
"""
    assert host.run("python3", "-c", script).stdout.strip() == "over a socket 3"


def test_where_it_starts_and_what_it_has(host, product):
    assert run(product, "pwd").stdout == "/home/coder/project\n"
    assert product.csm("exec", "-w", "/usr/share", "dan", "pwd").stdout == "/usr/share\n"
    assert run(product, "sh", "-c", "echo $LAB_KEY $CSM_WORKSPACE $(id -u)").stdout == f"{KEY} dan 1000\n"
    # In the workspace's cgroup, so that its limits hold.
    group = "/csm.slice/csm-dan.service/"
    with Started(host, "exec", "dan", "--", "sleep", "4701"):
        pid = inner(host, "sleep 4701")
        assert group in host.sh('cat "/proc/$1/cgroup"', pid)


def refused(done, words):
    assert done.returncode == 125 and words in done.stderr, (done.returncode, done.stderr)


def test_refusals(host, product):
    refused(product.csm("exec", "nobody", "true", check=False), "there is no workspace nobody")
    refused(product.csm("exec", "-w", "srv", "dan", "true", check=False), "the working directory is not an absolute path")
    product.csm("stop", "alice")
    refused(product.csm("exec", "alice", "true", check=False), "alice is stopped, not ready")
    refused(product.csm("shell", "alice", check=False), "alice is stopped, not ready")
    product.csm("start", "alice")
    assert product.csm("exec", "dan", check=False).returncode == 2


def test_podman_that_is_gone_is_said(host, product):
    host.sh("mv /usr/bin/podman /usr/bin/podman.away")
    try:
        for terminal in ("-T", "-t"):
            done = product.csm("exec", terminal, "dan", "true", check=False)
            assert done.returncode == 125
            assert (done.stdout + done.stderr).strip() == "csm: podman can't be run: No such file or directory (os error 2)"
    finally:
        host.sh("mv /usr/bin/podman.away /usr/bin/podman")
    assert run(product, "true").returncode == 0


def test_a_frozen_workspace_says_so(host, product):
    host.run("systemctl", "freeze", "csm-alice.service")
    try:
        refused(product.csm("exec", "alice", "true", check=False), "suspended: its unit is frozen")
        # Nobody else thaws it, so there is nothing to wait for.
        done = product.csm("start", "alice", check=False)
        assert done.returncode == 1 and "systemctl thaw csm-alice.service" in done.stderr, done
    finally:
        host.run("systemctl", "thaw", "csm-alice.service")
    # Nobody tells the daemon of a thaw; asked, it looks.
    product.csm("start", "alice")


def test_there_are_bounds(host, product):
    """In a workspace; what is over is refused, and a command that ends makes room."""
    with contextlib.ExitStack() as programs:
        running = lambda: int(host.sh("pgrep -c -f '^sleep 4711$' || true"))  # noqa: E731
        # Not all at once: each has its time to start, whoever else starts.
        for count in (4, 8, 12, 16):
            for _ in range(4):
                programs.enter_context(Started(host, "exec", "dan", "--", "sleep", "4711"))
            host.wait_for(f"{count} run", lambda count=count: running() == count)
        done = run(product, "true")
        refused(done, "too many commands at once: 16 in a workspace")
        assert product.csm("exec", "alice", "true").returncode == 0
        # The one who asked is gone, so is its command.
        host.sh("pkill -KILL -o -f '^csm exec dan'")
        host.wait_for("there is room", lambda: run(product, "true").returncode == 0)


def test_a_command_is_nobody_elses_business(host, product):
    """Neither its arguments nor its environment are in a unit's properties or the journal; who ran something is."""
    with Started(host, "exec", "dan", "--", "sh", "-c", f": {ARGUMENT}; sleep 4712; :"):
        inner(host, "sleep 4712")
        unit = host.sh("systemctl list-units --no-legend --plain 'csm-dan--exec-*' | cut -d' ' -f1")
        path = host.sh('busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager GetUnit s "$1" | cut -d\'"\' -f2', unit)
        for look in (("systemctl", "show", "--all", unit), ("systemctl", "status", "--no-pager", "-l", unit), ("busctl", "introspect", "-l", "org.freedesktop.systemd1", path)):
            shown = host.run("setpriv", "--reuid", "csm-alice", "--regid", "csm-alice", "--init-groups", *look).stdout
            # `status` shows processes of the unit's own cgroup; the command is in the workspace's.
            assert "exec-when-told" in shown
            assert ARGUMENT not in shown and KEY not in shown, look
    host.sh("journalctl --sync")
    journal = host.journal()
    assert ARGUMENT not in journal and KEY not in journal
    assert re.search(r"dan: command of user 0", journal)
    assert f"Started {unit}" in journal


def test_who_is_no_admin_gets_nothing(host, product):
    def as_(*who):
        return host.run("setpriv", *who, "csm", "exec", "dan", "--", "touch", "/home/coder/by-a-stranger", check=False)

    before = host.sh("journalctl --sync; journalctl --boot | grep -c 'code-server-multi command in' || true")
    refused(as_("--reuid", "csm-alice", "--regid", "csm-alice", "--init-groups"), "Permission denied")
    # A process that got the group by another way is let through by the socket's mode, and refused by the daemon, which asks
    # who it is.
    refused(as_("--reuid", "csm-alice", "--regid", "csm-alice", "--groups", host.sh("getent group csm-admin | cut -d: -f3")), "this socket is not for your account")
    host.run("test", "-e", "/var/lib/vscode/dan/home/by-a-stranger", check=1)
    assert host.sh("journalctl --sync; journalctl --boot | grep -c 'code-server-multi command in' || true") == before


@pytest.mark.parametrize(
    "kinds, why",
    [
        ("", "0 came, not 2 or 4"),
        ("line", "1 came, not 2 or 4"),
        ("line in out", "3 came, not 2 or 4"),
        ("line in out out out", "more than 4 came"),
        (" ".join(["null"] * 200), "more than 4 came"),
        ("in in out out", "the line is no connected unix stream socket"),
        ("datagram in out out", "the line is no connected unix stream socket"),
        ("listener in out out", "the line is no connected unix stream socket"),
        ("line file out out", "standard input is no pipe"),
        ("line null out out", "standard input is no pipe"),
        ("line path out out", "standard input is not open, it only names a file (O_PATH)"),
        ("line line out out", "standard input is no pipe"),
        ("line out out out", "standard input is not open for reading"),
        ("line in in out", "standard output is not open for writing"),
        ("line in out null", "standard error is no pipe"),
        ("line null", "the terminal is no pseudo-terminal's slave end"),
        ("line master", "the terminal is no pseudo-terminal's slave end"),
        ("line line", "the terminal is no pseudo-terminal's slave end"),
    ],
)
def test_other_descriptors_are_refused_and_not_kept(host, product, kinds, why):
    open_files = f"ls /proc/{product.daemon_pid()}/fd | wc -l"
    before = int(host.sh(open_files))
    answers = host.run("python3", "-c", RAW, "3", *kinds.split()).stdout.splitlines()
    assert len(answers) == 3
    for answer in answers:
        assert answer.startswith("422 ") and '"code":"exec-descriptors"' in answer and why in answer, answer
    host.wait_for("none is kept", lambda: int(host.sh(open_files)) <= before)


def test_descriptors_with_other_requests_are_not_kept(host, product):
    open_files = f"ls /proc/{product.daemon_pid()}/fd | wc -l"
    before = int(host.sh(open_files))
    script = RAW.replace("POST /v1/workspaces/dan/exec", "GET /v1/version")
    answers = host.run("python3", "-c", script, "20", "line", "in", "out", "out").stdout.splitlines()
    assert [answer.split()[0] for answer in answers] == ["200"] * 20
    host.wait_for("none is kept", lambda: int(host.sh(open_files)) <= before)


def test_a_caller_that_leaves_in_the_middle(host, product):
    """It sent everything, and did not wait for the answer."""
    script = RAW.split("    answer = b")[0]
    for _ in range(5):
        host.run("python3", "-c", script.replace('["true"]', '["sleep","4713"]'), "1", "line", "in", "out", "out")
    nothing_is_left(host)


def test_csm_test_goes_the_same_way(host, product):
    done = product.csm("test", "dan")
    assert re.search(r"^ok +terminal +/dev/pts/\d+$", done.stdout, re.M), done.stdout
