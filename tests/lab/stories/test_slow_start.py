"""An editor that needs longer to start than it gives itself, as on a machine that has no time for it: it becomes ready, `csm
start` waits for that, and nothing says on the way that it has failed."""

import concurrent.futures
import contextlib
import json
import threading
import time
from types import SimpleNamespace

import pytest

from lab import pace
from lab.meanwhile import exit_code, under_way

# code-server's own limit, of one process waiting for the other.
OWN_LIMIT = 10
# As long as a start may take (src/model/start.rs), and what its container and the next try need besides.
DEADLINE = 180 + 30
# Comes before all else in both of code-server's processes. The child stands still as long as the file is there; `%d` is what
# the parent waits for it, in place of the limit that the image's patch sets.
SCRIPT = """
const fs = require("node:fs");
const real = globalThis.setTimeout;
globalThis.setTimeout = (what, after, ...rest) => real(what, after === 600000 ? %d : after, ...rest);
const turn = new Int32Array(new SharedArrayBuffer(4));
if (process.env.CODE_SERVER_PARENT_PID) while (fs.existsSync("/home/coder/project/hold")) Atomics.wait(turn, 0, 0, 50);
"""


@contextlib.contextmanager
def watched(product, name):
    """Every state that `csm status` says meanwhile, and every code; the last look is when the block is over."""
    seen, over = SimpleNamespace(states=[], codes=set()), threading.Event()

    def look():
        status = product.workspace(name)
        if seen.states[-1:] != [status["state"]]:
            seen.states.append(status["state"])
        seen.codes.update(one["code"] for one in status["findings"])

    def watch():
        while not over.is_set():
            look()
            over.wait(0.1)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield seen
        finally:
            over.set()
        watching.result(60)
    look()


def held(product, limit):
    """sam's next editor stands still, and waits for itself so many milliseconds."""
    product.put_inside("sam", "/home/coder/project/slow.cjs", (SCRIPT % limit).encode())
    product.csm("stop", "sam")
    product.config["workspaces"]["sam"]["environment"] = {"NODE_OPTIONS": "--require /home/coder/project/slow.cjs"}
    product.reload()
    product.host.sh('touch "$1/hold"; chown --reference="$1" "$1/hold"', "/var/lib/vscode/sam/workspace")


def let_go(host):
    host.sh("rm /var/lib/vscode/sam/workspace/hold")


def events_of_start(product):
    """Those since it was last stopped, as (kind, code)."""
    lines = product.csm("events", "sam", "--json").stdout.splitlines()
    told = [(event["kind"], event.get("code")) for event in map(json.loads, lines)]
    last = max(place for place, (kind, _) in enumerate(told) if kind == "stopped")
    return told[last + 1 :]


def starts(host):
    return int(host.sh("journalctl --sync; journalctl -o cat UNIT=csm-sam.service | grep -c '^Started csm-sam' || true"))


def has_said(product):
    return [one for one in product.workspace("sam")["findings"] if one["code"] == "editor-slow"]


@pytest.fixture(autouse=True)
def as_before(host, product):
    yield
    host.sh("rm -f /var/lib/vscode/sam/workspace/hold")
    product.config["workspaces"]["sam"].pop("environment", None)
    product.reload()
    product.csm("restart", "sam", timeout=330)


def test_our_image_waits_for_itself(host, product):
    """code-server ended with "timed out" and status 1."""
    held(product, 600000)
    before = starts(host)
    with watched(product, "sam") as seen, under_way(host, "csm", "start", "sam") as starting:
        host.wait_for("the container runs", lambda: starts(host) == before + 1, 60)
        begun = time.monotonic()
        said = host.wait_for("the status says that it is slow", lambda: has_said(product), 60)
        host.wait_for("its own limit is over", lambda: time.monotonic() - begun > OWN_LIMIT + 5, OWN_LIMIT + 10)
        let_go(host)
        assert exit_code(starting, DEADLINE) == 0
    assert "takes more than 8 s to start" in said[0]["message"]
    assert seen.states[-1] == "ready" and "failed" not in seen.states, seen.states
    assert starts(host) == before + 1, "one try was enough"
    assert events_of_start(product) == [("starting", None), ("ready", None)]
    assert not has_said(product)


def test_another_image_that_gives_up_is_started_again(host, product):
    """`csm start` ended with 1 and "failed" after the first try, while the second one was under way."""
    held(product, OWN_LIMIT * 1000)
    before = starts(host)
    with watched(product, "sam") as seen, under_way(host, "csm", "start", "sam") as starting:
        gave_up = lambda: [one for one in has_said(product) if "gave up" in one["message"]]  # noqa: E731
        host.wait_for("the first try gave up, and that is said", gave_up, 90)
        assert product.state("sam") == "starting"
        let_go(host)
        ended = host.wait_for("csm start ends", lambda: starting.poll() is not None, DEADLINE) and starting.returncode
        said = starting.stdout.read().decode()
    assert ended == 0, said
    assert "timed out" in host.sh("journalctl --sync --namespace=code-server-multi; journalctl --namespace=code-server-multi -o cat --unit csm-sam.service | grep -F 'timed out' | tail -n 1")
    assert "gave up; it is started again. It is given 180 s in all; it is waited for, 300 s at most" in said, said
    assert seen.states[-1] == "ready" and "failed" not in seen.states, seen.states
    assert "editor-slow" in seen.codes and "editor-exited" not in seen.codes, seen.codes
    assert starts(host) >= before + 2
    told = events_of_start(product)
    assert told[0] == ("starting", None) and told[-1] == ("ready", None), told
    assert set(told[1:-1]) == {("starting", "editor-slow")}, told
    assert not has_said(product)


LATER = "203.0.113.89"


def test_an_address_that_comes_while_it_starts_is_denied_at_once(host, product):
    """Not once the wait for the editor is over, which its owner can draw out."""
    held(product, 600000)
    with under_way(host, "csm", "start", "sam") as starting:
        host.wait_for("the status says that it is slow", lambda: has_said(product), 60)
        try:
            host.sh('ip addr add "$1/32" dev lo', LATER)
            host.wait_for("its unit knows", lambda: LATER in host.show("csm-sam.service", "IPAddressDeny"), 15)
            assert product.state("sam") == "starting"
        finally:
            host.sh('ip addr del "$1/32" dev lo', LATER)
        let_go(host)
        assert exit_code(starting, DEADLINE) == 0


def test_one_that_is_broken_has_failed_at_once(host, product):
    """Nobody waits three minutes for what ended right away."""
    product.csm("stop", "sam")
    product.config["workspaces"]["sam"]["environment"] = {"NODE_OPTIONS": '--import "data:text/javascript,process.exit(1)"'}
    product.reload()
    begun = pace.clock()
    product.csm("start", "sam", check=1, timeout=60)
    took = pace.clock() - begun
    found = product.workspace("sam")
    codes = {one["code"] for one in found["findings"]}
    print(f"csm start of a broken editor ended after {took:.1f} s: {codes}")
    assert took < 30
    assert codes & {"editor-exited", "start-failed"} and "editor-slow" not in codes, found
