"""What one workspace takes of what all share on the network: ports, connections that a firewall remembers, descriptors. Row
A21; watches are in test_watches.py, the journal in test_inside.py, processes and memory in stories/test_fork_bomb_vm.py and
test_limits_vm.py."""

import json

import pytest

from lab import pace
from lab.reach import CLOUD, LISTEN, answered, at, both

# As many as a workspace may have of its own, by src/model/podman.rs, and a host that has a few more for all.
MOST = 4096
FIRST, LAST = 40_000, 44_999
# Of any other process of a workspace, by src/model/unit.rs.
DESCRIPTORS = 16_384

# Sends a word from each of these ports by way of as many processes as it takes, holds them, and says how many there are. It sends
# again and again, since some get lost on a machine that is busy.
FLOWS = r"""
import os, resource, select, socket, sys, time
first, last, address, port = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4]
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
sent = 0
wanted = list(range(int(first), int(last) + 1))
share = hard - 100
for begin in range(0, len(wanted), share):
    hold, done = os.pipe(), os.pipe()
    if os.fork() == 0:
        held = []
        for number in wanted[begin:begin + share]:
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind(("", number))
            s.sendto(b"x", (address, int(port)))
            held.append(s)
            if len(held) % 200 == 0:
                time.sleep(0.02)
        os.write(done[1], b"%d\n" % len(held))
        while True:
            for number, s in enumerate(held):
                if number % 200 == 0 and select.select([0], [], [], 0.1)[0]:
                    os._exit(0)
                s.sendto(b"x", (address, int(port)))
    os.close(done[1])
    sent += int(os.read(done[0], 20))
print(sent, flush=True)
sys.stdin.read()
"""

# How many more of its own a process of the host gets without asking for a certain one.
MORE = r"""
import socket
held = []
try:
    for _ in range(200):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("0.0.0.0", 0))
        held.append(s)
except OSError:
    pass
print(len(held))
"""


@pytest.fixture(scope="module")
def far(host, product):
    """Another machine, which answers on one port and says nothing on another."""
    host.sh(CLOUD)
    silent = "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('198.51.100.2', 99)); time.sleep(600)"
    enter = ("nsenter", "--net=/run/netns/lab-cloud", "python3", "-c")
    with host.service("far", *enter, LISTEN, *at(80, "198.51.100.2")), host.service("silent", *enter, silent):
        target = ("198.51.100.2", 80)
        answered(host.run, [target], both([target]))
        yield target


def test_one_workspace_does_not_take_all_ports_of_the_host(host, product, far):
    """A21, A45. From each of the host's 5,000 ports dan sends something, and keeps it: what he holds of the host is bounded, the host
    has ports left, a firewall's table too, and alice reaches what she reached."""
    host.sh('echo "$1 $2" >/proc/sys/net/ipv4/ip_local_port_range', str(FIRST), str(LAST))
    # So that connections are remembered, as NixOS's firewall has it.
    host.sh("nft 'add table inet lab; add chain inet lab out { type filter hook output priority 0; }; add rule inet lab out ct state new counter'")
    table = lambda what: int(host.get(f"/proc/sys/net/netfilter/nf_conntrack_{what}"))  # noqa: E731
    inside = lambda name: lambda *argv, **options: product.inside(name, *argv, **options)  # noqa: E731
    answered(inside("alice"), [far], both([far]))
    hog = host.start(*product.inside_argv("dan", "python3", "-c", FLOWS, str(FIRST), str(LAST), far[0], "99"), stdin=-1, text=True)
    try:
        sent = int(hog.stdout.readline())
        assert sent == LAST - FIRST + 1, sent
        account = host.sh("id -u csm-dan")
        ports = lambda: int(host.sh("ss -Hune | grep -c \"uid:$1 \" || true", account))  # noqa: E731
        # He does take many, so that the bound is what ends it.
        host.wait_for("he has many", lambda: ports() > MOST / 2, 60)
        held = ports()
        more = int(host.run("python3", "-c", MORE).stdout)
        print(f"{held} ports of the host are dan's; a process of the host got {more} more; the firewall remembers {table('count')} of {table('max')}")
        assert MOST / 2 < held < MOST
        assert more == 200
        assert 1000 < table("count") < table("max") / 4
        answered(inside("alice"), [far], both([far]))
        with product.visitor("alice") as alice:
            assert alice.get("/healthz").status_code == 200
    finally:
        hog.stdin.close()
        hog.wait(60 / pace.SLOWEST)

    def limits(name):
        """Those that end meanwhile have none."""
        lines = host.sh('for pid; do grep -s "Max open files" "/proc/$pid/limits" || true; done', *map(str, product.pids(name)))
        return {line.split()[4] for line in lines.splitlines()}

    # What the lab itself had in there has others, until it has ended.
    for name in product.people:
        host.wait_for(f"no process of {name}'s has other limits", lambda name=name: limits(name) == {str(MOST), str(DESCRIPTORS)}, 15)
    assert json.loads(product.csm("status", "--json").stdout)
