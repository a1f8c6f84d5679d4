"""One host for all story files of a run that only look, sign in and work in the editor: those with SHARED = True.

Before the next such file it is made what it was: what people leave who use the product (sessions, files in homes, processes in
workspaces) is put away. Whatever else is not as it was is the fault of the file that was there last: it fails for it, and the next
one gets a new host."""

import json

from . import env, layer
from .host import Host
from .product import GATEWAY, Product

# What a host is, in lines by their kind; and of each workspace named, what there is of use. A file's content counts where the host is
# configured by it, elsewhere only what is there.
LOOK = r"""
import hashlib, json, os, subprocess, sys
def output(script):
    return subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True).stdout.splitlines()
def files(top, content=True):
    for directory, below, names in os.walk(top):
        for name in (*below, *names):
            path = os.path.join(directory, name)
            try:
                one, said = os.lstat(path), ""
                if os.path.islink(path):
                    said = os.readlink(path)
                elif content and os.path.isfile(path):
                    said = hashlib.sha256(open(path, "rb").read()).hexdigest()
                yield f"{path} {one.st_mode:o} {one.st_uid}:{one.st_gid} {said}"
            except FileNotFoundError:
                continue
def processes():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cgroup") as file:
                group = file.read().split("::")[-1].strip()
            with open(f"/proc/{pid}/cmdline") as file:
                yield group, int(pid), file.read().replace("\0", " ").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
running = list(processes())
units = "lab-* run-* csm* code-server-multi* nginx* dbus*"
host = {
    "files": [*files("/etc"), *files("/usr/local"), *files("/root"), *files("/srv"), *files("/home")],
    # Podman's and systemd's own come and go.
    "temporary files": output("ls -A /tmp /var/tmp | grep -v '^systemd-private-\\|^storage-run-\\|^containers-\\|^podman-run-'; ls /dev"),
    "units": output(f"systemctl list-units --all --plain --no-legend {units} | awk '{{ print $1, $2, $3 }}'; systemctl list-units --failed --plain --no-legend"),
    # Of no service: what a story started and left.
    "processes": [line for group, pid, line in running if group == "/" and pid != os.getpid()],
    "services": output("for one in code-server-multi nginx dbus; do systemctl show --property Id,MainPID --value $one; done"),
    "network": output("ip -oneline -brief addr; ip rule; ip route show table all; ss -Hltn | awk '{ print $4 }' | sort; nft list ruleset"),
    "mounts": sorted(line.split()[4] for line in open("/proc/self/mountinfo")),
}
used = {}
for name in sys.argv[1:]:
    group = f"/csm.slice/csm-{name}.service"
    places = f"/var/lib/vscode/{name} /var/lib/code-server-multi/accounts/{name}/storage/overlay/*/diff"
    used[name] = [
        output(f"systemctl show --property MainPID --value csm-{name}"),
        sorted(line for at, _, line in running if at.startswith(group)),
        sorted(output(f"find {places} -printf '%p %y %s %T@\\n'")),
    ]
print(json.dumps([host, used]))
"""

# The document's way to sign everybody out everywhere, while nobody asks; and nginx forgets who asked too often.
SIGN_OUT = """
systemctl stop "$1"
rm -f /var/lib/code-server-multi-gateway/sessions.json
systemctl restart nginx
"""


class Shared:
    """Use as a context manager. `lend` gives the product, `take_back` says what the borrower has changed."""

    def __init__(self, pki, name="shared"):
        self._pki, self._name, self.product = pki, name, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Whoever comes next gets another one."""
        if self.product:
            self.product.host.down()
            self.product = None

    def collect(self, directory):
        if self.product:
            self.product.host.collect(directory)

    def lend(self):
        try:
            return self._lend()
        except BaseException:
            self.collect(env.artifacts() / "shared-unusable")
            self.end()
            raise

    def _lend(self):
        if not self.product:
            host = Host(self._name, store=env.product("STORE"), layer=layer.place())
            host.up()
            self.product = Product(host, self._pki)
            self.product.install()
        else:
            self._put_away()
        self.product.wait_ready()
        self.product.wait_settled()
        # The gateway runs from the first question on.
        with self.product.client("dan") as stranger:
            self.product.host.wait_for("there is a page to sign in", lambda: stranger.get("/_csm/sign-in").status_code == 200, 30)
        self._before, self._traces = self._look()
        return self.product

    def take_back(self, borrower):
        try:
            found = self._changed()
        except Exception as error:
            found = [repr(error)]
        if found:
            self.collect(env.artifacts() / f"{borrower}-left")
            self.end()
            raise AssertionError(f"{borrower} is SHARED, and left the host it shares changed:\n" + "\n".join(found))

    def _look(self):
        product = self.product
        host, used = json.loads(product.host.run("python3", "-c", LOOK, *product.people).stdout)
        host["configuration"] = [json.dumps([product.config, product.passwords, product.people], sort_keys=True)]
        return host, used

    def _changed(self):
        """In words; nothing is right."""
        self.product.wait_ready()
        self.product.wait_settled()
        status = self.product.status()
        found = [f"status: {one}" for one in (*status["degraded"], *status["configuration"]["problems"], status["nginx"].get("finding")) if one]
        for one in status["workspaces"]:
            found += [f"{one['name']}: {what}" for what in (*one["findings"], *one["pending"])]
        now, _ = self._look()
        for kind, lines in self._before.items():
            found += [f"{kind}: no more: {line}" for line in lines if line not in now[kind]]
            found += [f"{kind}: new: {line}" for line in now[kind] if line not in lines]
        return found

    def _put_away(self):
        """Who was used starts again as on a first day; and everybody is signed out."""
        product = self.product
        _, now = self._look()
        used = [name for name in product.people if now[name] != self._traces[name]]
        if used:
            product.csm("stop", *used)
            # The directories themselves are mounted elsewhere.
            product.host.sh('cd /var/lib/vscode; for name; do find "$name" -mindepth 2 -delete; done', *used)
        product.host.sh(SIGN_OUT, GATEWAY)
        if used:
            product.csm("start", *used)
        product.host.wait_for("nothing is said of nginx", lambda: not product.status()["nginx"].get("finding"), 90)
