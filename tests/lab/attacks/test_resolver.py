"""Who answers a workspace's questions for names: the host's own resolver wherever it is, and never one that nobody chose. Row A41."""

import json
import time

import pytest

from lab import pace
from lab.reach import CLOUD, LISTEN, answered, at, both

# Of a machine beside the host (lab/reach.py).
LAN = "198.51.100.2"
# Who resolves names for everybody and was not asked to.
PUBLIC = ["8.8.8.8", "8.8.4.4", "1.1.1.1", "9.9.9.9"]

# Answers every question for an address with its own one, over UDP and TCP.
RESOLVER = r"""
import selectors, socket, struct, sys
here, told = sys.argv[1], socket.inet_aton(sys.argv[2])
def answer(question):
    end = question.index(b"\0", 12) + 5
    found = struct.unpack(">H", question[end - 4:end - 2])[0] == 1
    tail = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + told if found else b""
    return question[:2] + b"\x81\x80\0\1" + struct.pack(">H", found) + b"\0\0\0\0" + question[12:end] + tail
waiting = selectors.DefaultSelector()
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    s = socket.socket(socket.AF_INET6 if ":" in here else socket.AF_INET, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((here, 53))
    if kind == socket.SOCK_STREAM:
        s.listen()
    waiting.register(s, selectors.EVENT_READ)
while True:
    for key, _ in waiting.select():
        if key.fileobj.type == socket.SOCK_DGRAM:
            question, peer = key.fileobj.recvfrom(4096)
            key.fileobj.sendto(answer(question), peer)
        else:
            connection, _ = key.fileobj.accept()
            question = connection.recv(4096)[2:]
            said = answer(question)
            connection.sendall(struct.pack(">H", len(said)) + said)
            connection.close()
"""

# What the system's own resolver finds, and what a question over TCP brings.
ASK = r"""
import json, re, socket, struct, sys
def named():
    try:
        return socket.gethostbyname(sys.argv[1])
    except OSError as error:
        return type(error).__name__
def over_tcp(server):
    question = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + b"".join(bytes([len(part)]) + part.encode() for part in sys.argv[1].split(".")) + b"\0\0\1\0\1"
    try:
        with socket.create_connection((server, 53), 5) as s:
            s.sendall(struct.pack(">H", len(question)) + question)
            return socket.inet_ntoa(s.recv(4096)[-4:])
    except OSError as error:
        return type(error).__name__
servers = re.findall(r"^nameserver (\S+)$", open("/etc/resolv.conf").read(), re.M)
print(json.dumps([servers, named(), over_tcp(servers[0])]))
"""

# Each question that leaves the host for somebody whom it doesn't ask itself.
WATCH = """
table inet lab_dns {
  chain out {
    type filter hook output priority 0;
    meta l4proto { tcp, udp } th dport { 53, 853 } ip daddr != { 127.0.0.0/8, 198.51.100.2 } counter
    meta l4proto { tcp, udp } th dport { 53, 853 } ip6 daddr != ::1 counter
  }
}
"""

# How the host has it: what its resolv.conf says, and where a resolver listens. The last two have nobody to ask.
ARRANGEMENTS = {
    "dnsmasq or unbound on the loopback": ("nameserver 127.0.0.1", "127.0.0.1"),
    "systemd-resolved": ("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.test", "127.0.0.53"),
    "a machine in the local network": (f"nameserver {LAN}", LAN),
    "one that is down": ("nameserver 127.0.0.1", None),
    "none": ("", None),
}


def CONFIGURE(product):
    product.only("dan")


@pytest.fixture(scope="module", autouse=True)
def beside(host, product):
    """Another machine, and a count of questions that nobody asked for."""
    host.sh(CLOUD)
    host.run("nft", "-f", "-", input=WATCH)


def ask(product, name):
    return json.loads(product.inside("dan", "python3", "-c", ASK, name, timeout=120).stdout)


def strangers_asked(host):
    return sum(int(line.split("packets ")[1].split()[0]) for line in host.sh("nft list table inet lab_dns").splitlines() if "packets" in line)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_the_hosts_own_resolver_answers_and_nobody_else_is_asked(host, product, arrangement):
    """A41. pasta's forwarder was at an address that our own rule denies, and Podman put Google's beside it."""
    resolv_conf, listens = ARRANGEMENTS[arrangement]
    host.put("/etc/resolv.conf", resolv_conf + "\n")
    before = strangers_asked(host)
    product.csm("restart", "dan")
    told = "203.0.113.53"
    if listens is None:
        begun = time.monotonic()
        servers, named, _ = ask(product, "name.example.org")
        assert named == "gaierror", named
        # Refused at once: whoever has no resolver doesn't wait for one.
        assert time.monotonic() - begun < 10 / pace.SLOWEST
    else:
        enter = ["nsenter", "--net=/run/netns/lab-cloud"] if listens == LAN else []
        with host.service("resolver", *enter, "python3", "-c", RESOLVER, listens, told):
            host.wait_for("it answers the host", lambda: host.run("getent", "ahostsv4", "name.example.org", check=False).stdout.startswith(told), 20)
            servers, named, over_tcp = ask(product, "name.example.org")
            assert (named, over_tcp) == (told, told)
    assert servers and not set(servers) & set(PUBLIC), servers
    assert strangers_asked(host) == before


# What the forwarder's address leads to beside names: nothing of the host's.
KNOCK = r"""
import json, socket, sys
found = []
for server in sys.argv[1].split(","):
    for port in json.loads(sys.argv[2]):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, kind) as s:
                    s.settimeout(1)
                    s.connect((server, port))
                    s.send(b"x")
                    if s.recv(10):
                        found.append([server, port])
            except OSError:
                pass
print(json.dumps(found))
"""


def test_the_way_to_the_resolver_leads_nowhere_else(host, product):
    """A41. On the host's loopback something listens beside the resolver."""
    host.put("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    product.csm("restart", "dan")
    ports = [7791, 8053]
    with host.service("loopback", "python3", "-c", LISTEN, *(word for port in ports for word in at(port, "127.0.0.1", "::1"))):
        here = [("127.0.0.1", port) for port in ports]
        answered(host.run, here, both(here))
        servers, *_ = ask(product, "name.example.org")
        found = product.inside("dan", "python3", "-c", KNOCK, ",".join(servers), json.dumps(ports), timeout=120).stdout
        assert json.loads(found) == [], found


def test_doctor_names_a_resolver_that_workspaces_do_not_reach(host, product):
    """A41. One on an address of the host's own that is not its loopback is denied like everything there."""
    said = lambda: {one["severity"] for one in json.loads(product.csm("doctor", "--json", check=False).stdout)["findings"] if one["code"] == "resolver"}  # noqa: E731
    for resolv_conf, severity in (("nameserver 127.0.0.53", "ok"), (f"nameserver {LAN}", "ok"), (f"nameserver {host.address[0]}", "warn"), ("nameserver 169.254.169.253", "warn"), ("", "warn")):
        host.put("/etc/resolv.conf", resolv_conf + "\n")
        assert said() == {severity}, resolv_conf
