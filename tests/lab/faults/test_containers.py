"""What can happen to sam's container, its storage, its account and its programs: F11 to F14, F18, F22, F30 and F33. OOM
(F14), fork bombs (F15) and a reboot (F17) are in stories/test_limits_vm.py, test_fork_bomb_vm.py and test_reboot_vm.py."""

import json
import re

import pytest

from lab import pace
from lab.invariants import plant_canary
from lab.meanwhile import exit_code, under_way
from lab.product import DAEMON

ACCOUNT = "/var/lib/code-server-multi/accounts/sam"
STORE = f"{ACCOUNT}/storage"
HOME = "/var/lib/vscode/sam"

# As the account, with the configuration that the daemon wrote for it; all of it ends with the unit.
AS_ACCOUNT = """
state=/var/lib/code-server-multi
exec systemd-run --quiet --wait --pipe --collect --unit=csm-sam--lab-1 --property=User=csm-sam --property=RuntimeDirectory=csm-sam \\
  --setenv=HOME="$state/accounts/sam" --setenv=XDG_RUNTIME_DIR=/run/csm-sam \\
  --setenv=CONTAINERS_CONF="$state/podman/sam/containers.conf" \\
  --setenv=CONTAINERS_STORAGE_CONF="$state/podman/sam/storage.conf" podman --cgroup-manager=cgroupfs "$@"
"""


def CONFIGURE(product):
    plant_canary(product)
    product.only("dan", "sam")


def podman(host, *argv, **options):
    return host.run("bash", "-euc", AS_ACCOUNT, "lab", *argv, **options)


