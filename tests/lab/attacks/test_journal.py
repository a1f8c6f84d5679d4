"""What containers print has a place of its own: it pushes nothing else out of the journal, and can't grow without end. Row A43."""

import json

import pytest

from lab import wait
from lab.line import TAKE

# Of the machine's journal here, and of the place for what containers print.
MOST = 8 << 20
SMALL = "[Journal]\nSystemMaxUse=8M\nRuntimeMaxUse=8M\nSystemMaxFileSize=1M\nRuntimeMaxFileSize=1M\n"
NAMESPACE = "code-server-multi"

# Lines of 40 KB, which journald takes as they are by itself, of what can't be made smaller.
FLOOD = (
    TAKE
    + r"""
import base64
for number in range(int(sys.argv[1])):
    text = b"lab-flood %d " % number + base64.b64encode(os.urandom(30_000)) + b"\n"
    while text:
        text = text[os.write(line, text):]
"""
)


def CONFIGURE(product):
    product.only("dan", "alice")
    for place in ("journald", f"journald@{NAMESPACE}"):
        product.host.put(f"/etc/systemd/{place}.conf.d/lab.conf", SMALL)
    product.host.sh("systemctl restart systemd-journald")


def synced(host):
    host.sh("journalctl --sync; journalctl --namespace=code-server-multi --sync || true")


def events(product):
    return [json.loads(line) for line in product.csm("events", "-n", "1000", "--json").stdout.splitlines()]


@pytest.fixture(scope="module")
def flooded(host, product):
    """Somebody's sign-in was refused, an admin wrote a line; then dan prints three times what the journal holds, a part at a time,
    so that all of it is within the rate that a workspace has."""
    with product.client("alice") as stranger:
        assert product.sign_in(stranger, password="a guess").status_code == 401
    refused = lambda: [one for one in events(product) if one["kind"] == "sign-in-refused"]  # noqa: E731
    host.wait_for("that is an event", refused, 20)
    host.run("logger", "--tag", "lab-admin", "kept from before")
    synced(host)
    before = events(product)
    for _ in range(3):
        product.inside("dan", "python3", "-c", FLOOD, "210", timeout=120)
        synced(host)
    return before


def test_no_event_is_lost_to_what_a_workspace_prints(host, product, flooded):
    """A43. Half a minute was enough for all that the journal had: who was refused, what an admin did."""
    after = events(product)
    assert [one for one in flooded if one not in after] == []
    assert "kept from before" in host.journal(None, "--identifier", "lab-admin")
    assert "lab-flood" not in host.journal(None, "--output=cat")


def test_what_it_prints_is_bounded_too(host, product, flooded):
    """A43. The oldest of it goes; and no line is longer than the document says."""
    place = host.sh('echo "/var/log/journal/$(cat /etc/machine-id).$1"', NAMESPACE)
    used = int(host.sh('du --block-size=1 --summarize "$1" | cut -f1', place))
    assert 1 << 20 < used < MOST + (2 << 20), used
    synced(host)
    lines = [json.loads(line) for line in product.csm("logs", "dan", "-n", "200", "--json").stdout.splitlines()]
    longest = max(len(one["message"]) for one in lines)
    assert 1000 < longest <= 4096, longest


def test_the_log_of_a_workspace_is_read_as_before(host, product):
    """What the container says and what systemd says about it, in one."""
    product.csm("restart", "alice")
    said = lambda: product.csm("logs", "alice", "-n", "200").stdout  # noqa: E731
    wait.until("systemd's word and the editor's", lambda: "Started csm-alice.service" in said() and "HTTP server listening" in said(), 30)
