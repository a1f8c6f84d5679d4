"""Runs in the host: one start from nothing, and which process began when. Times are milliseconds after `csm start`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from inside import as_typed, csm, editor_socket, one_start, show

STORE = "/var/lib/code-server-multi/images/store"
# What a start reads beside the image.
PROGRAMS = ("podman", "conmon", "crun", "pasta", "newuidmap", "newgidmap", "catatonit")
TICK = os.sysconf("SC_CLK_TCK")


def begin(name, forget):
    """Stops and starts a workspace. With `forget` nothing that a start reads is in memory, as after a boot."""
    csm("stop", name)
    if forget:
        drop_pages()
    begun = time.monotonic()
    found = one_start(["csm", "start", name], f"csm-{name}.service", name)
    return found | processes(f"csm-{name}.service", begun)


def processes(unit, begun):
    """When conmon, the container's first process, the editor and its server began; to 10 ms, the kernel's tick."""
    kinds = {"conmon": "conmon ", "container": "podman-init ", "editor": "code-server --auth", "server": "out/node/entry"}
    group = "/sys/fs/cgroup" + show(unit, "ControlGroup")["ControlGroup"]
    pids = [pid for place, _, files in os.walk(group) if "cgroup.procs" in files for pid in Path(place, "cgroup.procs").read_text().split()]
    found = {}
    for pid in pids:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        for kind, part in kinds.items():
            if part in command and not ("podman-init" in command and kind == "editor"):
                since_boot = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]) / TICK
                found.setdefault(kind, (since_boot - boot_offset() - begun) * 1000)
    return found


def boot_offset():
    """Processes count from boot with the time in which the machine slept, which the monotonic clock leaves out."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


def drop_pages():
    """Of the image's files and of the programs, what no running process holds."""
    os.sync()
    paths = [Path(f"/usr/bin/{name}") for name in PROGRAMS] + [Path("/usr/libexec/podman/catatonit"), Path("/usr/lib/podman/catatonit")]
    for path in paths:
        forget(path)
    for place, _, names in os.walk(STORE):
        for name in names:
            forget(Path(place, name))


def forget(path):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        pass
    finally:
        os.close(fd)


# --- a container that was made beforehand


def prepared(name, rounds, warm_up=1):
    """The same container alternately run in one go, and made beforehand and started."""
    whole = as_typed(name)
    cut = whole.index("--")
    properties, argv = whole[:cut], whole[cut + 1 :]
    run = argv.index("run")
    make = argv[:run] + ["create"] + [word for word in argv[run + 1 :] if word != "--detach"]
    start = argv[:run] + ["start", "workspace"]
    unit = f"hand-{name}"
    typed = lambda *more: ["systemd-run", "--quiet", "--expand-environment=no", *more]
    # Its processes end with it, its files stay.
    once = [one for one in properties if not one.startswith(("--property=Type=", "--property=ExecStop="))]
    csm("stop", name)
    taken = {"in one go": [], "made beforehand": []}
    for number in range(warm_up + rounds):
        for kind in taken if number % 2 == 0 else reversed(taken):
            command = argv
            if kind == "made beforehand":
                done = subprocess.run(
                    typed("--wait", f"--unit={unit}-make.service", "--property=RuntimeDirectoryPreserve=yes", *once, "--", *make),
                    capture_output=True, text=True,
                )
                if done.returncode:
                    sys.exit(f"podman create: {done.stderr}")
                command = start
            times = one_start(typed(f"--unit={unit}.service", *properties, "--", *command), f"{unit}.service", name)
            subprocess.run(["systemctl", "stop", f"{unit}.service"], check=True)
            if os.path.lexists(editor_socket(name)):
                os.unlink(editor_socket(name))
            if number >= warm_up:
                taken[kind].append(times)
    csm("start", name)
    return taken


def main(verb, *words):
    signal.alarm(300)
    match verb:
        case "begin":
            return begin(words[0], words[1] == "forget")
        case "prepared":
            return prepared(words[0], int(words[1]))


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
