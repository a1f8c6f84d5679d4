"""Who answers whom over a network: listeners, those who ask, and another machine on a wire."""

import json

from . import wait

# A cloud's machine for credentials, at the addresses that clouds have agreed on, and on the same wire one that is nobody's
# secret. Both are another machine: none of them is this host's own address, which is refused for that reason already.
METADATA = [
    "169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fe80::a9fe:a9fe%lab-cloud",
    "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd20:ce::254", "fd00:a9fe:a9fe::1", "fd00:42::42",
]  # fmt: skip
ELSEWHERE = ["198.51.100.2", "2001:db8:77::2"]
CLOUD = """
ip netns add lab-cloud
ip link add lab-cloud type veth peer name cloud0 netns lab-cloud
ip addr add 198.51.100.1/30 dev lab-cloud; ip -6 addr add 2001:db8:77::1/64 dev lab-cloud nodad
ip link set lab-cloud up
far() { ip -n lab-cloud "$@"; }
far link set lo up
far addr add 198.51.100.2/30 dev cloud0; far -6 addr add 2001:db8:77::2/64 dev cloud0 nodad
for one in 169.254.169.254 169.254.170.2 100.100.100.200 192.0.0.192 168.63.129.16; do far addr add $one/32 dev cloud0; done
for one in fd00:ec2::254 fd20:ce::254 fd00:a9fe:a9fe::1 fd00:42::42; do far -6 addr add $one/128 dev cloud0 nodad; done
far -6 addr add fe80::a9fe:a9fe/64 dev cloud0 nodad
far link set cloud0 up
far route add default via 198.51.100.1; far -6 route add default via 2001:db8:77::1
for one in 169.254.169.254 169.254.170.2 100.100.100.200 192.0.0.192 168.63.129.16; do ip route add $one dev lab-cloud; done
for one in fd00:ec2::254 fd20:ce::254 fd00:a9fe:a9fe::1 fd00:42::42; do ip -6 route add $one dev lab-cloud; done
"""

# Answers on each of the ports "KIND ADDRESS PORT ...".
LISTEN = r"""
import selectors, socket, sys
waiting = selectors.DefaultSelector()
words = sys.argv[1:]
for kind, address, port in zip(words[::3], words[1::3], map(int, words[2::3])):
    family, kind_of, _, _, here = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)[0]
    s = socket.socket(family, kind_of)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind(here)
    if kind == "tcp":
        s.listen(64)
    waiting.register(s, selectors.EVENT_READ)
print("listening", flush=True)
while True:
    for key, _ in waiting.select():
        s = key.fileobj
        if s.type == socket.SOCK_DGRAM:
            s.sendto(b"reached", s.recvfrom(100)[1])
        else:
            connection, _ = s.accept()
            connection.sendall(b"reached")
            connection.close()
"""

# All at once, since what is dropped silently takes the whole timeout: [address, port, kind] to true where it was answered.
ASK = r"""
import json, os, socket, sys, threading
os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"
answered = []
def ask(address, port, kind):
    try:
        kind_of = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
        family, _, _, _, there = socket.getaddrinfo(address, port, type=kind_of)[0]
        with socket.socket(family, kind_of) as s:
            s.settimeout(3)
            s.connect(there)
            if kind == "udp":
                s.send(b"x")
            if s.recv(100) == b"reached":
                answered.append([address, port, kind])
    except OSError:
        pass
threads = [threading.Thread(target=ask, args=one) for one in json.load(sys.stdin)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(sorted(answered)))
"""

KINDS = ("tcp", "udp")


def at(port, *addresses):
    """For LISTEN. By each address, since what is asked at one of several has to answer from it."""
    return [word for kind in KINDS for address in addresses for word in (kind, address, str(port))]


def everywhere(port):
    return at(port, "0.0.0.0", "::")


def ask(run, targets):
    """Which of [(address, port)] answered, by either kind, within three seconds."""
    asked = json.dumps([[address, port, kind] for address, port in targets for kind in KINDS])
    return {tuple(one) for one in json.loads(run("python3", "-c", ASK, input=asked, timeout=60).stdout)}


def answered(run, targets, sure):
    """The same, asked again until those answered that are sure to: one that is slow is like one that doesn't."""
    found = []
    wait.until(f"these answer: {sure}", lambda: found.append(ask(run, targets)) or found[-1] >= sure, 60)
    return found[-1]


def beside(control, question):
    """All that `question` gave, asked until `control`, which has no more patience, was true right before and right after: where the
    machine is too slow for the one, that the other had no answer shows nothing."""
    found = []

    def asked():
        before = control()
        found.extend(question())
        return before and control()

    wait.until("those who listen answer in time", asked, 60)
    return found


def both(targets):
    return {(address, port, kind) for address, port in targets for kind in KINDS}
