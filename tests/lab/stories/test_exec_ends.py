"""Terminals of `csm exec` and `csm shell`, signals, and that nothing is left whoever is killed on the way."""

import re
import subprocess

import pytest

from lab import commands
from lab.commands import KEY, Started, inner, kill_daemon, nothing_is_left, prompt, shell
from lab.screen import Screen

CONFIGURE = commands.configure


@pytest.fixture(autouse=True)
def nothing_left(host, product):
    yield
    nothing_is_left(host)


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
        screen.type("kill -KILL %1; while jobs | grep -q Stopped; do sleep 0.05; done\r")
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
        with Started(host, "exec", "dan", "--", "sh", "-c", "sleep 4705; echo no") as started:
            inner(host, "sleep 4705")
            host.sh('pkill "-$1" -f "^csm exec dan"', number)
            assert started.end() == (b"", code)
        # Or the next one is told by this one's command that its own is there.
        nothing_is_left(host)


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
    with Started(host, "exec", "dan", "--", "sh", "-c", inside, stdin=subprocess.PIPE) as started:
        assert started.program.stdout.readline() == b"begun\n"
        kill_daemon(host, product)
        assert started.end(b"and went on\n") == (b"and went on\n", 6)


IGNORES = "trap '' HUP INT TERM QUIT PIPE; while :; do sleep 4706; done"


@pytest.mark.parametrize("command", ["sleep 4706", IGNORES], ids=["plain", "ignores"])
@pytest.mark.parametrize("terminal", ["-t", "-T"])
def test_a_killed_csm_leaves_nothing(host, product, command, terminal):
    with Started(host, "exec", terminal, "dan", "--", "sh", "-c", command):
        inner(host, "sleep 4706")
        host.sh('pkill -KILL -f "^csm exec"')
        nothing_is_left(host)


def test_a_csm_killed_at_any_moment_leaves_nothing(host, product):
    """From before the daemon has heard of it to after the command runs."""
    whole = int(host.sh("begun=${EPOCHREALTIME/./}; csm exec dan -- true; echo $((${EPOCHREALTIME/./} - begun))")) / 1e6
    moments = [f"{whole * (tenth + 0.5) / 10:.3f}" for tenth in range(12)]
    host.sh('for moment; do timeout --signal=KILL "$moment" csm exec dan -- sleep 4707 || true; done', *moments)
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
    with Started(host, "exec", "dan", "--", "sh", "-c", IGNORES):
        inner(host, "sleep 4706")
        host.run("systemctl", "kill", "--signal=KILL", daemon)
        host.sh('pkill -KILL -f "^csm exec"')
        nothing_is_left(host)
    host.wait_for("the daemon is back", lambda: product.csm("version", check=False).returncode == 0)


def test_a_stopped_unit_ends_its_command(host, product):
    with Started(host, "exec", "dan", "--", "sleep", "4710") as started:
        inner(host, "sleep 4710")
        host.sh("systemctl stop 'csm-dan--exec-*.service'")
        nothing_is_left(host)
        out, code = started.end()
        assert code == 129, out


def test_a_workspace_that_stops_ends_its_shells(host, product):
    with shell(host, "shell", "alice") as screen:
        prompt(screen)
        product.csm("stop", "alice")
        # 255 is Podman's word for a container that was removed under it.
        assert screen.wait() in (125, 137, 255), screen.text
        assert screen.mode_is_restored()
    nothing_is_left(host)
    product.csm("start", "alice")
