"""`csm exec` and `csm shell`: streams, terminals, exit codes and signals, whoever is killed on the way."""

import os
import re
import subprocess

import pytest
from lab.screen import Screen

KEY = "canary-key-Vw7TdQ53"
ARGUMENT = "canary-argument-Kp2YzH68"

# Whatever a command leaves is one of these; dan's own container has a conmon too.
LEFT = r"""
systemctl list-units --all --no-legend --plain 'csm-*--exec-*'
find /sys/fs/cgroup/csm.slice -name 'csm-*--exec-*'
pgrep -a -u csm-dan -x podman || true
pgrep -a -u csm-dan -x conmon | tail -n +2
pgrep -a -x csm | grep exec-when-told || true
pgrep -a -f '[s]leep 4[78]' || true
"""

# Sends a request with open descriptors of any kind, as `csm` never would: KINDS... ; prints status and body.
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
made = [make(kind) for kind in sys.argv[1:]]
number = lambda one: one if isinstance(one, int) else one.fileno()
body = b'{"command":["true"]}'
head = f"POST /v1/workspaces/dan/exec HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
admin = socket.socket(socket.AF_UNIX)
admin.connect("/run/code-server-multi/admin.sock")
socket.send_fds(admin, [head.encode() + body], [number(far) for far, _ in made])
answer = b""
while piece := admin.recv(65536):
    answer += piece
print(answer.split(b" ", 2)[1].decode(), answer.decode().split("\r\n\r\n", 1)[1])
"""


def CONFIGURE(product):
    product.host.put("/etc/lab/secrets/key", KEY + "\n", 0o600)
    product.config["workspaces"]["dan"]["secret_environment"] = {"LAB_KEY": "/etc/lab/secrets/key"}


def nothing_is_left(host):
    host.wait_for("nothing of a command is left", lambda: host.sh(LEFT) == "", 20)


@pytest.fixture(autouse=True)
def nothing_left(host, product):
    yield
    nothing_is_left(host)


def run(product, *argv, **options):
    return product.csm("exec", "dan", "--", *argv, check=False, **options)


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
print(near.recv(100).decode(), done.wait(30))
"""
    assert host.run("python3", "-c", script).stdout.strip() == "over a socket 3"


def test_where_it_starts_and_what_it_has(host, product):
    assert run(product, "pwd").stdout == "/home/coder/project\n"
    assert product.csm("exec", "-w", "/usr/share", "dan", "pwd").stdout == "/usr/share\n"
    assert run(product, "sh", "-c", "echo $LAB_KEY $CSM_WORKSPACE $(id -u)").stdout == f"{KEY} dan 1000\n"
    # In the workspace's cgroup, so that its limits hold.
    group = "/csm.slice/csm-dan.service/"
    with start(host, "exec", "dan", "--", "sleep", "4701"):
        pid = inner(host, "sleep 4701")
        assert group in host.sh('cat "/proc/$1/cgroup"', pid)


class start:
    """A `csm` in the host that is ended by the block's end, if not before."""

    def __init__(self, host, *argv, **options):
        self.host, self.program = host, host.start("csm", *argv, **options)

    def __enter__(self):
        return self.program

    def __exit__(self, *_):
        self.host.run("pkill", "-KILL", "-f", "^csm (exec|shell)", check=False)
        self.program.communicate(timeout=20)


def inner(host, command):
    """The process of a command inside, once it is there."""
    script = 'pgrep -f "^$1\\$" || true'
    host.wait_for(f"{command} runs", lambda: host.sh(script, command) != "")
    return host.sh(script, command).splitlines()[0]


def shell(host, *argv, **options):
    return Screen(host.argv("csm", *(argv or ("shell", "dan"))), **options)


def prompt(screen):
    screen.type("PS1='ready''> '\r")
    screen.expect("ready> ")


def test_a_shell_is_a_login_shell_on_a_terminal_of_the_right_size(host, product):
    with shell(host, rows=33, columns=111) as screen:
        prompt(screen)
        for typed, printed in [
            ("stty size", "33 111"),
            ("shopt -q login_shell && echo it is", "it is"),
            ("pwd; echo $TERM $SHELL $LAB_KEY", f"/home/coder/project\r\nxterm-256color /bin/bash {KEY}"),
            ("test -t 0 && test -t 1 && test -t 2 && echo all three", "all three"),
        ]:
            screen.type(typed + "\r")
            screen.expect("[\r\n]" + re.escape(f"{printed}\r\n"))
        screen.resize(50, 140)
        screen.type("until [ \"$(stty size)\" = '50 140' ]; do sleep 0.05; done; echo re''sized\r")
        screen.expect("resized")
        # Not Podman's "detach".
        screen.type("\x10\x11echo still''here\r")
        screen.expect("stillhere")
        screen.type("exit 9\r")
        assert screen.wait() == 9
        assert screen.mode_is_restored()


