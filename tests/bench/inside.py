"""Runs in the host, with nothing but its Python: what has to be measured close to what it measures. Prints JSON."""

import json
import os
import socket
import subprocess
import sys
import time


def show(unit, *names):
    asked = subprocess.run(
        ["systemctl", "show", "--property", ",".join(names), unit], capture_output=True, text=True, check=True
    )
    return dict(line.split("=", 1) for line in asked.stdout.splitlines())


# --- starts


def start(name, rounds, warm_up):
    """The same container alternately through csm and as a unit typed by hand."""
    by_hand = ["systemd-run", "--quiet", f"--unit=hand-{name}.service", "--expand-environment=no", *as_typed(name)]
    csm("stop", name)
    taken = {"csm": [], "hand": []}
    for number in range(warm_up + rounds):
        for kind in ("csm", "hand") if number % 2 == 0 else ("hand", "csm"):
            if kind == "csm":
                times = one_start(["csm", "start", name], f"csm-{name}.service", name)
                csm("stop", name)
            else:
                times = one_start(by_hand, f"hand-{name}.service", name)
                subprocess.run(["systemctl", "stop", f"hand-{name}.service"], check=True)
                # What it leaves would cost the next start through csm a fresh runtime directory.
                if os.path.lexists(editor_socket(name)):
                    os.unlink(editor_socket(name))
            if number >= warm_up:
                taken[kind].append(times)
    csm("start", name)
    return taken


def as_typed(name):
    """Properties and command of the running workspace's unit, for systemd-run. Not the description, so that the daemon
    does not take it for its own."""
    unit = f"csm-{name}.service"
    argv = []
    with open(f"/run/systemd/transient/{unit}") as file:
        for line in file:
            key, _, value = line.strip().partition("=")
            if value and key not in ("Description", "ExecStart") and not line.startswith("#"):
                # systemd-run takes one level of escapes away from names of units (\\x2d), as from anything quoted.
                value = value.replace("\\", "\\\\")
                argv.append(f"--property={key}={value}")
    path = subprocess.run(
        ["busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]
        + ["GetUnit", "s", unit, "--json=short"],
        capture_output=True, text=True, check=True,
    )
    command = subprocess.run(
        ["busctl", "get-property", "org.freedesktop.systemd1", json.loads(path.stdout)["data"][0]]
        + ["org.freedesktop.systemd1.Service", "ExecStart", "--json=short"],
        capture_output=True, text=True, check=True,
    )
    return argv + ["--"] + json.loads(command.stdout)["data"][0][1]


def one_start(argv, unit, name):
    """Milliseconds from the command's start: until systemd begins with the unit, it is active, /healthz answers 200, and
    the command returns."""
    begun = time.monotonic()
    running = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    answered = returned = None
    while answered is None or returned is None:
        if answered is None and answers(editor_socket(name)):
            answered = time.monotonic()
        if returned is None and running.poll() is not None:
            returned = time.monotonic()
            if running.returncode:
                sys.exit(f"{argv[:3]}: exit {running.returncode}: {running.stderr.read().decode()}")
        if time.monotonic() - begun > 60:
            sys.exit(f"{argv[:3]}: no answer from the editor within a minute")
        time.sleep(0.001)
    # systemd's clock is the same one (CLOCK_MONOTONIC).
    stamps = show(unit, "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    ms = lambda seconds: (seconds - begun) * 1000
    return {
        "begun": ms(int(stamps["InactiveExitTimestampMonotonic"]) / 1e6),
        "active": ms(int(stamps["ActiveEnterTimestampMonotonic"]) / 1e6),
        "healthz": ms(answered),
        "returned": ms(returned),
    }


def editor_socket(name):
    return f"/run/code-server-multi/run/{name}/http.sock"


def answers(path):
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            connection.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200 ")
        except OSError:
            return False


def csm(*argv):
    subprocess.run(["csm", *argv], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# --- processes


def memory(pid):
    """Kilobytes of one process."""
    wanted = {"Rss": "rss", "Pss": "pss", "Anonymous": "anonymous"}
    found = {}
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key in wanted:
                found[wanted[key]] = int(value.split()[0])
    return found


def work(pid):
    """What a process has done since its start."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    total = {"ticks": int(fields[11]) + int(fields[12]), "nanoseconds": 0, "wakeups": 0, "threads": 0}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
            total["nanoseconds"] += int(file.read().split()[0])
        with open(f"/proc/{pid}/task/{thread}/status") as file:
            for line in file:
                if line.startswith("voluntary_ctxt_switches:"):
                    total["wakeups"] += int(line.split()[1])
        total["threads"] += 1
    return total


def idle(seconds, pids):
    """What processes did in that time: CPU by the scheduler's count and by the kernel's ticks, and wake-ups."""
    before = {pid: work(pid) for pid in pids}
    began = time.monotonic()
    time.sleep(seconds)
    after = {pid: work(pid) for pid in pids}
    took = time.monotonic() - began
    return {
        pid: {
            "seconds": took,
            "cpu_ms": (after[pid]["nanoseconds"] - before[pid]["nanoseconds"]) / 1e6,
            "cpu_ticks": after[pid]["ticks"] - before[pid]["ticks"],
            "wakeups": after[pid]["wakeups"] - before[pid]["wakeups"],
            "threads": after[pid]["threads"],
        }
        for pid in pids
    }


def calls(seconds, pids):
    """System calls in that time, by strace."""
    counted = {}
    running = {
        pid: subprocess.Popen(["strace", "-f", "-c", "-U", "calls,name", "-o", f"/tmp/strace.{pid}", "-p", pid], stderr=subprocess.DEVNULL)
        for pid in pids
    }
    time.sleep(seconds)
    for pid, strace in running.items():
        strace.send_signal(2)
        strace.wait()
        with open(f"/tmp/strace.{pid}") as file:
            rows = [line.split() for line in file]
        counted[pid] = {row[1]: int(row[0]) for row in rows if len(row) == 2 and row[0].isdigit() and row[1] != "total"}
    return counted


def processes(unit):
    """Every process of a unit: its memory and what it is."""
    group = "/sys/fs/cgroup" + show(unit, "ControlGroup")["ControlGroup"]
    found = []
    for place, _, files in os.walk(group):
        if "cgroup.procs" not in files:
            continue
        with open(f"{place}/cgroup.procs") as file:
            pids = file.read().split()
        for pid in pids:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
            found.append({"command": command, "container": "libpod-payload" in place} | memory(pid))
    return found


def main(verb, *words):
    match verb:
        case "start":
            return start(words[0], int(words[1]), int(words[2]))
        case "idle":
            return idle(float(words[0]), words[1:])
        case "calls":
            return calls(float(words[0]), words[1:])
        case "memory":
            return {pid: memory(pid) for pid in words}
        case "work":
            return {pid: work(pid) for pid in words}
        case "processes":
            return processes(words[0])


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
