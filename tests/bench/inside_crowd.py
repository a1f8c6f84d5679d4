"""Runs in the host: many workspaces that are known and not running, and how long the daemon and nginx take over them."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

from inside import memory, show, work

DAEMON = "code-server-multi.service"
GATEWAY = "code-server-multi-gateway.service"
SYSTEMD = "org.freedesktop.systemd1"
CONFIG = "/etc/code-server-multi/config.toml"
STATE = "/var/lib/code-server-multi"
# Away from the ids of the host's own accounts and ranges.
FIRST_ID = 30_000
FIRST_SUBORDINATE = 100_000_000
IDS = 65_536

# As `csm stop` writes it.
STOPPED = 'running = false\nby = "admin"\nwhy = "csm stop"\nat = "2026-03-01T12:00:00Z"\n'


def crowd(count, pattern):
    """So many people with an account and a password, who have stopped their workspace. What useradd would do in minutes."""
    names = [f"p{number:04}" for number in range(count)]
    there = Path("/etc/passwd").read_text()
    missing = [(number, name) for number, name in enumerate(names) if f"\ncsm-{name}:" not in there]
    append = lambda file, line: Path(file).open("a").write("".join(line(n, name) for n, name in missing))
    append("/etc/passwd", lambda n, name: f"csm-{name}:x:{FIRST_ID + n}:{FIRST_ID + n}::{STATE}/accounts/{name}:/usr/sbin/nologin\n")
    append("/etc/group", lambda n, name: f"csm-{name}:x:{FIRST_ID + n}:\n")
    append("/etc/shadow", lambda n, name: f"csm-{name}:!:20000::::::\n")
    for file in ("/etc/subuid", "/etc/subgid"):
        append(file, lambda n, name: f"csm-{name}:{FIRST_SUBORDINATE + n * IDS}:{IDS}\n")
    string = Path(pattern).read_bytes()
    for name in names:
        Path(f"{STATE}/intent/{name}.toml").write_text(STOPPED)
        # One string for all, so that nothing has to be hashed for it.
        Path(f"{STATE}/passwords/{name}.argon2").write_bytes(string)
    return names


def milliseconds(seconds):
    return seconds * 1000


# --- the daemon


def starts(rounds):
    """From the moment in which the daemon's program begins: until it is ready, and until it has looked at everybody. What
    systemd takes to set up its sandbox comes before that: every mount of the host is looked at for it."""
    sandbox, ready, looked, cpu = [], [], [], []
    for _ in range(rounds):
        subprocess.run(["systemctl", "restart", DAEMON], check=True)
        seen = settled()
        process, program, active = (f"{what}TimestampMonotonic" for what in ("ExecMainStart", "ExecMainHandoff", "ActiveEnter"))
        stamps = show(DAEMON, process, program, active, "MainPID")
        begun = int(stamps[program]) / 1e6
        sandbox.append(milliseconds(begun - int(stamps[process]) / 1e6))
        ready.append(milliseconds(int(stamps[active]) / 1e6 - begun))
        looked.append(milliseconds(seen - begun))
        cpu.append(work(stamps["MainPID"])["nanoseconds"] / 1e6)
    return {"sandbox_ms": sandbox, "ready_ms": ready, "looked_ms": looked, "cpu_ms": cpu}


def settled(deadline=120):
    """When everybody was seen for the first time."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        answer = status()
        if answer and all(one["state"] != "starting" and not one["busy"] for one in answer["workspaces"]):
            return time.monotonic()
        time.sleep(0.005)
    sys.exit("the daemon did not look at everybody")


def status():
    """Without the command line's own cost."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect("/run/code-server-multi/admin.sock")
            connection.sendall(b"GET /v1/workspaces HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            with connection.makefile("rb") as file:
                head, _, body = file.read().partition(b"\r\n\r\n")
        except OSError:
            return None
    return json.loads(body) if head.startswith(b"HTTP/1.1 200 ") else None


def bus(deadline=15):
    """Method calls to systemd by the daemon: when it starts, for a whole look (`csm plan`), and when something happened
    to one workspace; and what the last cost it."""
    found = {}
    with Monitor() as monitor:
        subprocess.run(["systemctl", "restart", DAEMON], check=True)
        settled()
        time.sleep(1)
        found["start"] = monitor.calls()
    with Monitor() as monitor:
        subprocess.run(["csm", "plan"], check=True, stdout=subprocess.DEVNULL)
        found["whole look"] = monitor.calls()
    pid = show(DAEMON, "MainPID")["MainPID"]
    with Monitor() as monitor:
        before = work(pid)["nanoseconds"]
        # A job that changes nothing: that it ended is told, as of any other.
        subprocess.run(["systemctl", "start", "csm-dan.service"], check=True)
        time.sleep(1)
        found["one event"] = monitor.calls()
        found["event_cpu_ms"] = (work(pid)["nanoseconds"] - before) / 1e6
    return found


class Monitor:
    """dbus-daemon's copies of what is asked of systemd."""

    def __enter__(self):
        match = f"type='method_call',destination='{SYSTEMD}'"
        self.output = open("/tmp/bus.json", "w+")
        self.process = subprocess.Popen(
            ["busctl", "monitor", "--json=short", f"--match={match}"], stdout=self.output, stderr=subprocess.DEVNULL
        )
        # It does not say when it has begun.
        ping = ["busctl", "call", SYSTEMD, "/", "org.freedesktop.DBus.Peer", "Ping"]
        wait_until(lambda: not subprocess.run(ping).returncode and self._size(), "a call is seen")
        return self

    def _size(self):
        return os.fstat(self.output.fileno()).st_size

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.output.close()

    def calls(self):
        """How many, by method."""
        time.sleep(0.3)
        names = subprocess.run(["busctl", "list", "--json=short"], capture_output=True, text=True, check=True).stdout
        pid = int(show(DAEMON, "MainPID")["MainPID"])
        own = {one["name"] for one in json.loads(names) if one["pid"] == pid}
        self.output.seek(0)
        counted = {}
        for line in self.output:
            message = json.loads(line)
            if message.get("sender") in own:
                counted[message["member"]] = counted.get(message["member"], 0) + 1
        return counted


