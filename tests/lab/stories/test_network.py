"""What a workspace can't reach: its neighbours, this host, and what clouds answer on link-local addresses."""

import json

import pytest

from lab.reach import beside

SECOND = "203.0.113.77"
# Of another interface: pasta gives a workspace the addresses of the first, so that these lead to itself.
OTHER = "203.0.113.66"
METADATA = "169.254.169.254"
OPEN = 7771  # on every address
LOOPBACK = 7772  # on the host's loopback alone

LISTEN = """
import selectors, socket, sys
waiting = selectors.DefaultSelector()
for family, address, port in [(socket.AF_INET, "0.0.0.0", 7771), (socket.AF_INET6, "::", 7771),
                              (socket.AF_INET, "127.0.0.1", 7772), (socket.AF_INET6, "::1", 7772)]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(family, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((address, port))
        if kind == socket.SOCK_STREAM:
            s.listen(64)
        waiting.register(s, selectors.EVENT_READ)
while True:
    for key, _ in waiting.select():
        s = key.fileobj
        if s.type == socket.SOCK_DGRAM:
            s.sendto(*s.recvfrom(100))
        else:
            connection, peer = s.accept()
            connection.sendall(b"reached the host")
            connection.close()
"""

# All at once: what is dropped silently takes the whole timeout.
CONNECT = """
import json, os, socket, sys, threading
os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"  # names that nobody resolves here
answers = []
def said(s):
    try:
        return repr(s.recv(40))
    except Exception as error:
        return type(error).__name__  # it waits for what the client says
def tcp(address, port):
    with socket.create_connection((address, port), PATIENCE) as s:
        s.settimeout(1)
        return "reached: " + said(s)
def udp(address, port):
    family, kind, _, _, there = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as s:
        s.settimeout(PATIENCE)
        s.connect(there)
        s.send(b"echo")
        return "reached: " + repr(s.recv(40))
def attempt(address, port, protocol):
    try:
        answer = {"tcp": tcp, "udp": udp}[protocol](address, port)
    except Exception as error:
        answer = type(error).__name__
    answers.append([address, port, protocol, answer])
PATIENCE = 3  # seconds, of which all pass wherever nobody answers
threads = [threading.Thread(target=attempt, args=target) for target in json.load(sys.stdin)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(answers))
"""


def CONFIGURE(product):
    product.only("dan", "alice")
    # There before the daemon starts, as on most hosts; another comes later.
    product.host.sh('ip addr add "$1/32" dev eth0; ip -6 addr add fd00:77::1/64 dev eth0 nodad; ip addr add "$2/32" dev lo', SECOND, OTHER)


@pytest.fixture(scope="module")
def listening(host, product):
    # As if this host were the one that answers there: then what keeps it away is ours.
    host.sh('ip addr add "$1/32" dev lo', METADATA)
    with host.service("listen", "python3", "-c", LISTEN):
        host.wait_for("it listens", lambda: f":{LOOPBACK} " in host.sh("ss -Hltn"), 10)
        yield


def inside(product, name):
    return lambda *argv, **options: product.inside(name, *argv, **options)


def addresses(host):
    found = json.loads(host.sh("ip -json addr"))
    return {one["local"] + ("%" + link["ifname"] if one["scope"] == "link" and ":" in one["local"] else "") for link in found for one in link["addr_info"]}


def attempt(run, targets):
    """Each is address, port and, unless it is tcp, a protocol."""
    targets = [[*target, "tcp"][:3] for target in targets]
    return json.loads(run("python3", "-c", CONNECT, input=json.dumps(targets), timeout=120).stdout)


def reached(answers):
    return [answer for answer in answers if answer[3].startswith("reached")]


def assert_refused(run, targets, control, there):
    """While `control`, who may, is answered there."""
    answered = lambda: len(reached(attempt(control, there))) == len(there)  # noqa: E731
    answers = beside(answered, lambda: attempt(run, targets))
    assert answers and not reached(answers), reached(answers)