def test_a_size_is_there_from_the_first_moment(host, product):
    for rows, columns in [(20, 70), (61, 203)]:
        with shell(host, "exec", "dan", "--", "stty", "size", rows=rows, columns=columns) as screen:
            screen.expect(f"{rows} {columns}")
            assert screen.wait() == 0


def test_control_c_in_a_shell(host, product):
    with shell(host) as screen:
        prompt(screen)
        screen.type("sleep 4702\r")
        inner(host, "sleep 4702")
        screen.type("\x03")
        screen.expect("ready> ")
        screen.type("echo code $?\r")
        screen.expect("code 130\r\n")
        # Ctrl-Z and Ctrl-\ are the inner shell's as well.
        screen.type("sleep 4703\r")
        inner(host, "sleep 4703")
        screen.type("\x1a")
        screen.expect("Stopped")
        screen.type("kill -KILL %1; sleep 0.1\r")
        screen.expect("Killed")
        screen.type("exit 0\r")
        assert screen.wait() == 0


def test_control_c_in_a_pipe(host, product):
    """The terminal interrupts csm, which has the command inside interrupted, and its last words still arrive."""
    # What a shell leaves in the background outlives it, here as anywhere.
    inside = r"trap 'kill \$!; echo got it; exit 7' INT; echo begun; sleep 4704 & wait"
    script = f"""trap : INT; csm exec dan -- sh -c "{inside}" | (trap '' INT; cat); echo "codes ${{PIPESTATUS[*]}}" """
    # On a terminal of the host's own: what interrupts one of ours also interrupts the way into the host.
    with Screen(host.argv("env", "SHELL=/bin/bash", "script", "--quiet", "--return", "--command", script, "/dev/null")) as screen:
        screen.expect("begun")
        inner(host, "sleep 4704")
        screen.type("\x03")
        screen.expect("got it\r\ncodes 7 0")


def test_a_terminal_can_be_refused_or_insisted_on(host, product):
    with shell(host, "exec", "-T", "dan", "--", "sh", "-c", "test -t 1 || echo none") as screen:
        screen.expect("none")
        assert screen.wait() == 0
    assert product.csm("exec", "-t", "dan", "--", "sh", "-c", "test -t 1 && stty size").stdout == "24 80\n"
    assert product.csm("exec", "-t", "dan", "cat", input="typed\n").stdout == "typed\ntyped\n"
    # Input that ends within a line has ended all the same.
    assert product.csm("exec", "-t", "dan", "cat", input="typed").stdout == "typedtyped"
    # A shell in a pipe reads commands.
    assert product.csm("shell", "dan", input="echo $((6 * 7))\nexit 4\n", check=4).stdout == "42\n"


def test_signals_to_csm_reach_the_command(host, product):
    for number, code in [("INT", 130), ("TERM", 143), ("QUIT", 131)]:
        with start(host, "exec", "dan", "--", "sh", "-c", "sleep 4705; echo no") as program:
            inner(host, "sleep 4705")
            host.sh('pkill "-$1" -f "^csm exec dan"', number)
            out, _ = program.communicate(timeout=20)
            assert (program.returncode, out) == (code, b"")


def kill_daemon(host, product):
    before = product.daemon_pid()
    host.sh('kill -KILL "$1"', str(before))
    host.wait_for("another daemon", lambda: product.daemon_pid() not in (0, before))
    host.wait_for("it answers", lambda: product.csm("version", check=False).returncode == 0)


def test_a_killed_daemon_ends_no_shell(host, product):
    with shell(host) as screen:
        prompt(screen)
        for count in range(2):
            kill_daemon(host, product)
            screen.type(f"echo after {count} $((40 + {count}))\r")
            screen.expect(f"[\r\n]after {count} 4{count}\r\n")
        host.run("systemctl", "restart", "code-server-multi.service")
        screen.type("exit 5\r")
        assert screen.wait() == 5
        assert screen.mode_is_restored()


def test_a_killed_daemon_loses_no_exit_code(host, product):
    inside = "echo begun; read line; echo $line; exit 6"
    with start(host, "exec", "dan", "--", "sh", "-c", inside, stdin=subprocess.PIPE) as program:
        assert program.stdout.readline() == b"begun\n"
        kill_daemon(host, product)
        out, _ = program.communicate(b"and went on\n", timeout=30)
        assert (out, program.returncode) == (b"and went on\n", 6)


IGNORES = "trap '' HUP INT TERM QUIT PIPE; while :; do sleep 4706; done"


@pytest.mark.parametrize("command", ["sleep 4706", IGNORES], ids=["plain", "ignores"])
@pytest.mark.parametrize("terminal", ["-t", "-T"])
def test_a_killed_csm_leaves_nothing(host, product, command, terminal):
    with start(host, "exec", terminal, "dan", "--", "sh", "-c", command):
        inner(host, "sleep 4706")
        host.sh('pkill -KILL -f "^csm exec"')
        nothing_is_left(host)


