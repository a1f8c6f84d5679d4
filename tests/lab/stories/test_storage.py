"""What a workspace costs on disk before anybody used it, and that the one image is never copied."""

import pytest

STATE = "/var/lib/code-server-multi"
IMAGES = f"{STATE}/images/store"


# The account of each is there from the start, the workspace is not.
def CONFIGURE(product):
    product.only("dan")


def used(host):
    """Everything that a workspace may leave on disk, the archive and what the mounts show aside."""
    return int(host.sh("sync; du -sx --block-size=1 /var/lib /etc | awk '{ sum += $1 } END { print sum }'"))


def store_stamp(host):
    """Owners, modes, sizes and times of every file of the store."""
    # Podman itself rewrites its locks and database; layers are what must never change.
    return host.sh("cd \"$1\"/overlay; find . -printf '%p %U:%G %m %s %T@ %l\\n' | LC_ALL=C sort | sha256sum", IMAGES)


@pytest.mark.parametrize("name", ["alice", "sam"])
def test_one_more_workspace_adds_less_than_a_megabyte(host, product, name):
    before, layers = used(host), store_stamp(host)
    product.add(name)
    product.wait_ready(name)
    grown = used(host) - before
    print(f"{name}: {grown} bytes")
    # Some, or nothing was measured.
    assert 0 < grown < 1_000_000
    assert store_stamp(host) == layers


def test_no_layer_is_copied(host, product):
    for name in ("dan", "alice", "sam"):
        own = f"{STATE}/accounts/{name}"
        sizes = host.sh("find \"$1\" -xdev -type d -path '*/overlay/*/diff' -prune -exec du -s --block-size=1 {} +", own)
        assert sizes, f"{name} has no layer of its own at all"
        for line in sizes.splitlines():
            assert int(line.split()[0]) < 500_000, line
    # One image on this host, in one store.
    assert host.sh('find "$1" -name images.json -size +3c | wc -l', STATE) == "1"
    assert host.sh('find "$1" -name images.json -size +3c', STATE).startswith(IMAGES)


def test_every_file_of_the_store_keeps_its_owner(host, product):
    ids = "code-server-multi-images"
    owners = set(host.sh("find \"$1\" -xdev -printf '%U\\n' | sort -u", IMAGES).split())
    first = int(host.sh('awk -F: -v n="$1" \'$1 == n { print $2 }\' /etc/subuid', ids))
    allowed = {int(host.sh("id -u \"$1\"", ids)), *range(first, first + 65536)}
    assert {int(owner) for owner in owners} <= allowed
    # The same files, seen through one workspace's mount, are that workspace's.
    view = set(host.sh("find /run/code-server-multi/mounts/dan/images -maxdepth 1 -printf '%U\\n' | sort -u").split())
    assert view == {host.sh("id -u csm-dan")}
