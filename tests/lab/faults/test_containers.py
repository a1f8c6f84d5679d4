"""What can happen to sam's container, its storage, its account and its programs: F11 to F14, F18, F22, F30 and F33. OOM
and fork bombs (F14, F15) are in stories/test_limits_vm.py, a reboot (F17) too."""

import time

import pytest

from lab.invariants import plant_canary

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


def podman(host, *argv, **options):
    return host.run("bash", "-euc", AS_ACCOUNT, "lab", *argv, **options)


# Each spoils the account's store: "$1".
DAMAGE = {
    "half of the containers' list": 'truncate -s 100 "$1/overlay-containers/containers.json"',
    "half of the layers' list": 'truncate -s 60 "$1/overlay-layers/layers.json"',
    "garbage for a database": 'head -c 5000 /dev/urandom >"$1/db.sql"',
    "a layer gone": 'rm -r "$1"/overlay/[0-9a-f]*',
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_f11_a_damaged_store_is_one_accounts_trouble(host, product, invariants, sam, damage):
    sam.start()
    # As a power cut leaves it: the container is still in it.
    host.sh("systemctl kill --signal=KILL csm-sam.service; systemctl stop code-server-multi.service")
    host.wait_for("its unit is gone", lambda: host.show("csm-sam.service", "LoadState") == "not-found", 20)
    host.sh(DAMAGE[damage], STORE)
    host.sh("systemctl start code-server-multi.service")
    begun, starts = time.monotonic(), sam.starts()

    def told():
        return sam.state() == "ready" or sam.finding("storage-corrupt")

    host.wait_for("it runs, or says why it does not", told, 30)
    if sam.state() == "ready":
        print(f"{damage}: Podman made it good")
    else:
        said = sam.finding("storage-corrupt")
        invariants.refusals_have_reasons(refused=["sam"])
        invariants.bystanders.check()
        invariants.homes_are_left_alone()
        # No storm: tried again after 1, 2, 4 s and so on.
        host.wait_for("a while goes by", lambda: time.monotonic() - begun > 8, 10)
        attempts = int(host.sh("journalctl --sync; journalctl -o cat -u csm-sam.service --since=-8s | grep -c 'Starting csm-sam' || true"))
        assert attempts <= 6, f"{attempts} starts in 8 s"
        # The command that it names is the way out, as it stands.
        host.sh(said["remediation"].split(": ", 1)[1], timeout=60)
        assert sam.is_ready()
    assert sam.starts() - starts <= 2
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


@pytest.mark.parametrize("victim", ["conmon", "code-server", "crun", "everything"])
def test_f14_a_part_of_it_is_killed(host, product, invariants, sam, victim):
    """Again within two seconds, and the time that it takes to start."""
    # An editor that has run for a while is started at once when it ends; one that has just begun waits a little longer.
    host.sh("systemctl restart code-server-multi.service")
    product.wait_ready("sam")
    pid = sam.pid()
    if victim == "everything":
        host.run("systemctl", "kill", "--signal=KILL", "csm-sam.service")
    elif victim == "conmon":
        host.sh('kill -KILL "$1"', str(pid))
    elif victim == "code-server":
        host.sh('kill -KILL "$1"', str(max(product.pids("sam") & set(map(int, host.sh("pgrep -f 'code-server.*--socket' || true").split())))))
    else:
        # The container's process 1.
        host.sh('kill -KILL "$1"', str(container_pid(host)))
    begun = time.monotonic()
    host.wait_for("another one", lambda: sam.pid() not in (0, pid), 10)
    started = time.monotonic() - begun
    host.wait_for("it answers", sam.is_ready, 20)
    print(f"{victim} killed: started again after {started:.1f} s, ready after {time.monotonic() - begun:.1f} s")
    assert started < 4
    invariants.quick(within=10)


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


def test_f22_removed_while_it_starts(host, product, invariants, sam):
    assert sam.stop() == 0
    starting = host.start("csm", "start", "sam")
    host.wait_for("the start is under way", lambda: host.show("csm-sam.service", "ActiveState") != "inactive", 10)
    table = product.config["workspaces"]["sam"]
    product.remove("sam")
    starting.communicate(timeout=40)
    host.wait_for("it is gone", sam.is_gone, 30)
    invariants.homes_are_left_alone()
    product.config["workspaces"]["sam"] = table
    product.reload()
    product.wait_ready("sam")
    invariants.quick()


def test_f30_an_editor_that_ends_at_once(host, product, invariants, sam):
    """With 0 or with 1: tried again after a growing pause, and told."""
    for code in (0, 1):
        sam.configure(environment={"NODE_OPTIONS": f'--import "data:text/javascript,process.exit({code})"'})
        begun, before = time.monotonic(), attempts(host)
        assert sam.restart() == 1
        host.wait_for("it is told", lambda: sam.state() == "failed" and (sam.finding("editor-exited") or sam.finding("start-failed")), 20)
        invariants.refusals_have_reasons(refused=["sam"])
        host.wait_for("a while goes by", lambda: time.monotonic() - begun > 8, 10)
        tried = attempts(host) - before
        print(f"an editor that ends with {code} was started {tried} times in {time.monotonic() - begun:.0f} s")
        assert 2 <= tried <= 6
        invariants.bystanders.check()
        # By hand at once.
        sam.configure(environment={})
        assert sam.restart() == 0
        invariants.quick()


def attempts(host):
    return int(host.sh("journalctl --sync; journalctl -o cat UNIT=csm-sam.service | grep -c '^Starting csm-sam' || true"))


@pytest.mark.long
def test_f30_an_editor_that_never_answers(host, product, invariants, sam):
    """It is given a minute, then it is told; nobody waits for it."""
    sam.configure(environment={"NODE_OPTIONS": '--import "data:text/javascript,setInterval(()=>{},1e6);await new Promise(()=>{})"'})
    restarting = host.start("csm", "restart", "sam")
    try:
        host.wait_for("it is told", lambda: sam.finding("editor-silent"), 90)
        invariants.refusals_have_reasons(refused=["sam"])
        invariants.bystanders.check()
        assert restarting.wait(20) == 1
    finally:
        restarting.kill()
        restarting.communicate()
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