def test_a_csm_killed_at_any_moment_leaves_nothing(host, product):
    """From before the daemon has heard of it to after the command runs."""
    for tenth in range(12):
        host.sh('timeout --signal=KILL "$1" csm exec dan -- sleep 4707 || true', f"{0.02 + tenth * 0.04:.2f}")
    nothing_is_left(host)


def test_a_terminal_that_hangs_up_takes_the_shell_along(host, product):
    with shell(host) as screen:
        prompt(screen)
        screen.type("sleep 4708 & sleep 4709\r")
        inner(host, "sleep 4709")
        screen.hang_up()
        nothing_is_left(host)


def test_a_terminated_csm_gives_the_terminal_back(host, product):
    for number, code in [("TERM", 143), ("HUP", 129), ("INT", 130)]:
        with shell(host) as screen:
            prompt(screen)
            assert not screen.mode_is_restored()
            host.sh('pkill "-$1" -f "^csm shell"', number)
            assert screen.wait() == code
            assert screen.mode_is_restored()
        nothing_is_left(host)


def test_a_killed_daemon_and_then_a_killed_csm(host, product):
    """Nobody is left who knows of the command but its own unit, which ends it."""
    daemon = "code-server-multi.service"
    with start(host, "exec", "dan", "--", "sh", "-c", IGNORES):
        inner(host, "sleep 4706")
        host.run("systemctl", "kill", "--signal=KILL", daemon)
        host.sh('pkill -KILL -f "^csm exec"')
        nothing_is_left(host)
    host.wait_for("the daemon is back", lambda: product.csm("version", check=False).returncode == 0)


def test_a_stopped_unit_ends_its_command(host, product):
    with start(host, "exec", "dan", "--", "sleep", "4710") as program:
        inner(host, "sleep 4710")
        host.sh("systemctl stop 'csm-dan--exec-*.service'")
        nothing_is_left(host)
        out, _ = program.communicate(timeout=10)
        assert program.returncode == 129, out


def test_a_workspace_that_stops_ends_its_shells(host, product):
    with shell(host, "shell", "alice") as screen:
        prompt(screen)
        product.csm("stop", "alice")
        # 255 is Podman's word for a container that was removed under it.
        assert screen.wait() in (125, 137, 255), screen.text
        assert screen.mode_is_restored()
    nothing_is_left(host)
    product.csm("start", "alice")


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
    programs = [host.start("csm", "exec", "dan", "--", "sleep", "4711") for _ in range(16)]
    try:
        host.wait_for("sixteen run", lambda: host.sh("pgrep -c -f '^sleep 4711$' || true") == "16", 60)
        done = run(product, "true")
        refused(done, "too many commands at once: 16 in a workspace")
        assert product.csm("exec", "alice", "true").returncode == 0
        # The one who asked is gone, so is its command.
        host.sh("pkill -KILL -o -f '^csm exec dan'")
        host.wait_for("there is room", lambda: run(product, "true").returncode == 0)
    finally:
        host.sh("pkill -KILL -f '^csm exec dan' || true")
        for program in programs:
            program.communicate(timeout=20)


def test_a_command_is_nobody_elses_business(host, product):
    """Neither its arguments nor its environment are in a unit's properties or the journal; who ran something is."""
    with start(host, "exec", "dan", "--", "sh", "-c", f": {ARGUMENT}; sleep 4712; :"):
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
    for _ in range(3):
        done = host.run("python3", "-c", RAW, *kinds.split())
        assert done.stdout.startswith("422 ") and '"code":"exec-descriptors"' in done.stdout and why in done.stdout, done.stdout
    host.wait_for("none is kept", lambda: int(host.sh(open_files)) <= before)


def test_descriptors_with_other_requests_are_not_kept(host, product):
    open_files = f"ls /proc/{product.daemon_pid()}/fd | wc -l"
    before = int(host.sh(open_files))
    script = RAW.replace("POST /v1/workspaces/dan/exec", "GET /v1/version")
    for _ in range(20):
        assert host.run("python3", "-c", script, "line", "in", "out", "out").stdout.startswith("200 ")
    host.wait_for("none is kept", lambda: int(host.sh(open_files)) <= before)


def test_a_caller_that_leaves_in_the_middle(host, product):
    """It sent everything, and did not wait for the answer."""
    script = RAW.split("answer = b")[0]
    for _ in range(5):
        host.run("python3", "-c", script.replace('["true"]', '["sleep","4713"]'), "line", "in", "out", "out")
    nothing_is_left(host)


def test_csm_test_goes_the_same_way(host, product):
    done = product.csm("test", "dan")
    assert re.search(r"^ok +terminal +/dev/pts/\d+$", done.stdout, re.M), done.stdout
