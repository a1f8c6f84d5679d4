"""Disposable hosts. The drivers are ../bin/ns and ../bin/vm; this gives them a shape that stories can use."""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

from . import env, pace, wait


# How much longer an emulated processor takes, which pace.clock() can't see.
EMULATED = 4


class Failed(AssertionError):
    """A command in a host that ended otherwise than it should have."""

    def __init__(self, argv, done):
        self.done = done
        super().__init__(
            f"exit {done.returncode}: {shlex.join(map(str, argv))[:2000]}\n--- stdout\n{_text(done.stdout)}--- stderr\n{_text(done.stderr)}"
        )


def _text(output):
    return output.decode(errors="replace") if isinstance(output, bytes) else (output or "")


class Host:
    """One host. `store` is a filled image store that it gets at boot, `layer` the installed product: for `ns` as it was before
    its first start (layer.py), for `vm` with everything running (snapshot.py)."""

    def __init__(self, name, kind="ns", store=None, layer=None):
        self.kind = kind
        self.store = store
        self.layer = layer
        self.name = f"{env.RUN}-{re.sub('[^a-z0-9]+', '-', name)}"
        self.driver = env.LAB / "bin" / kind
        self.directory = env.CACHE / kind / self.name

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, *_):
        self.down()

    def up(self):
        self._up("up")

    def _up(self, verb):
        try:
            self._drive(verb, self.name, *filter(None, (self.store, self.layer)), timeout=300)
        except BaseException:
            self.down()
            raise

    def down(self):
        self._drive("down", self.name, timeout=60)

    def halt(self):
        """`ns` only. Shuts it down in good order; its files stay until `down`."""
        self.run("systemctl", "poweroff", check=False)
        wait.until("it has shut down", lambda: self.run("true", check=False).returncode, 60)
        self._drive("halt", self.name, timeout=60)

    def _drive(self, *argv, timeout):
        argv = [self.driver, *map(str, argv)]
        done = subprocess.run(argv, capture_output=True, timeout=timeout / pace.SLOWEST, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Failed(argv, done)
        return done.stdout.strip()

    @property
    def address(self):
        """Where its port 443 is: (address, port)."""
        if self.kind == "vm":
            return "127.0.0.1", int((self.directory / "port").read_text())
        return (self.directory / "ip").read_text().strip(), 443

    def argv(self, *argv):
        enter = [self.driver, "run", self.name, "--"] if self.kind == "vm" else [env.LAB / "bin" / "enter", self.directory]
        return [*map(str, enter), *map(str, argv)]

    def run(self, *argv, check=True, timeout=60, input=None, text=True):
        """Runs a command as root. `check` may be a number: the exit code to insist on. A timeout is for what hangs; what is
        promised in seconds is measured with pace.clock()."""
        stdin = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        options = {"capture_output": True, "text": text, "errors": "replace" if text else None} | stdin
        done = subprocess.run(self.argv(*argv), timeout=timeout / pace.SLOWEST, **options)
        wanted = 0 if check is True else check
        if check is not False and done.returncode != wanted:
            raise Failed(argv, done)
        return done

    def sh(self, script, *arguments, **options):
        """Runs a bash script, which stops at the first error, and returns what it printed."""
        return self.run("bash", "-euo", "pipefail", "-c", script, "lab", *arguments, **options).stdout.strip()

    def start(self, *argv, **options):
        """Starts a command without waiting for it. The caller ends it."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
        return subprocess.Popen(self.argv(*argv), **options)

    @contextlib.contextmanager
    def service(self, name, *argv):
        """Something that runs in the host for as long as the block does, under systemd."""
        unit = f"lab-{name}.service"
        self.run("systemd-run", "--quiet", "--collect", f"--unit={unit}", *argv)
        try:
            yield unit
        finally:
            self.run("systemctl", "stop", unit, check=False)

    def put(self, path, content, mode=0o644, owner="root:root"):
        """Writes a file: text, bytes, or a local Path."""
        if isinstance(content, Path):
            content = content.read_bytes()
        if isinstance(content, str):
            content = content.encode()
        temporary = f"{path}.lab-new"
        script = 'mkdir -p "$(dirname "$1")"; cat >"$2"; chmod "$3" "$2"; chown "$4" "$2"; mv -f "$2" "$1"'
        self.sh(script, path, temporary, f"{mode:o}", owner, input=content, text=False)

    def put_all(self, files):
        """Writes many at once: {path: content} or {path: (content, mode, owner)}, content as `put` takes it."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path, file in files.items():
                content, mode, owner = file if isinstance(file, tuple) else (file, 0o644, "root:root")
                content = content.read_bytes() if isinstance(content, Path) else content.encode() if isinstance(content, str) else content
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.size, entry.mode, entry.mtime = len(content), mode, int(time.time())
                entry.uname, entry.gname = owner.split(":")
                tar.addfile(entry, io.BytesIO(content))
        self.run("tar", "-C", "/", "-x", input=packed.getvalue(), text=False)

    def put_tree(self, local, path):
        """Copies a local directory's files to `path`, owned by root."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(local, arcname=".", filter=_as_root)
        self.sh('mkdir -p "$1"; tar -C "$1" -x', path, input=packed.getvalue(), text=False)

    def get(self, path):
        return self.run("cat", path, text=False).stdout

    def journal(self, unit=None, *options):
        return self.run("journalctl", "--no-pager", "--boot", *(["--unit", unit] if unit else []), *options).stdout

    def show(self, unit, name):
        """One property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()

    def wait_for(self, what, condition, deadline=30, every=0.05):
        """In seconds of a machine like this one; an emulated one has more of them, and is asked less often."""
        if self.kind == "vm":
            return wait.until(what, condition, EMULATED * deadline, max(0.5, EMULATED * every))
        return wait.until(what, condition, deadline, every)

    def reboot(self):
        """`vm` only."""
        before = self._boot_id()
        self.run("systemctl", "reboot", check=False)
        wait.until("another boot id", lambda: self._boot_id() != before, 180, 1)
        wait.until("the host is up again", self._is_up, 180, 1)

    def cut_power(self):
        """`vm` only. In the very moment; what was not written out by then is lost. Gives back when the host is up again."""
        self._drive("cut", self.name, timeout=300)

    def _boot_id(self):
        return self.sh("cat /proc/sys/kernel/random/boot_id", timeout=20)

    def _is_up(self):
        return self.run("systemctl", "is-system-running", "--wait", check=False, timeout=120).stdout.strip() in ("running", "degraded")

    def collect(self, directory):
        """What one wants to see after a failure. Never raises: it runs when something is broken already."""
        directory.mkdir(parents=True, exist_ok=True)
        wanted = {
            "journal.txt": "journalctl --namespace='*' --no-pager --boot -o short-precise",
            "status.json": "csm status --json",
            "units.txt": "systemctl list-units --all --no-pager 'csm*' 'code-server-multi*' 'nginx*' 'run-code*'; systemctl --failed --no-pager",
            "nginx.txt": "tail -n 300 /var/log/nginx/*.log; head -n 200 /var/lib/code-server-multi/nginx/current/*.conf",
            "processes.txt": "ps -eo user:20,pid,ppid,stat,etime,rss,args --forest",
            "mounts.txt": "cat /proc/self/mountinfo; ls -laR /run/code-server-multi",
        }
        for name, script in wanted.items():
            try:
                done = self.run("timeout", "20", "bash", "-c", script, check=False, timeout=40)
                (directory / name).write_text(done.stdout + done.stderr)
            except Exception as error:
                (directory / name).write_text(f"not collected: {error}\n")
        if (self.directory / "console").exists():
            shutil.copy(self.directory / "console", directory / "console.txt")


def _as_root(entry):
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def of_runs_that_died():
    """Takes down hosts whose run, or filling of a store, was killed before it could: their names say which process that was."""
    for kind in ("ns", "vm"):
        for place in (env.CACHE / kind).glob("*"):
            found = re.match(r"(?:r|fill-)(\d+x\d+)(?:-|$)", place.name)
            if found and not env.is_alive(found[1]):
                subprocess.run([env.LAB / "bin" / kind, "down", place.name], check=False)


def left_behind():
    """What is still there of this run, in words. Empty is right."""
    found = []
    for kind in ("ns", "vm"):
        found += [f"host {place}" for place in (env.CACHE / kind).glob(f"{env.RUN}-*")]
    mounts = Path("/proc/self/mountinfo").read_text()
    found += [f"mount: {line}" for line in mounts.splitlines() if f"/{env.RUN}-" in line]
    for line in mounts.splitlines():
        fields = line.split()
        if " - cgroup2 " in line:
            found += [f"cgroup {place}" for place in Path(fields[4]).glob(f"csm-lab-{env.RUN}-*")]
    found += [f"socket {place}" for place in Path("/run").glob(f"csm-lab-{env.RUN}-*")]
    for alias in Path("/sys/class/net").glob("csm-lab-*/ifalias"):
        if alias.read_text().startswith(f"{env.RUN}-"):
            found.append(f"link {alias.parent.name}")
    return found + [f"process {line}" for line in _processes()]


def _processes():
    """Also those of workers, for the process that they belong to; itself and the workers began before they had names."""
    mark = re.compile(rf"(?:^|\0){env.MARK}={env.RUN}(?:-gw\d+)?\0".encode())
    ours = _with_parents(os.getpid())
    for place in Path("/proc").iterdir():
        if not place.name.isdigit() or int(place.name) in ours:
            continue
        try:
            if mark.search((place / "environ").read_bytes()):
                command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if command:  # a zombie has none
                    yield f"{place.name} {command[:200]}"
        except OSError:
            continue


def _with_parents(pid):
    seen = set()
    while pid > 1:
        seen.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return seen
