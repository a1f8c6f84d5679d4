"""What a workspace reaches over the network, and who reaches into it, whatever its own files say. Rows A1, A2, A3.

Each refusal stands beside the same question from somewhere else that is answered: what is refused is really there."""

import pytest

from lab import pace
from lab.product import DAEMON
from lab.reach import CLOUD, ELSEWHERE, LISTEN, METADATA, answered, ask, at, beside, both, everywhere

# The address that it goes out with.
OWN = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("203.0.113.1", 9))
print(s.getsockname()[0])
"""

PORT, LOOPBACK = 7781, 7782


@pytest.fixture(scope="module")
def cloud(host, product):
    """Its answers come on port 80."""
    host.sh(CLOUD)
    with host.service("cloud", "nsenter", "--net=/run/netns/lab-cloud", "python3", "-c", LISTEN, *at(80, *(address.replace("%lab-cloud", "%cloud0") for address in METADATA + ELSEWHERE))):
        targets = [(address, 80) for address in METADATA + ELSEWHERE]
        answered(host.run, targets, both(targets))
        yield targets


@pytest.fixture(scope="module")
def loopback(host, product):
    """A listener on the host's loopback, and one on all of its addresses."""
    with host.service("loopback", "python3", "-c", LISTEN, *at(LOOPBACK, "127.0.0.1", "::1"), *everywhere(PORT)):
        here = [("127.0.0.1", LOOPBACK), ("::1", LOOPBACK), (host.address[0], PORT)]
        answered(host.run, here, both(here))
        yield


def inside(product, name):
    return lambda *argv, **options: product.inside(name, *argv, **options)


def test_no_metadata_service_answers(host, product, cloud):
    """A2. The host reaches it and a workspace does not, while what lies beside it on the same wire answers both."""
    # Of the units' rule, not because they were this host's own addresses.
    assert not set(METADATA) & set(host.sh("ip -brief addr").replace("/", " ").split())
    targets = [(address.replace("%lab-cloud", ""), port) for address, port in cloud]
    for name in ("dan", "alice"):
        found = answered(inside(product, name), targets, both([("198.51.100.2", 80)]))
        assert found == both([("198.51.100.2", 80)]) | {one for one in found if one[0] == "2001:db8:77::2"}, (name, found)
    # A command of the admin's in the workspace is in the same place.
    by_admin = lambda *argv, **options: product.csm("exec", "dan", "--", *argv, **options)  # noqa: E731
    found = answered(by_admin, [("169.254.169.254", 80), ("198.51.100.2", 80)], both([("198.51.100.2", 80)]))
    assert found == both([("198.51.100.2", 80)]), found


# What a user can write that Podman and pasta would read, were they asked to: every way that they know to the host's
# loopback (containers.conf(5), pasta_options; pasta(1)).
LOOSE = """
[containers]
netns = "host"
[network]
default_rootless_network_cmd = "pasta"
pasta_options = ["--map-gw", "--map-host-loopback", "169.254.1.2", "--map-guest-addr", "169.254.1.3", "-T", "7782", "-U", "7782", "-t", "7783", "--host-lo-to-ns-lo"]
"""


def ways_to_the_host(host):
    """Every name and address that Podman and pasta ever gave it."""
    own = host.sh("ip -brief addr | awk '{ for (n = 3; n <= NF; n++) print $n }' | cut -d/ -f1").split()
    gateway = host.sh("ip route | awk '/^default/ { print $3; exit }'")
    return [*own, gateway, "169.254.1.1", "169.254.1.2", "169.254.1.3", "10.0.2.2", "10.0.2.3", "host.containers.internal", "host.docker.internal", "localhost"]


def test_no_file_of_the_users_leads_to_the_hosts_loopback(host, product, loopback):
    """A2. In the home, and, should the account's own directory ever be written, there."""
    homes = {"inside": "/home/coder/.config/containers/containers.conf", "outside": "/var/lib/code-server-multi/accounts/dan/.config/containers/containers.conf"}
    product.put_inside("dan", homes["inside"], LOOSE.encode())
    host.put(homes["outside"], LOOSE)
    host.sh("chown -R csm-dan: /var/lib/code-server-multi/accounts/dan/.config")
    # Podman would read the latter, if ours didn't name another.
    bare = ["setpriv", "--reuid", "csm-dan", "--regid", "csm-dan", "--init-groups", "env", "-i", "HOME=/var/lib/code-server-multi/accounts/dan", "PATH=/usr/bin", "sh", "-c"]
    assert "--host-lo-to-ns-lo" in host.run(*bare, 'cd /; cat "$HOME/.config/containers/containers.conf"').stdout
    try:
        product.csm("restart", "dan")
        line = next(line for line in host.sh("ps -C pasta,pasta.avx2 -o user:20=,args=").splitlines() if line.startswith("csm-dan "))
        assert not {"--map-gw", "--host-lo-to-ns-lo", "7782", "7783", "169.254.1.2", "169.254.1.3"} & set(line.split()), line
        targets = [(address, port) for address in ways_to_the_host(host) for port in (PORT, LOOPBACK)]
        here = [("127.0.0.1", LOOPBACK)]
        assert beside(lambda: ask(host.run, here) == both(here), lambda: ask(inside(product, "dan"), targets)) == []
        assert not host.sh("ss -Hltun sport = :7783")
    finally:
        host.sh("rm -r /var/lib/code-server-multi/accounts/dan/.config /var/lib/vscode/dan/home/.config/containers")
        product.csm("restart", "dan")


def test_neither_the_host_nor_a_neighbour_reaches_a_listener(host, product):
    """A1, A3. dan listens on every address of his, and on his loopback: he himself is answered, nobody else is by any address
    that he or the host has; and no socket that listens in the host is a workspace's."""
    listening = host.start(*product.inside_argv("dan", "python3", "-c", LISTEN, *everywhere(3100), *at(3101, "127.0.0.1")), text=True)
    try:
        assert listening.stdout.readline() == "listening\n"
        own = [product.inside("dan", "python3", "-c", OWN).stdout.strip(), "127.0.0.1"]
        assert own[0] != own[1]
        himself = [("127.0.0.1", 3100), ("::1", 3100), ("127.0.0.1", 3101)]
        to_himself = lambda: ask(inside(product, "dan"), himself) == both(himself)  # noqa: E731
        addresses = {*own, *ways_to_the_host(host), "::1", "fe80::1"}
        targets = [(address, port) for address in addresses for port in (3100, 3101)]
        assert beside(to_himself, lambda: ask(inside(product, "alice"), targets)) == []
        assert beside(to_himself, lambda: ask(host.run, targets)) == []
    finally:
        product.inside("dan", "pkill", "-f", "listening", check=False)
        listening.communicate(timeout=20 / pace.SLOWEST)
    # By the user ids of their sockets: all accounts of workspaces and the ids below them.
    ids = [int(one) for name in product.people for one in product.ids(name)]
    ranges = [range(first, first + count) for first, count in zip(ids[::2], ids[1::2], strict=True)]
    owners = {int(one) for one in host.sh("awk '$4 == \"0A\" || $4 == \"07\" { print $8 }' /proc/net/{tcp,tcp6,udp,udp6}").split()}
    assert owners and not [uid for uid in owners if any(uid in some for some in ranges)], owners
    assert host.show(DAEMON, "ActiveState") == "active"