def test_no_address_of_the_host_is_reached(host, product, listening):
    ports = {int(line.rsplit(":", 1)[1]) for line in host.sh("ss -Hltn | awk '{ print $4 }'").splitlines()}
    assert {OPEN, LOOPBACK, 443, 80} <= ports
    own = addresses(host)
    assert {SECOND, OTHER, METADATA, host.address[0], "127.0.0.1", "fd00:77::1"} <= own
    targets = [[address, port] for address in sorted(own) for port in sorted(ports)]
    targets += [[address, port, "udp"] for address in sorted(own) for port in (OPEN, LOOPBACK)]
    # 443 and 80 wait for what the client says.
    there = [[address, OPEN, protocol] for address in (SECOND, OTHER, METADATA, host.address[0], "127.0.0.1", "fd00:77::1") for protocol in ("tcp", "udp")]
    there += [["127.0.0.1", LOOPBACK, "udp"], [SECOND, 443], [SECOND, 80], [SECOND, 22]]
    # What Podman and pasta know as names for the host.
    gateway = host.sh("ip route | awk '/^default/ { print $3; exit }'")
    more = ["169.254.1.1", "169.254.1.2", "host.containers.internal", "host.docker.internal", gateway, "10.0.2.2"]
    targets += [[address, port] for address in more for port in (OPEN, LOOPBACK, 443, 22)]
    targets += [[address, port, "udp"] for address in more for port in (OPEN, LOOPBACK, 53)]
    assert_refused(inside(product, "dan"), targets, host.run, there)


def test_an_address_that_comes_later_is_not_reached_either(host, product, listening):
    host.sh("ip addr add 203.0.113.88/32 dev eth0")
    host.wait_for("the units know", lambda: "203.0.113.88" in host.show("csm-dan.service", "IPAddressDeny"), 30)
    targets = [["203.0.113.88", OPEN, "tcp"], ["203.0.113.88", OPEN, "udp"]]
    assert_refused(inside(product, "dan"), targets, host.run, targets)


def test_a_port_of_its_own_is_reached(host, product):
    """Else the two above could be had by a workspace without a network."""
    product.inside_sh("dan", "cd /tmp; (setsid python3 -m http.server 3000 >/dev/null 2>&1 &)")
    host.wait_for("its own port", lambda: product.inside("dan", "curl", "-sf", "http://127.0.0.1:3000/").stdout, 10)
    # But not from the host or from alice.
    for somebody_else in (host.run, inside(product, "alice")):
        assert_refused(somebody_else, [["127.0.0.1", 3000], [host.address[0], 3000]], inside(product, "dan"), [["127.0.0.1", 3000]])


def test_alices_socket_and_home_are_out_of_reach(host, product):
    product.inside_sh("alice", "umask 0; echo private >/home/coder/project/private.txt")
    places = [
        "/run/code-server-multi/run/alice/http.sock",
        "/run/code-server-multi/front/alice.sock",
        "/run/code-server-multi/admin.sock",
        "/run/code-server-multi/gateway.sock",
        "/run/code-server-multi/secrets/alice",
        "/var/lib/vscode/alice/workspace/private.txt",
        "/var/lib/code-server-multi/accounts/alice",
        "/run/csm-alice",
    ]
    for place in places:
        # There on the host, not there inside.
        host.sh('test -e "$1"', place)
        assert product.inside("dan", "test", "-e", place, check=False).returncode != 0, place
    assert "private.txt" not in product.inside("dan", "find", "/", "-name", "private.txt", check=False).stdout

    # And should something of dan's ever run outside its container, as dan's account: still not.
    as_dan = ("setpriv", "--reuid", "csm-dan", "--regid", "csm-dan", "--init-groups")
    for place in places:
        script = 'cat "$1" || ls "$1/" || curl -sf --max-time 20 --unix-socket "$1" http://x/healthz || curl -sf --max-time 20 --unix-socket "$1" http://x/v1/workspaces'
        done = host.run(*as_dan, "sh", "-c", script, "lab", place, check=False)
        assert done.returncode != 0, (place, done.stdout)
    # Root reaches the very same socket.
    host.sh('curl -sf --unix-socket "$1" http://x/healthz', places[0])


def test_abstract_sockets_and_processes_are_its_own(host, product):
    listen = "import socket; s = socket.socket(socket.AF_UNIX); s.bind(b'\\0csm-lab'); s.listen(); s.accept(); s.accept()"
    connect = "import socket; socket.socket(socket.AF_UNIX).connect(b'\\0csm-lab')"
    with host.service("abstract", "python3", "-c", listen):
        host.wait_for("it answers on the host", lambda: host.run("python3", "-c", connect).returncode == 0, 10)
        assert "ConnectionRefusedError" in product.inside("dan", "python3", "-c", connect, check=False).stderr
    names = product.inside_sh("dan", "cat /proc/[0-9]*/comm 2>/dev/null || true").split()
    assert "systemd" not in names and "csm" not in names and "nginx" not in names