# Each spoils the account's store, "$1", and whether Podman makes it good by itself.
DAMAGE = {
    "half of the containers' list": ('truncate -s 100 "$1/overlay-containers/containers.json"', False),
    "half of the layers' list": ('truncate -s 60 "$1/overlay-layers/layers.json"', False),
    "garbage for a database": ('head -c 5000 /dev/urandom >"$1/db.sql"', False),
    "a layer gone": ('rm -r "$1"/overlay/[0-9a-f]*', True),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_f11_a_damaged_store_is_one_accounts_trouble(host, product, invariants, sam, damage):
    how, made_good = DAMAGE[damage]
    assert sam.start() == 0
    # As a power cut leaves it: the container is still in it. Without the daemon, which would start another one at once.
    host.sh("systemctl stop code-server-multi.service; systemctl kill --signal=KILL csm-sam.service")
    host.wait_for("its unit is gone", lambda: host.show("csm-sam.service", "LoadState") == "not-found", 20)
    tries, before = Tries(host), sam.starts()
    host.sh(how, STORE)
    host.sh("systemctl start code-server-multi.service")
    if made_good:
        host.wait_for("it runs all the same", sam.is_ready, 30)
        # One that systemd let fail and that was repeated at once (see assert_pauses) is none.
        assert sam.starts() - before == 1 and not tries.pauses()
    else:
        said = host.wait_for("it says why it does not", lambda: sam.finding("storage-corrupt"), 30)
        invariants.refusals_have_reasons(refused=["sam"])
        invariants.bystanders.check()
        invariants.homes_are_left_alone()
        # No storm: tried again after 1, 2, 4 s and so on, twice each time.
        tries.assert_pauses(1, 2)
        # The command that it names is the way out, as it stands, and the document has the same.
        way_out = said["remediation"].split(": ", 1)[1]
        assert way_out == f"csm stop sam; rm -r {STORE}; csm start sam"
        host.sh(way_out, timeout=60)
        assert sam.is_ready()
    invariants.quick()


def findings(statuses, code):
    return [finding for one in statuses for finding in one["findings"] if finding["code"] == code]


# Starts nothing, takes its time to look, and does all else.
PODMAN = """#!/bin/sh
case " $* " in
  *" system check "*) sleep 60 & wait ;;
  *" run "*) exit 1 ;;
  *) exec /usr/bin/podman.away "$@" ;;
esac
"""


def test_f11_a_check_that_takes_its_time_is_no_damage(host, product, invariants, sam):
    """It was taken for damage when systemd ended it; and it went on in the store after `csm stop`, and took the runtime
    directory from the start that came next."""
    assert sam.stop() == 0
    host.sh("mv /usr/bin/podman /usr/bin/podman.away")
    host.put("/usr/bin/podman", PODMAN, 0o755)
    try:
        with sam.followed() as statuses:
            assert sam.start() == 1
            host.wait_for("it is told", lambda: findings(statuses(), "start-failed"), 10)
        assert not findings(statuses(), "storage-corrupt")
        checks = lambda: host.sh("systemctl list-units --all --plain --no-legend 'csm-sam--check-*'")  # noqa: E731
        host.wait_for("the next try is being looked into", checks, 20)
        assert sam.stop() == 0
        assert not checks() and not product.processes(product.ids("sam"))
        invariants.bystanders.check()
    finally:
        host.sh("mv -f /usr/bin/podman.away /usr/bin/podman")
    assert sam.start() == 0
    invariants.quick()


def test_f12_a_stale_container_of_the_name(host, product, invariants, sam):
    assert sam.stop() == 0
    image = product.config["image"]["name"]
    podman(host, "create", "--name", "workspace", "--pull=never", image, "true")
    assert "workspace" in podman(host, "ps", "--all", "--format", "{{.Names}}").stdout
    assert sam.start() == 0
    invariants.quick()


def test_f13_a_unit_of_the_name_that_failed(host, product, invariants, sam):
    """systemd forgets such units at once when told so, as ours are; one that it kept blocks the name."""
    assert sam.stop() == 0
    host.run("systemd-run", "--quiet", "--unit=csm-sam.service", "--property=CollectMode=inactive", "--property=Type=oneshot", "false", check=False)
    host.wait_for("it failed", lambda: host.show("csm-sam.service", "ActiveState") == "failed", 10)
    assert sam.start() == 0
    invariants.quick()


@pytest.mark.parametrize("victim", ["conmon", "code-server", "process 1", "everything"])
def test_f14_a_part_of_it_is_killed(host, product, invariants, sam, victim):
    """Again within two seconds, and told; a second time after a pause, which the status explains."""
    # An editor that has run for a while is started at once when it ends; one that has just begun waits a little longer.
    host.sh("systemctl restart code-server-multi.service")
    product.wait_ready("sam")
    deaths = lambda: host.sh('journalctl --sync; journalctl --boot --unit "$1"', DAEMON).count("sam: the editor ended by itself")  # noqa: E731
    before, pid = deaths(), sam.pid()
    kill(host, product, sam, victim)
    begun = pace.clock()
    host.wait_for("another one", lambda: sam.pid() not in (0, pid), 10)
    started = pace.clock() - begun
    host.wait_for("it answers", sam.is_ready, 20)
    print(f"{victim} killed: started again after {started:.1f} s, ready after {pace.clock() - begun:.1f} s")
    assert started < 2
    told = [json.loads(line)["kind"] for line in product.csm("events", "sam", "--json").stdout.splitlines()]
    assert told[-2:] == ["starting", "ready"], told
    assert deaths() == before + 1
    with sam.followed() as statuses:
        kill(host, product, sam, victim)
        host.wait_for("the status tells", lambda: "2 times" in str(findings(statuses(), "editor-exited")), 5)
    host.wait_for("it answers", sam.is_ready, 20)
    invariants.quick(within=10)


def kill(host, product, sam, victim):
    if victim == "everything":
        host.run("systemctl", "kill", "--signal=KILL", "csm-sam.service")
        return
    editors = set(map(int, host.sh("pgrep -f 'code-server.*--socket' || true").split()))
    pid = {
        "conmon": sam.pid,
        "code-server": lambda: max(product.pids("sam") & editors),
        "process 1": lambda: container_pid(host),
    }[victim]()
    host.sh('kill -KILL "$1"', str(pid))


def container_pid(host):
    """Its process 1."""
    payload = "/sys/fs/cgroup/csm.slice/csm-sam.service/libpod-payload-*"
    return min(map(int, host.sh(f"cat {payload}/cgroup.procs {payload}/*/cgroup.procs 2>/dev/null || true").split()))


def test_f18_whatever_is_in_the_place_of_a_socket(host, product, invariants, sam):
    """A stale socket, a file, a link: ours to remove in directories that are root's alone. The editor's own too."""
    for make in (
        'python3 -c "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])" "$1"',
        'echo x >"$1"',
        'ln -s /etc/passwd "$1"',
    ):
        host.sh("systemctl stop code-server-multi.service; for s in admin gateway; do rm -f /run/code-server-multi/$s.sock; set -- /run/code-server-multi/$s.sock; " + make + "; done")
        host.sh("systemctl start code-server-multi.service")
        product.wait_ready()
    assert host.sh("head -c 4 /etc/passwd") == "root"
    assert sam.stop() == 0
    host.sh("touch /run/code-server-multi/run/sam/http.sock; ln -s /etc/passwd /run/code-server-multi/front/sam.sock")
    assert sam.start() == 0
    assert sam.is_ready(), "through the link"
    invariants.quick()


def test_f22_a_home_that_is_missing_or_somebody_elses(host, product, invariants, sam):
    assert sam.stop() == 0
    own = host.sh("id -u csm-sam")
    # Another account of the same name, as after a machine was set up anew and the homes were put back.
    host.sh("usermod --uid 7654 csm-sam")
    try:
        assert sam.start() == 1
        said = sam.finding("home-foreign")
        assert said and "chown" in said["remediation"] and sam.state() == "blocked", product.workspace("sam")
        assert host.show("csm-sam.service", "LoadState") == "not-found"
        invariants.refusals_have_reasons(refused=["sam"])
        invariants.homes_are_left_alone()
    finally:
        host.sh('usermod --uid "$1" csm-sam; chown -h csm-sam: /var/lib/code-server-multi/accounts/sam', own)
    host.sh('mv "$1" "$1.away"', HOME)
    assert sam.start() == 0, "a new home is made"
    assert host.sh('ls -A "$1/workspace"', HOME) == ""
    assert sam.stop() == 0
    host.sh('mv "$1" "$1.made"; mv "$1.away" "$1"', HOME)
    assert sam.start() == 0
    assert product.inside("sam", "test", "-d", "/home/coder/project/planted").returncode == 0
    host.sh('rm -r "$1.made"', HOME)
    invariants.quick()


def test_a4_ids_that_are_somebody_elses_too(host, product, invariants, sam):
    """Two accounts with the same subordinate ids would be one and the same inside."""
    assert sam.stop() == 0
    host.sh("cp /etc/subuid /etc/lab/subuid; sed -i \"s/^csm-sam:[0-9]*/csm-sam:$(sed -n 's/^csm-dan:\\([0-9]*\\):.*/\\1/p' /etc/subuid)/\" /etc/subuid")
    try:
        assert sam.start() == 1
        said = sam.finding("subordinate-ids-overlap")
        assert said and "csm-dan" in said["message"] and sam.state() == "blocked", product.workspace("sam")
        assert host.show("csm-sam.service", "LoadState") == "not-found"
        invariants.refusals_have_reasons(refused=["sam", "dan"])
        invariants.bystanders.check()
    finally:
        host.sh("cat /etc/lab/subuid >/etc/subuid")
    assert sam.start() == 0
    invariants.quick()


def test_f22_removed_while_it_starts(host, product, invariants, sam):
    assert sam.stop() == 0
    table = product.config["workspaces"]["sam"]
    with under_way(host, "csm", "start", "sam") as starting:
        host.wait_for("the start is under way", lambda: host.show("csm-sam.service", "ActiveState") != "inactive", 10)
        product.remove("sam")
        try:
            exit_code(starting, 40)
            host.wait_for("it is gone", sam.is_gone, 30)
            invariants.homes_are_left_alone()
        finally:
            product.config["workspaces"]["sam"] = table
            product.reload()
    product.wait_ready("sam")
    invariants.quick()


def test_f30_an_editor_that_ends_at_once(host, product, invariants, sam):
    """With 0 or with 1: tried again after a growing pause, and told."""
    for code in (0, 1):
        sam.configure(environment={"NODE_OPTIONS": f'--import "data:text/javascript,process.exit({code})"'})
        tries = Tries(host)
        assert sam.restart() == 1
        host.wait_for("it is told", lambda: sam.state() == "failed" and (sam.finding("editor-exited") or sam.finding("start-failed")), 20)
        invariants.refusals_have_reasons(refused=["sam"])
        # At once the first time that it ends, whether it was ready by then or not; each in its own growing pauses after that.
        tries.assert_pauses(0, 1, 1, 2)
        invariants.bystanders.check()
        # By hand at once.
        sam.configure(environment={})
        assert sam.restart() == 0
        invariants.quick()


ENDED = re.compile(r"csm-sam\.service: (Failed with result|Deactivated successfully)")
AGAIN = re.compile(r"sam: starting: (it is tried again|its editor ended)")


class Tries:
    """How often sam was tried since this was made, by the journal: it has the moments, on a busy machine too."""

    def __init__(self, host):
        self._host = host
        self._before = len(self._messages())

    def _messages(self):
        """[(seconds of the host, message)] of the daemon and of PID 1."""
        script = 'journalctl --sync; journalctl --output json --output-fields MESSAGE "_SYSTEMD_UNIT=$1" + UNIT=csm-sam.service'
        entries = map(json.loads, self._host.sh(script, DAEMON).splitlines())
        return [(int(one["__MONOTONIC_TIMESTAMP"]) / 1e6, str(one["MESSAGE"])) for one in entries]

    def starts(self):
        """By PID 1."""
        return sum(message.startswith("Starting csm-sam") for _, message in self._messages()[self._before :])

    def pauses(self):
        """Before each further try, since what was tried before it ended."""
        pauses, ended = [], None
        for moment, message in self._messages()[self._before :]:
            if ENDED.match(message):
                ended = moment
            elif ended and AGAIN.match(message):
                pauses.append(moment - ended)
        return pauses

    def assert_pauses(self, *shortest):
        """Of so many further tries, the shortest pauses are at least these."""
        self._host.wait_for("it was tried again, and again", lambda: len(self.pauses()) >= len(shortest), 30)
        # A start that failed is repeated once, since systemd lets one fail now and then that did not.
        starts, pauses = self.starts(), self.pauses()
        assert starts <= 2 * (1 + len(pauses)), (starts, pauses)
        pauses = pauses[: len(shortest)]
        print("pauses:", [round(one, 2) for one in pauses])
        assert all(pause >= 0.9 * least for pause, least in zip(sorted(pauses), shortest)), (pauses, shortest)


@pytest.mark.long
def test_f30_an_editor_that_never_answers(host, product, invariants, sam):
    """It is given three minutes, then it is told, until it answers; nobody waits for it."""
    sam.configure(environment={"NODE_OPTIONS": '--import "data:text/javascript,setInterval(()=>{},1e6);await new Promise(()=>{})"'})
    try:
        with under_way(host, "csm", "restart", "sam") as restarting:
            host.wait_for("it is told", lambda: sam.finding("editor-silent"), 210)
            invariants.refusals_have_reasons(refused=["sam"])
            invariants.bystanders.check()
            assert exit_code(restarting, 20) == 1
    finally:
        sam.configure(environment={})
    assert sam.restart() == 0
    invariants.quick()


@pytest.mark.parametrize("program", ["podman", "crun"])
def test_f33_a_program_is_gone_and_comes_back(host, product, invariants, sam, program):
    """As in the middle of an upgrade."""
    sam.start()
    host.sh('mv "/usr/bin/$1" "/usr/bin/$1.away"', program)
    try:
        invariants.quick()
        sam.stop()
        host.wait_for("it is stopped all the same", lambda: host.show("csm-sam.service", "LoadState") == "not-found", 40)
        assert sam.start() == 1
        said = sam.finding(f"{program}-missing")
        assert said and "install" in said["remediation"], product.workspace("sam")
        invariants.refusals_have_reasons(refused=["sam"])
    finally:
        # Another one in its place, as an upgrade puts it.
        host.sh('cp "/usr/bin/$1.away" "/usr/bin/$1.new"; mv "/usr/bin/$1.new" "/usr/bin/$1"; rm "/usr/bin/$1.away"', program)
    assert sam.start() == 0, "it is tried again at once when somebody asks"
    invariants.quick()


def test_after_all_of_it(invariants):
    invariants.check()
