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

report("journal", output("journalctl", "--boot", "--output=export", "--no-pager"))
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
