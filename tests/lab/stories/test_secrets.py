"""Two canaries, a password and a key: looked for in every place where secrets have been found to leak."""

import pytest

from lab.canaries import search, told

PASSWORD = "canary-password-Zq8RwT41"
KEY = "canary-key-Lm3XvB92"
PLANTED = "canary-planted-Hj6NcP57"
ALLOWED = {"inside-dan-environ", "run /run/code-server-multi/secrets/dan/LAB_KEY"}


def CONFIGURE(product):
    product.only("dan", "alice")
    product.passwords["dan"] = PASSWORD
    product.host.put("/etc/lab/secrets/key", KEY + "\n", 0o600)
    product.config["workspaces"]["dan"]["secret_environment"] = {"LAB_KEY": "/etc/lab/secrets/key"}


@pytest.fixture(scope="module")
def used(host, product):
    """Everything was done with them that people and admins do."""
    with product.visitor("dan") as dan:
        assert dan.get("/healthz").status_code == 200
    with product.client("dan") as stranger, product.client("alice") as mistaken:
        product.sign_in(stranger, password=PASSWORD + "x")
        product.sign_in(mistaken, password=PASSWORD)
        # A browser that asks for the page with the password in the query.
        stranger.get("/_csm/sign-in", params={"password": PASSWORD})
    product.csm("restart", "dan")
    for verb in (("status", "--json"), ("plan",), ("doctor",), ("logs", "dan"), ("test", "dan")):
        done = product.csm(*verb, check=False)
        assert PASSWORD not in done.stdout + done.stderr and KEY not in done.stdout + done.stderr, verb
    # A value where a name is expected, and a file that is none: errors must not repeat secrets.
    right = dict(product.config["workspaces"]["dan"])
    product.config["workspaces"]["dan"]["password_file"] = PASSWORD
    product.write_config()
    product.csm("reload", check=2)
    product.config["workspaces"]["dan"] = right
    product.reload()
    product.wait_ready()


def test_the_key_arrives_where_it_should(host, product, used):
    environments = [host.get(f"/proc/{pid}/environ").decode() for pid in product.pids("dan")]
    assert any(f"LAB_KEY={KEY}\0" in environment for environment in environments)
    assert host.sh("stat -c '%a' /run/code-server-multi/secrets/dan/LAB_KEY") == "400"
    assert host.sh("stat -f -c %T /run/code-server-multi/secrets/dan") == "tmpfs"
    assert host.get("/run/code-server-multi/secrets/dan/LAB_KEY").decode().strip() == KEY
    # Its neighbour's account can't read it.
    host.run("setpriv", "--reuid", "csm-alice", "--regid", "csm-alice", "--init-groups", "cat", "/run/code-server-multi/secrets/dan/LAB_KEY", check=1)


def test_the_search_finds_what_is_there(host, product):
    """Planted in one place of each kind: so what the next story doesn't find isn't there."""
    host.run("systemd-run", "--quiet", "--property=Type=exec", "--unit=lab-planted", f"--setenv=PLANTED={PLANTED}", "sleep", "infinity")
    host.sh('logger "$1"', PLANTED)
    planted = [
        "/var/lib/code-server-multi/accounts/dan/planted",
        "/var/lib/code-server-multi/nginx/planted",
        "/var/lib/code-server-multi/intent/planted",
        "/var/lib/systemd/coredump/planted",
        "/run/code-server-multi/planted",
        "/var/lib/vscode/dan/home/planted",
    ]
    for path in planted:
        host.put(path, PLANTED)
    # And in a neighbour's workspace. It comes on standard input, since a command line would show it too.
    hold = "read -r PLANTED; export PLANTED; exec -a lab-planted sleep infinity </dev/null >/dev/null 2>&1 &"
    product.inside("alice", "bash", "-c", hold, input=PLANTED + "\n")
    host.wait_for("it has it", lambda: product.inside("alice", "pgrep", "-f", "^lab-planted"), 10)
    host.sh("journalctl --sync")
    found = search(host, PLANTED)
    places = {place.split()[0] for _, place in found}
    assert places == {"journal", "units", "process-environ", "inside-alice-environ", "podman", "nginx", "state", "core", "run", "home"}, found
    product.inside("alice", "pkill", "-f", "lab-planted")
    host.sh('systemctl stop lab-planted; rm "$@"', *planted)


