"""What a workspace says arrives at an admin's terminal as text or not at all: by journald, which writes what is urgent to every
terminal of the machine, and by what csm shows. Row A40."""

import json

import pytest

from lab.line import PRINT

# Sets a clipboard, clears the screen, asks for a password: what a terminal does with what it is sent.
STEERS = "\x1b]52;c;bGFiLWNsaXBib2FyZA==\x07\x1b[2J\x1b[Hlab-steers, password for root: "
PRIORITIES = [f"<{number}>" for number in range(8)]

# A terminal on which somebody is logged in, as logind has it (sd-login(3)); what is written to it is kept in a file.
LOGGED_IN = r"""
import os
master, slave = os.openpty()
os.makedirs("/run/systemd/sessions", exist_ok=True)
with open("/run/systemd/sessions/lab", "w") as file:
    file.write(f"UID=0\nUSER=root\nACTIVE=1\nSTATE=active\nREMOTE=0\nTYPE=tty\nCLASS=user\nTTY={os.ttyname(slave).removeprefix('/dev/')}\nLEADER={os.getpid()}\n")
with open("/run/lab-terminal", "wb", buffering=0) as kept:
    while text := os.read(master, 4096):
        kept.write(text)
"""


@pytest.fixture(scope="module")
def terminal(host, product):
    """Gives what was written to the terminal so far."""
    with host.service("terminal", "python3", "-c", LOGGED_IN):
        kept = lambda: host.get("/run/lab-terminal")  # noqa: E731
        host.wait_for("somebody is logged in", lambda: kept() == b"", 20)

        def urgent(word):
            host.run("logger", "--priority", "user.emerg", word)
            host.wait_for(f"{word} is on the terminal", lambda: word.encode() in kept(), 20)

        urgent("lab-heard")
        yield urgent, kept


def print_inside(product, text):
    product.inside("dan", "python3", "-c", PRINT, input=text.encode(), text=False)


def entries(host, word):
    """What the journal has of it, wherever journald keeps what workspaces say."""
    host.sh("journalctl --sync; journalctl --namespace=code-server-multi --sync 2>/dev/null || true")
    lines = host.sh('journalctl --boot --namespace="*" --output=json --output-fields=MESSAGE,PRIORITY,_SYSTEMD_UNIT --grep "$1" || true', word).splitlines()
    return [json.loads(line) for line in lines]


def test_no_word_of_a_workspace_is_urgent(host, product, terminal):
    """A40. `<0>` in front of a line was taken for how urgent it is, and journald wrote the line to every terminal as it was."""
    urgent, kept = terminal
    print_inside(product, "".join(f"{priority}lab-{number} {STEERS}\n" for number, priority in enumerate(PRIORITIES)))
    host.wait_for("the journal has them", lambda: len(entries(host, "lab-steers")) == len(PRIORITIES), 20)
    # What comes after them has arrived, so they had their time.
    urgent("lab-after")
    assert b"lab-steers" not in kept() and b"\x1b]52" not in kept()
    assert {one["PRIORITY"] for one in entries(host, "lab-steers")} == {"6"}


def test_what_units_of_ours_say_is_not_urgent_either(host, product):
    """A40. Podman, the store's check, a command's carrier: what they say may repeat a name that a workspace chose."""
    units = host.sh("systemctl list-units --all --plain --no-legend 'csm-*.service' 'code-server-multi*.service' | awk '{ print $1 }'").split()
    assert {"csm-dan.service", "csm-alice.service", "code-server-multi.service"} <= set(units)
    assert {unit: host.show(unit, "SyslogLevelPrefix") for unit in units} == dict.fromkeys(units, "no")
    # One that is there for as long as a command.
    sleeper = host.start("csm", "exec", "dan", "--", "sleep", "60")
    try:
        shown = lambda: host.sh("systemctl list-units --plain --no-legend 'csm-dan--exec-*' | awk '{ print $1 }'").split()  # noqa: E731
        host.wait_for("the command's unit", lambda: len(shown()) == 1, 20)
        assert host.show(shown()[0], "SyslogLevelPrefix") == "no"
    finally:
        sleeper.terminate()
        sleeper.wait(60)


def test_csm_shows_what_a_workspace_said_as_text(host, product):
    """A40. Logs, status, test and events, on a terminal as in a pipe: no control character but what ends a line."""
    print_inside(product, f"<0>{STEERS}\rlab-shown\x9b2J\n")
    host.wait_for("the log has it", lambda: "lab-shown" in product.csm("logs", "dan", "-n", "50").stdout, 20)
    for verb in (("logs", "dan"), ("status", "dan"), ("status",), ("test", "dan"), ("events",), ("top", "--once"), ("plan",)):
        # script(1) gives it a terminal.
        for argv in (["csm", *verb], ["script", "--quiet", "--return", "--command", f"csm {' '.join(verb)}", "/dev/null"]):
            shown = host.run(*argv, check=False, text=False).stdout.replace(b"\r\n", b"\n")
            assert b"\x1b]" not in shown and b"\x1b[2J" not in shown and b"\x9b" not in shown.decode().encode("latin-1", "replace"), (argv, shown)
            assert b"\r" not in shown, (argv, shown)
