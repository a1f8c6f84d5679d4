"""Ports of the host that a workspace takes by sending from the same ones inside: those that the configuration keeps for services of the
host are never taken. Row A45."""

import json

import pytest

from lab.reach import CLOUD

# WireGuard's own, which is kept by default, and some that are kept here.
WIREGUARD = 51820
KEPT = [5353, 40000, 41194]
FREE = [40001, 41195]

# Sends from each of these ports and holds them; says what came of it.
SEND_FROM = r"""
import errno, json, socket, sys
held, said = [], {}
for port in json.loads(sys.argv[1]):
    for family, to in ((socket.AF_INET, "198.51.100.2"), (socket.AF_INET6, "2001:db8:77::2")):
        s = socket.socket(family, socket.SOCK_DGRAM)
        try:
            s.bind(("", port))
            for _ in range(3):
                s.sendto(b"x", (to, 99))
            held.append(s)
            said[f"{port} {family.name}"] = "sent"
        except OSError as error:
            said[f"{port} {family.name}"] = errno.errorcode[error.errno]
print(json.dumps(said), flush=True)
sys.stdin.read()
"""


def CONFIGURE(product):
    product.only("dan")
    product.config["reserved_ports"] = [WIREGUARD, *KEPT]


@pytest.fixture(scope="module", autouse=True)
def beside(host, product):
    """Another machine to send to."""
    host.sh(CLOUD)


def taken(host, ports):
    """Those of the host's that somebody has."""
    own = {int(line.split()[3].rsplit(":", 1)[1]) for line in host.sh("ss -Huan").splitlines()}
    return sorted(own & set(ports))


def send_from(host, product, ports):
    """Holds them while the caller looks."""
    return host.start(*product.inside_argv("dan", "python3", "-c", SEND_FROM, json.dumps(ports)), stdin=-1, text=True)


def test_no_port_that_is_kept_for_the_host_is_taken(host, product):
    """A45. WireGuard didn't start where a workspace had sent something from its port."""
    sender = send_from(host, product, [WIREGUARD, *KEPT, *FREE])
    try:
        said = json.loads(sender.stdout.readline())
        # Those that aren't kept arrive on the host, as they always did.
        host.wait_for("the others are taken", lambda: taken(host, FREE) == FREE, 20)
        assert taken(host, [WIREGUARD, *KEPT]) == []
        assert {said[f"{port} AF_INET"] for port in FREE} == {"sent"}, said
    finally:
        sender.stdin.close()
        sender.wait(60)


def test_another_list_comes_with_the_next_start(host, product):
    """Nobody is restarted for it, and what runs has the old one until then."""
    before = product.main_pids("dan")
    product.config["reserved_ports"] = [FREE[0]]
    product.reload()
    host.wait_for("it is pending", lambda: product.plan()["pending"] == {"dan": ["runtime"]}, 20)
    assert product.main_pids("dan") == before
    product.csm("restart", "dan")
    sender = send_from(host, product, [*FREE, *KEPT])
    try:
        sender.stdout.readline()
        host.wait_for("the others are taken", lambda: taken(host, [FREE[1], *KEPT]) == sorted([FREE[1], *KEPT]), 20)
        assert taken(host, [FREE[0]]) == []
    finally:
        sender.stdin.close()
        sender.wait(60)


def test_without_a_list_wireguards_port_is_kept(host, product):
    del product.config["reserved_ports"]
    product.reload()
    product.csm("restart", "dan")
    assert host.show("csm-dan.service", "SocketBindDeny") == f"udp{WIREGUARD}"
