"""No room, no inodes, no writing: on the state, on /run, in a home: F9 (and F2: old or new, never a mix). What runs goes
on, what can't be written is refused and changes nothing, and all is well again once there is room."""

import contextlib

import pytest

from lab.invariants import KEY, KEY_FILE, plant_canary
from lab.product import DAEMON

INTENTS = "/var/lib/code-server-multi/intent"
RUN = "/run/code-server-multi"
NGINX = "/var/lib/code-server-multi/nginx"
SAM = "/var/lib/vscode/sam"


def CONFIGURE(product):
    plant_canary(product)
    product.only("dan", "sam")
    # Small file systems where they can be filled. They are there before anything is installed.
    for place, options in {
        INTENTS: "size=256k,nr_inodes=32,mode=700",
        NGINX: "size=1m,nr_inodes=64,mode=750",
        RUN: "size=4m,nr_inodes=400,mode=711",
        SAM: "size=64m,mode=711",
    }.items():
        product.host.sh('mkdir -p "$1"; mount -t tmpfs -o "$2" lab-small "$1"', place, options)


@contextlib.contextmanager
def full(host, place, of):
    """Not a byte or not an inode is left, or nothing may be written at all."""
    fill, clear = {
        "bytes": ('dd if=/dev/zero of="$1/lab-filler" bs=4k status=none 2>/dev/null || true', 'rm -f "$1/lab-filler"'),
        "inodes": ('mkdir "$1/lab-filler"; for n in {1..500}; do : >"$1/lab-filler/$n" || break; done 2>/dev/null', 'rm -rf "$1/lab-filler"'),
        "read-only": ('mount -o remount,ro "$1"', 'mount -o remount,rw "$1"'),
    }[of]
    host.sh(fill, place)
    try:
        # It is as it should be, or the story shows nothing. (An empty file may take no byte.)
        more = 'head -c 4096 /dev/zero >"$1"' if of == "bytes" else 'touch "$1"'
        host.run("sh", "-c", f"{more} && exit 7 || exit 3", "lab", f"{place}/lab-one-more", check=3)
        host.sh('rm -f "$1" 2>/dev/null || true', f"{place}/lab-one-more")
        yield
    finally:
        host.sh(clear, place)


def listing(host, place):
    return host.sh('cd "$1"; find . -type f -printf "%p %s %T@\\n" | LC_ALL=C sort; cat *.toml', place)


@pytest.mark.parametrize("of", ["bytes", "inodes", "read-only"])
def test_f9_no_room_for_an_intent(host, product, invariants, sam, of):
    sam.start()
    before, pid = listing(host, INTENTS), sam.pid()
    with full(host, INTENTS, of):
        done = product.csm("stop", "sam", check=1)
        why = "Read-only file system" if of == "read-only" else "No space left on device"
        assert f"{INTENTS}/sam.toml: {why}" in done.stderr and "nothing was changed" in done.stderr, done
        # Refused means that nothing was done, and nothing was half done.
        assert sam.state() == "ready" and sam.pid() == pid
        assert product.csm("restart", "sam", check=False).returncode == 1
        assert sam.pid() == pid
        invariants.bystanders.check()
        # Not even a daemon that is started now takes it for anything else. (One that is started on a read-only file
        # system keeps it read-only in its own view, and has to be started once more.)
        if of != "read-only":
            host.sh('systemctl restart "$1"', DAEMON)
            product.wait_ready()
            assert sam.pid() == pid
    after = "\n".join(line for line in listing(host, INTENTS).splitlines() if "lab-" not in line)
    assert after == before
    assert sam.stop() == 0 and sam.is_stopped()
    assert sam.start() == 0
    invariants.quick()


def says_why(sam, product):
    codes = lambda: {one["code"] for one in product.workspace("sam")["findings"]}  # noqa: E731
    return lambda: sam.state() in ("failed", "blocked") and codes() & {"disk-refused", "secret-unusable"}


@pytest.mark.parametrize("of", ["bytes", "inodes"])
def test_f9_no_room_in_run(host, product, invariants, sam, of):
    """Sockets, links, secrets and mount points are there."""
    sam.stop()
    host.put(KEY_FILE, KEY + "\n" + "# " * 2000 + "\n", 0o600)
    with full(host, RUN, of):
        assert sam.csm("start", "sam") == 1
        # Between two tries, of which there are more and more rarely any.
        host.wait_for("it says why", says_why(sam, product), 20)
        invariants.refusals_have_reasons(refused=["sam"])
        invariants.bystanders.check()
    host.wait_for("it mended by itself", sam.is_ready, 30)
    host.put(KEY_FILE, KEY + "\n", 0o600)
    assert sam.restart() == 0
    invariants.quick()


def test_f9_no_room_for_nginx(host, product, invariants, sam, visit):
    before = product.status()["nginx"]["generation"]
    with full(host, NGINX, "bytes"):
        product.remove("sam")
        host.wait_for("status tells", lambda: product.status()["nginx"].get("finding"), 20)
        said = product.status()["nginx"]
        assert said["finding"]["code"] == "nginx-snippets-unwritable" and said["generation"] == before, said
        invariants.refusals_have_reasons()
        invariants.bystanders.check()
    host.wait_for("it mended by itself", lambda: not product.status()["nginx"].get("finding"), 30)
    host.wait_for("sam's vhost is gone", lambda: visit("sam").get("/").status_code == 404, 10)
    product.config["workspaces"]["sam"] = product.workspace_table("sam") | {"secret_environment": {"LAB_KEY": KEY_FILE}}
    product.reload()
    product.wait_ready("sam")
    host.wait_for("sam's vhost is back", lambda: visit("sam").get("/").status_code == 401, 20)
    invariants.quick()


def test_f9_a_home_is_full(host, product, invariants, sam):
    """That is its owner's trouble: the editor goes on, can be stopped and started, and nobody else notices."""
    product.inside_sh("sam", "dd if=/dev/zero of=/home/coder/project/filler bs=64k status=none 2>/dev/null || true")
    assert product.inside("sam", "sh", "-c", "echo more >/home/coder/project/more", check=False).returncode
    invariants.bystanders.check()
    assert sam.state() == "ready"
    assert sam.stop() == 0 and sam.is_stopped()
    assert sam.start() == 0 and sam.is_ready()
    invariants.quick()
    host.sh('rm "$1"', f"{SAM}/workspace/filler")
    assert product.inside("sam", "sh", "-c", "echo more >/home/coder/project/more").returncode == 0
    invariants.check()
