"""Addresses that are everybody's: multicast, broadcast, the anycast address of a network. What is sent there arrives at the host too,
from the host's own address, as if it had asked itself. Row A44."""

import json

import pytest

PORT = 7795
# On the host's wire. The broadcast address is of a network that the host is in; the last is the host's own wherever it forwards for
# others.
V4, BROADCAST = "203.0.113.50", "203.0.113.63"
V6, ANYCAST = "2001:db8:44::2", "2001:db8:44::"
# What reaches this host without being its address. The first, the broadcasts, all nodes and the anycast address are anybody's who
# listens; other groups are for who has joined.
ANYBODYS = ["224.0.0.1", "255.255.255.255", BROADCAST, "ff02::1%eth0", ANYCAST]
EVERYBODYS = [*ANYBODYS, "224.0.0.251", "239.255.255.250", "ff02::fb%eth0", "ff05::1%eth0"]

# Hears what is sent to any address of the host, as most services for UDP listen, and keeps it.
HEAR = r"""
import selectors, socket
waiting = selectors.DefaultSelector()
for family, here in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((here, 7795))
    waiting.register(s, selectors.EVENT_READ)
with open("/run/lab-heard", "wb", buffering=0) as kept:
    while True:
        for key, _ in waiting.select():
            text, peer = key.fileobj.recvfrom(200)
            kept.write(text + b" from " + peer[0].encode() + b"\n")
"""

# Says "WHO ADDRESS" to each address, as a program does that may.
SAY = r"""
import json, socket, sys
who, addresses = sys.argv[1], json.load(sys.stdin)
said = {}
for address in addresses:
    try:
        family, kind, _, _, there = socket.getaddrinfo(address, 7795, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for _ in range(3):
                s.sendto(f"{who} {address}".encode(), there)
        said[address] = "sent"
    except OSError as error:
        said[address] = type(error).__name__
print(json.dumps(said))
"""


def CONFIGURE(product):
    product.only("dan")
    product.host.sh('ip addr add "$1/28" broadcast + dev eth0; ip -6 addr add "$2/64" dev eth0 nodad', V4, V6)
    product.host.sh("ip -6 route add default via 2001:db8:44::1; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")


@pytest.fixture(scope="module")
def heard(host, product):
    """What the host's service has heard so far, in lines."""
    with host.service("hear", "python3", "-c", HEAR):
        lines = lambda: host.get("/run/lab-heard").decode().splitlines()  # noqa: E731
        host.wait_for("it listens", lambda: lines() == [] and f":{PORT} " in host.sh("ss -Hlun"), 20)
        yield lines


def test_what_is_sent_to_everybody_does_not_arrive_at_the_host(host, product, heard):
    """A44. A service that trusts the host's own address, a resolver or a discovery of devices, answered a workspace."""
    asked = json.dumps(EVERYBODYS)
    host.run("python3", "-c", SAY, "host", input=asked)
    host.wait_for("the host hears itself", lambda: {line.split()[1] for line in heard() if line.startswith("host ")} >= set(ANYBODYS), 20)
    product.inside("dan", "python3", "-c", SAY, "dan", input=asked)
    # What comes after it has arrived.
    host.run("python3", "-c", SAY, "again", input=json.dumps(["224.0.0.1"]))
    host.wait_for("what comes after it", lambda: any(line.startswith("again") for line in heard()), 20)
    assert [line for line in heard() if line.startswith("dan ")] == []


def test_the_unit_denies_every_such_network(host, product):
    """A44. Also one that comes later."""
    denied = lambda: set(host.show("csm-dan.service", "IPAddressDeny").split())  # noqa: E731
    assert {"224.0.0.0/4", "ff00::/8", "255.255.255.255/32", "169.254.0.0/16", "fe80::/10"} <= denied(), denied()
    assert {f"{V4}/32", f"{BROADCAST}/32", f"{V6}/128", f"{ANYCAST}/128"} <= denied(), denied()
    host.sh("ip addr add 203.0.113.9/28 broadcast + dev eth0; ip -6 addr add 2001:db8:45::9/64 dev eth0 nodad")
    later = {"203.0.113.9/32", "203.0.113.15/32", "2001:db8:45::9/128", "2001:db8:45::/128"}
    host.wait_for("the unit knows", lambda: later <= denied(), 30)
