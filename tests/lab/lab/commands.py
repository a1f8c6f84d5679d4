"""What runs by `csm exec` and `csm shell`: started, found, and gone again."""

from . import pace
from .screen import Screen

KEY = "canary-key-Vw7TdQ53"

# Whatever a command leaves is one of these; dan's own container has a conmon too.
LEFT = r"""
systemctl list-units --all --no-legend --plain 'csm-*--exec-*'
find /sys/fs/cgroup/csm.slice -name 'csm-*--exec-*'
pgrep -a -u csm-dan -x podman || true
pgrep -a -u csm-dan -x conmon | tail -n +2
pgrep -a -x csm | grep exec-when-told || true
pgrep -a -f '[s]leep 4[78]' || true
"""


def configure(product):
    """For CONFIGURE: two people, and a key that dan's editor gets."""
    product.only("dan", "alice")
    product.host.put("/etc/lab/secrets/key", KEY + "\n", 0o600)
    product.config["workspaces"]["dan"]["secret_environment"] = {"LAB_KEY": "/etc/lab/secrets/key"}


def nothing_is_left(host):
    host.wait_for("nothing of a command is left", lambda: host.sh(LEFT) == "", 20)


def run(product, *argv, **options):
    return product.csm("exec", "dan", "--", *argv, check=False, **options)


class Started:
    """A `csm` in the host that is ended by the block's end, if not before."""

    def __init__(self, host, *argv, **options):
        self.host, self.program = host, host.start("csm", *argv, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.host.run("pkill", "-KILL", "-f", "^csm (exec|shell)", check=False)
        self.end()

    def end(self, input=None, deadline=20):
        """Waits until it has ended: what it still printed, and its exit code."""
        out, _ = self.program.communicate(input, timeout=deadline / pace.SLOWEST)
        return out, self.program.returncode


def inner(host, command):
    """The process of a command inside, once it is there."""
    script = 'pgrep -f "^$1\\$" || true'
    return host.wait_for(f"{command} runs", lambda: host.sh(script, command)).splitlines()[0]


def shell(host, *argv, **options):
    return Screen(host.argv("csm", *(argv or ("shell", "dan"))), **options)


def prompt(screen):
    screen.type("PS1='ready''> '\r")
    screen.expect("ready> ")


def kill_daemon(host, product):
    before = product.daemon_pid()
    host.sh('kill -KILL "$1"', str(before))
    host.wait_for("another daemon", lambda: product.daemon_pid() not in (0, before))
    host.wait_for("it answers", lambda: product.csm("version", check=False).returncode == 0)