# In a container of alice's beside her own, a unit's environment, a command line, and a file that anybody reads.
PLANT = r"""
name=alice; state=/var/lib/code-server-multi; cd /
podman() { setpriv --reuid csm-$name --regid csm-$name --init-groups env -i PATH="$PATH" HOME="$state/accounts/$name" XDG_RUNTIME_DIR="/run/csm-$name" CONTAINERS_CONF="$state/podman/$name/containers.conf" CONTAINERS_STORAGE_CONF="$state/podman/$name/storage.conf" podman --cgroup-manager=cgroupfs "$@"; }
if [ "$1" = away ]; then podman rm lab-planted >/dev/null; systemctl stop lab-planted; rm /srv/lab-planted; exit; fi
podman create --name lab-planted --env PLANTED="$1" "$(podman images --quiet | head -n 1)" true >/dev/null
systemd-run --quiet --property=Type=exec --unit=lab-planted --setenv=PLANTED="$1" sh -c 'sleep infinity; : "$1"' lab "$1"
echo "$1" >/srv/lab-planted; chmod 0644 /srv/lab-planted
"""


def test_neither_is_told_by_podman_or_to_anybody(host, product, used):
    """What `podman inspect` shows, and what an account that is nobody's finds on this host. Planted first in one place of each."""
    host.sh(PLANT, PLANTED)
    try:
        places = {place.split()[0] for _, place in told(host, PLANTED)}
        assert places == {"inspect-alice", "told-units", "told-processes", "told-file"}, places
    finally:
        host.sh(PLANT, "away")
    assert told(host, PLANTED, PASSWORD, KEY) == []


def test_neither_is_found_anywhere(host, product, used):
    """But the key where the daemon hands it over, 0400 on tmpfs (see above), and in the editor that it is for."""
    host.sh("journalctl --sync")
    found = [(word, place) for word, place in search(host, PASSWORD, KEY) if (word, place) not in {(KEY, allowed) for allowed in ALLOWED}]
    # The name of a missing file is no secret; it was put there as one, above.
    assert not found


# Files since "$1" that are cores (ELF's type 4, elf(5)), whatever their names. A core lies where its process was, which
# for what runs in a container is in its home or below its account.
CORES = r"""
import os, sys
since = os.stat(sys.argv[1]).st_mtime_ns
for directory, below, names in os.walk("/"):
    if directory == "/":
        below[:] = [name for name in below if name not in ("proc", "sys", "dev")]
    for name in names:
        path = os.path.join(directory, name)
        try:
            if os.path.isfile(path) and not os.path.islink(path) and os.stat(path).st_mtime_ns >= since:
                with open(path, "rb") as file:
                    head = file.read(18)
                if head[:4] == b"\x7fELF" and head[16:18] == b"\4\0":
                    print(path)
        except FileNotFoundError:
            continue
"""


def test_a_crash_writes_no_core(host, product, used):
    """Whatever the kernel is told to do with cores, these processes leave none."""
    since = "/etc/lab/before-the-crash"
    host.sh('touch "$1"', since)
    planted = "/var/lib/vscode/dan/home/planted"
    host.put(planted, b"\x7fELF\2\1\1" + bytes(9) + b"\4\0" + bytes(100))
    cores = lambda: host.run("python3", "-c", CORES, since, timeout=120).stdout.split()  # noqa: E731
    assert cores() == [planted], "the search itself"
    host.sh('rm "$1"', planted)

    services = ["code-server-multi.service", "code-server-multi-gateway.service", "csm-dan.service"]
    for unit in services:
        assert host.show(unit, "LimitCORE") == "1" and host.show(unit, "LimitCORESoft") == "1", unit
    with product.visitor("dan"):
        pass  # so that the gateway runs, and has seen the password
    main = lambda unit: host.show(unit, "MainPID")  # noqa: E731
    # Of the workspace, the editor too: it has the key.
    editor = lambda _: str(max(product.pids("dan") & set(map(int, host.sh("pgrep -f 'code-server.*--socket'").split()))))  # noqa: E731
    for unit, victim in [*((unit, main) for unit in services), ("csm-dan.service", editor)]:
        before, pid = main(unit), victim(unit)
        assert "1                    1" in host.sh('grep "Max core file size" "/proc/$1/limits"', pid), unit
        host.sh('kill -ABRT "$1"', pid)
        host.wait_for(f"{unit} is another process", lambda unit=unit, before=before: main(unit) not in ("0", before), 20)
        product.wait_ready()
    assert cores() == []


def test_what_rotates_is_noticed_without_its_value_being_told(host, product, used):
    host.put("/etc/lab/secrets/key", KEY + "-next\n", 0o600)
    product.csm("restart", "dan")
    assert product.inside("dan", "cat", "/run/csm/secrets/LAB_KEY").stdout.strip() == KEY + "-next"
    host.sh("journalctl --sync")
    assert not [place for _, place in search(host, KEY) if place not in ALLOWED]