def trips(rounds):
    """Milliseconds of whole commands."""
    commands = {
        "csm status": ["csm", "status"],
        "csm status --json": ["csm", "status", "--json"],
        "csm status dan": ["csm", "status", "dan"],
        "csm plan": ["csm", "plan"],
        "csm --version": ["csm", "--version"],
    }
    taken = {what: [] for what in commands}
    for number in range(rounds + 1):
        for what, argv in commands.items():
            begun = time.monotonic()
            subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, close_fds=False)
            if number:
                taken[what].append(milliseconds(time.monotonic() - begun))
    return taken


def services(domain):
    """Memory of both when they were started afresh and left alone. The gateway starts with the first request."""
    for unit in (DAEMON, GATEWAY):
        subprocess.run(["systemctl", "restart", unit], check=True)
    settled()
    wait_until(lambda: answer(f"dan.{domain}") == 401, "the gateway answers")
    time.sleep(10)
    pids = {name: show(unit, "MainPID")["MainPID"] for name, unit in (("daemon", DAEMON), ("gateway", GATEWAY))}
    return {name: memory(pid) for name, pid in pids.items()}


# --- nginx


def nginx(rounds):
    """Memory of its processes, and how long it takes to test and to reload its configuration."""
    test, reload = [], []
    for number in range(rounds + 1):
        for argv, taken in ((["nginx", "-t", "-q"], test), (["systemctl", "reload", "nginx"], reload)):
            begun = time.monotonic()
            subprocess.run(argv, check=True, stderr=subprocess.DEVNULL)
            if number:
                taken.append(milliseconds(time.monotonic() - begun))
        time.sleep(0.3)
    pids = children("nginx.service")
    each = [memory(pid) for pid in pids]
    total = {what: sum(one[what] for one in each) for what in ("rss", "pss", "anonymous")}
    return {"test_ms": test, "reload_ms": reload, "memory": total | {"processes": len(pids)}}


def children(unit):
    """The processes of a unit that do not go away: old workers of nginx do."""
    group = show(unit, "ControlGroup")["ControlGroup"]
    read = lambda: set(Path(f"/sys/fs/cgroup{group}/cgroup.procs").read_text().split())
    pids = read()
    while True:
        time.sleep(0.5)
        later = read()
        if later == pids:
            return sorted(pids)
        pids = later


def one_more(rounds, domain, names):
    """From a configuration with one more workspace until nginx answers for it, by way of `csm reload`. Each round adds
    one that was there before, so that its directories and its password are no part of it."""
    whole = Path(CONFIG).read_text()
    taken = []
    for number in range(rounds):
        name = names[number % len(names)]
        less = without(whole, name)
        replace(less)
        subprocess.run(["csm", "reload"], check=True, stdout=subprocess.DEVNULL)
        wait_until(lambda: answer(f"{name}.{domain}") == 404, f"{name} is unknown to nginx")
        # The workers of the last reload are gone by then.
        time.sleep(0.5)
        begun = time.monotonic()
        replace(whole)
        asked = subprocess.Popen(["csm", "reload"], stdout=subprocess.DEVNULL)
        wait_until(lambda: answer(f"{name}.{domain}") == 401, f"{name} is served")
        taken.append(milliseconds(time.monotonic() - begun))
        asked.wait()
        time.sleep(0.5)
    return taken


def without(text, name):
    left, found = re.subn(rf"^\[workspaces\.{name}\]\n(?:[^\[\n].*\n|\n)*", "", text, flags=re.M)
    assert found == 1, name
    return left


def replace(text):
    Path(f"{CONFIG}.new").write_text(text)
    os.rename(f"{CONFIG}.new", CONFIG)


def wait_until(condition, what, deadline=30):
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"not within {deadline} s: {what}")
        time.sleep(0.001)


# Whether the certificate is right is not what is measured.
TRUSTING = ssl._create_unverified_context()


def answer(name):
    """The status with which nginx answers a visitor without a session."""
    try:
        with socket.create_connection(("127.0.0.1", 443), timeout=5) as plain, TRUSTING.wrap_socket(plain, server_hostname=name) as tls:
            tls.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            return int(tls.recv(64).split()[1])
    except (OSError, IndexError):
        return None


def main(verb, *words):
    signal.alarm(580)
    match verb:
        case "crowd":
            return crowd(int(words[0]), words[1])
        case "starts":
            return starts(int(words[0]))
        case "settled":
            return settled(300)
        case "bus":
            return bus()
        case "trips":
            return trips(int(words[0]))
        case "services":
            return services(words[0])
        case "nginx":
            return nginx(int(words[0]))
        case "one-more":
            return one_more(int(words[0]), words[1], words[2:])


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
