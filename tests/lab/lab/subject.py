"""The workspace that things are done to, and how one sees that they came about."""

import contextlib
import json
import tomllib

from .meanwhile import under_way

# What it is to do after each of these, until told otherwise.
RUNS = {"start": True, "stop": False, "restart": True, "change": True}


class Subject:
    def __init__(self, host, product, name="sam"):
        self.host, self.product, self.name, self.greetings = host, product, name, 0

    def csm(self, *argv):
        """Its exit code: killed in the middle, the daemon may or may not have answered."""
        return self.product.csm(*argv, check=False, timeout=60).returncode

    def stop(self):
        return self.csm("stop", self.name)

    def start(self):
        return self.csm("start", self.name)

    def restart(self):
        return self.csm("restart", self.name)

    def remove(self):
        del self.product.config["workspaces"][self.name]
        return self.reload()

    def add(self):
        self.product.config["workspaces"][self.name] = self.product.workspace_table(self.name)
        return self.reload()

    def limit(self):
        """Another limit, which is set live."""
        self.greetings += 1
        return self.configure(tasks_max=2000 + self.greetings)

    def change(self):
        """Another environment, and the restart that applies it."""
        self.greetings += 1
        self.configure(environment={"GREETING": str(self.greetings)})
        return self.restart()

    def change_now(self):
        """Another environment that applies itself."""
        self.greetings += 1
        return self.configure(environment={"GREETING": str(self.greetings)}, apply="now")

    def configure(self, **settings):
        self.product.config["workspaces"][self.name] |= settings
        return self.reload()

    def reload(self):
        self.product.write_config()
        return self.csm("reload")

    def again(self, act):
        """The same once more, after the daemon was lost on the way. What the configuration says is in the file already."""
        return self.reload() if act in ("remove", "add") else getattr(self, act)()

    def assert_done(self, act):
        """What an exit code of 0 means, by what is on disk and inside, and not by the daemon's word."""
        if act in RUNS:
            intent = self.intent()
            assert intent and intent["running"] is RUNS[act], f"csm {act} said it was done, and the intent is {intent}"
        if act == "change":
            assert self.greeting() == str(self.greetings), "csm restart said it was done, and the old environment is there"

    def intent(self):
        """As it is on disk; nothing when there is no file."""
        path = f"/var/lib/code-server-multi/intent/{self.name}.toml"
        text = self.host.run("cat", path, check=False).stdout
        return tomllib.loads(text) if text else None

    def state(self):
        return self.product.state(self.name)

    def finding(self, code):
        """What the status says with that code; nothing when it doesn't."""
        found = [one for one in self.product.workspace(self.name)["findings"] if one["code"] == code]
        return found[0] if found else None

    @contextlib.contextmanager
    def followed(self):
        """Gives what gives all statuses so far: also those that are gone before anybody could have asked."""
        kept = "/run/lab-followed"
        script = 'exec curl -sN --unix-socket /run/code-server-multi/admin.sock "http://x/v1/workspaces/$1/follow" >"$2"'
        read = lambda: [json.loads(line) for line in self.host.get(kept).decode().split("\n")[:-1]]  # noqa: E731
        self.host.run("rm", "-f", kept)
        with under_way(self.host, "sh", "-c", script, "lab", self.name, kept):
            self.host.wait_for("the first status", read, 10)
            yield read

    def is_stopped(self):
        return self.state() == "stopped" and self.is_absent()

    def is_ready(self):
        front = f"/run/code-server-multi/front/{self.name}.sock"
        return self.state() == "ready" and self.host.run("curl", "-sf", "--max-time", "10", "--unix-socket", front, "http://x/healthz")

    def is_gone(self):
        names = [one["name"] for one in self.product.status()["workspaces"]]
        return self.name not in names and self.is_absent()

    def is_absent(self):
        return self.host.show(f"csm-{self.name}.service", "LoadState") == "not-found" and not self.host.sh(
            'ls /run/code-server-multi/front | grep -Fx "$1.sock" || true', self.name
        )

    def has_greeting(self):
        return self.is_ready() and self.greeting() == str(self.greetings)

    def greeting(self):
        return self.product.inside(self.name, "printenv", "GREETING", check=False).stdout.strip()

    def pid(self):
        return self.product.main_pids(self.name)[self.name]

    def starts(self):
        """How often its container was started, by PID 1's own account (the id is systemd's of "unit started")."""
        return int(
            self.host.sh(
                "journalctl --sync; journalctl --boot -o cat --output-fields=MESSAGE "
                'MESSAGE_ID=39f53479d3a045ac8e11786248231fbf UNIT="csm-$1.service" | wc -l',
                self.name,
            )
        )
