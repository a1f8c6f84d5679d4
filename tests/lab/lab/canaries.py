"""Looks for words that are secret in every place where secrets have been found to leak."""

# In each place, for each word: prints "word place" for whatever holds it. Words come on standard input, since this
# script's own command line and environment are searched too.
SEARCH = r"""
import contextlib, os, pathlib, re, subprocess, sys
words = sys.stdin.read().split()

def report(place, content):
    for word in words:
        if word.encode() in content:
            print(f"{word} {place}")

def output(*argv):
    return subprocess.run(argv, capture_output=True, check=True).stdout

def kind(pid):
    # In a container it is the workspace's, whose own key may be there, and nobody else's.
    found = re.search(r"/csm-([a-z0-9-]+)\.service/libpod-payload", pathlib.Path(f"/proc/{pid}/cgroup").read_text())
    return f"inside-{found[1]}" if found else "process"

report("journal", output("journalctl", "--namespace=*", "--boot", "--output=export", "--no-pager"))
report("units", output("systemctl", "show", "--all", "--no-pager", "*"))
for pid in filter(str.isdigit, os.listdir("/proc")):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        for what in ("cmdline", "environ"):
            report(f"{kind(pid)}-{what}", pathlib.Path(f"/proc/{pid}/{what}").read_bytes())
TREES = {
    "podman": ["/var/lib/code-server-multi/podman", "/var/lib/code-server-multi/accounts", *map(str, pathlib.Path("/run").glob("csm-*"))],
    "nginx": ["/var/lib/code-server-multi/nginx", "/var/log/nginx", "/run/nginx", "/var/lib/nginx"],
    "state": ["/var/lib/code-server-multi/intent", "/var/lib/code-server-multi/passwords", "/var/lib/code-server-multi-gateway"],
    "run": ["/run/systemd", "/run/code-server-multi", "/tmp", "/var/tmp", "/root"],
    "core": ["/var/lib/systemd/coredump", "/var/crash"],
    "home": ["/var/lib/vscode"],
}
for place, tops in TREES.items():
    for top in tops:
        for directory, below, names in os.walk(top):
            # Shown through mounts: the image store, and homes that are searched where they lie.
            below[:] = [name for name in below if not os.path.ismount(os.path.join(directory, name))]
            for name in names:
                path = os.path.join(directory, name)
                with contextlib.suppress(FileNotFoundError):  # it was there a moment ago
                    if os.path.isfile(path) and not os.path.islink(path):
                        report(f"{place} {path}", pathlib.Path(path).read_bytes())
for path in pathlib.Path("/").glob("core*"):
    if path.is_file():
        report(f"core {path}", path.read_bytes())
"""


def search(host, *words):
    host.put("/etc/lab/search.py", SEARCH)
    found = host.run("python3", "/etc/lab/search.py", input="\n".join(words), timeout=120).stdout.splitlines()
    return [line.split(" ", 1) for line in found]


# What Podman tells of every container of each workspace, and what an account of the host that is nobody's finds out: properties
# and their environment over D-Bus, command lines, the journal, and every file that it can read.
ASK = r"""
import os, pwd, subprocess, sys
words = sys.stdin.read().split()
STATE = "/var/lib/code-server-multi"
STRANGER = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]

def report(place, content):
    for word in words:
        if word.encode() in content:
            print(f"{word} {place}")

def output(*argv, **options):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", **options).stdout

for account in (one.pw_name for one in pwd.getpwall() if one.pw_name.startswith("csm-")):
    name = account.removeprefix("csm-")
    if not os.path.isdir(f"/run/{account}"):
        continue  # it doesn't run
    podman = ["setpriv", "--reuid", account, "--regid", account, "--init-groups", "env", "-i", f"PATH={os.environ['PATH']}",
              f"HOME={STATE}/accounts/{name}", f"XDG_RUNTIME_DIR=/run/{account}", f"CONTAINERS_CONF={STATE}/podman/{name}/containers.conf",
              f"CONTAINERS_STORAGE_CONF={STATE}/podman/{name}/storage.conf", "podman", "--cgroup-manager=cgroupfs"]
    containers = output(*podman, "ps", "--all", "--quiet").decode().split()
    if not containers:
        sys.exit(f"Podman shows no container of {name}")
    report(f"inspect-{name}", output(*podman, "inspect", *containers) + output(*podman, "ps", "--all", "--format=json"))
report("told-units", output(*STRANGER, "systemctl", "show", "--all", "--no-pager", "csm*", "code-server-multi*", "nginx*", "lab*", "run-code*"))
report("told-journal", output(*STRANGER, "journalctl", "--namespace=*", "--boot", "--output=export", "--no-pager"))
report("told-processes", output(*STRANGER, "sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ"))
for word in words:
    found = output(*STRANGER, "grep", "-rlsaFf", "-", "--devices=skip", "/run", "/etc", "/var", "/tmp", "/home", "/root", "/srv", "/dev/shm", input=word.encode())
    for path in found.decode().splitlines():
        print(f"{word} told-file {path}")
"""


def told(host, *words):
    """By Podman, and to anybody."""
    host.put("/etc/lab/told.py", ASK)
    found = host.run("python3", "/etc/lab/told.py", input="\n".join(words), timeout=120).stdout.splitlines()
    return [line.split(" ", 1) for line in found]
