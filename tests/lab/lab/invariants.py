"""What holds after every fault, whatever it was. The numbers are those of the fault suite's promises: I1 desired and
actual agree, I2 one container each, I3 nobody at work is stopped, I5 homes are left alone, I6 secrets are where they
belong, I7 nobody waits for somebody else's fault, I8 every refusal has its reason, I9 a restart changes nothing, however
often. I4, that idle ones are stopped in time, comes with idling."""

import json
import tomllib

from . import pace
from .bystanders import MOST_DELAY, Bystanders
from .canaries import search
from .product import DAEMON

KEY = "canary-key-Tw5YdK63"
KEY_FILE = "/etc/lab/secrets/canary"
# Where sam's key belongs: in sam's editor, and in the file that it is handed over in, 0400 on tmpfs.
ALLOWED = {"inside-sam-environ", "run /run/code-server-multi/secrets/sam/LAB_KEY"}
HOMES = "/var/lib/vscode"
INTENTS = "/var/lib/code-server-multi/intent"

# What a person has: hidden, empty, odd names and modes, links that lead nowhere.
PLANT = """
for name; do
  for part in workspace home; do
    tree=/var/lib/vscode/$name/$part/planted
    mkdir -p "$tree/.hidden/deep" "$tree/empty dir"
    echo "mine, $name" >"$tree/.hidden/deep/file"
    : >"$tree/empty"; printf 'x%.0s' {1..5000} >"$tree/five thousand"; chmod 0400 "$tree/empty"; chmod 0751 "$tree/.hidden"
    ln -sfn ../../nowhere "$tree/link"; ln -f "$tree/five thousand" "$tree/hard link"
    chown -hR "csm-$name:" "$tree"
    find "$tree" -depth -exec touch -h -d '2021-03-04 05:06:07.89' {} +
  done
done
"""

MANIFEST = r"""find /var/lib/vscode -path '*/planted*' -printf '%p %y %s %U:%G %m %T@ %l\n' | LC_ALL=C sort"""

# Containers by the unit that they are in.
RUNNING = r"""
for name; do
  echo "$name $(find "/sys/fs/cgroup/csm.slice/csm-$name.service" -maxdepth 1 -type d -name 'libpod-payload*' 2>/dev/null | wc -l)"
done
"""


def plant_canary(product):
    """For CONFIGURE: a key that sam's editor gets, and nobody else may see."""
    product.host.put(KEY_FILE, KEY + "\n", 0o600)
    product.config["workspaces"]["sam"]["secret_environment"] = {"LAB_KEY": KEY_FILE}


class Invariants:
    """Made before the first fault. Sam may come and go; everybody else is at work all the time, and waits by that clock."""

    def __init__(self, host, product, clock=pace.clock):
        self.host, self.product = host, product
        host.sh(PLANT, *product.people)
        self._homes = host.sh(MANIFEST)
        assert len(self._homes.splitlines()) >= 10 * len(product.people), self._homes
        self.bystanders = Bystanders(product, *(name for name in product.config["workspaces"] if name != "sam"), clock=clock)

    def close(self):
        self.bystanders.close()

    def check(self, within=5, refused=(), most_delay=MOST_DELAY):
        """After each fault. `within`: seconds until all is as desired again; `refused`: who may not be, for a reason."""
        self.quick(within, refused, most_delay)
        self.no_secret_is_told()
        self.restarting_changes_nothing()

    def quick(self, within=5, refused=(), most_delay=MOST_DELAY):
        """What is looked at in no time; for stories of many faults."""
        self.is_as_desired(within, refused)
        self.bystanders.check(most_delay)
        self.one_container_each()
        self.homes_are_left_alone()
        self.refusals_have_reasons(refused)

    def is_as_desired(self, within, refused=()):
        """I1, by the daemon's word and by looking at systemd past it."""
        self.host.wait_for("everything is as desired", lambda: self._is_as_desired(refused), within)

    def _is_as_desired(self, refused):
        status = self.product.status()
        assert not status["degraded"], status["degraded"]
        units = [one["unit"] for one in status["workspaces"]]
        states = self.host.run("systemctl", "show", "--property", "ActiveState", "--value", *units).stdout.split()
        for one, state in zip(status["workspaces"], states, strict=True):
            if one["name"] in refused:
                continue
            right = ("ready",) if one["intent"]["running"] else ("stopped", "disabled")
            assert one["state"] in right and not one["busy"], one
            active = state == "active"
            assert active == (one["state"] == "ready"), f"{one['name']} is {one['state']}; its unit is active: {active}"
        plan = self.product.plan()
        left = {name: steps for name, steps in plan["workspaces"].items() if steps and name not in refused}
        assert not left and not plan["host"], plan
        return True

    def one_container_each(self):
        """I2: never two, and nothing of anybody's outside their own unit."""
        for line in self.host.sh(RUNNING, *self.product.people).splitlines():
            name, containers = line.split()
            assert int(containers) <= 1, f"{name} has {containers} containers"
        for name, strays in self.product.strays(*self.product.people).items():
            assert not strays, f"{name} has processes outside its units: {strays}"

    def homes_are_left_alone(self):
        """I5: names, kinds, sizes, owners, modes, times and targets of what people have."""
        assert self.host.sh(MANIFEST) == self._homes

    def no_secret_is_told(self):
        """I6"""
        self.host.sh("journalctl --sync")
        found = search(self.host, KEY, *self.product.passwords.values())
        assert not [(word, place) for word, place in found if (word, place) not in {(KEY, allowed) for allowed in ALLOWED}]

    def refusals_have_reasons(self, refused=()):
        """I8: whoever is not served, and whatever else is amiss, with a code, words and a way out; in the journal too."""
        status = self.product.status()
        amiss = [*status["degraded"]]
        for one in status["workspaces"]:
            if one["state"] in ("failed", "blocked"):
                assert one["name"] in refused, one
                assert one["findings"], f"{one['name']} is {one['state']} and nobody says why"
                amiss += one["findings"]
        amiss += [one["finding"] for one in (status["image"], status["nginx"]) if one.get("finding")]
        assert all(one["code"] and one["message"] and one["remediation"] for one in amiss), amiss
        codes = {one["code"] for one in amiss}
        if codes:
            assert not codes - self.journal_codes(), f"the journal lacks {codes - self.journal_codes()}"

    def journal_codes(self):
        """Of log messages and of events."""
        lines = self.host.journal(DAEMON, "--output=json", "--output-fields=F_CODE,CSM_CODE").splitlines()
        return {json.loads(line).get(field) for line in lines for field in ("F_CODE", "CSM_CODE")}

    def restarting_changes_nothing(self):
        """I9: the daemon is restarted twice; nobody is started or stopped for it, and nothing is left to do."""
        before = self.product.main_pids()
        for _ in range(2):
            self.host.sh('systemctl restart "$1"', DAEMON)
            self.host.wait_for("nothing is left to do", lambda: not any(self.product.plan()["workspaces"].values()), 5)
            assert self.product.main_pids() == before

    def intents_are_whole(self):
        """No half file, whenever the daemon was killed."""
        for name in self.host.sh('cd "$1"; ls', INTENTS).split():
            intent = tomllib.loads(self.host.get(f"{INTENTS}/{name}").decode())
            assert isinstance(intent["running"], bool), (name, intent)
