"""Many requests at once on few connections, whose answers nobody takes: of a stranger, and of a neighbour who is signed in. And an
office, which does nothing wrong, behind one address. Row A23."""

import contextlib

import pytest

from lab import latency, raw, streams
from lab.editor import path as window

# It takes up what all on the host wait for, and measures how long they do.
ALONE = True

DAN, SAM = "dan.code.example.test", "sam.code.example.test"

# What one source has under way without a session, and one browser with its session, at most.
STRANGERS, PERSON = 256, 512
# At once behind one address: so many people, each with so many requests under way and so many websockets of open windows. They share
# three workspaces here, and an editor has 511 connections wait for it at most.
PEOPLE, REQUESTS, SOCKETS = 50, 24, 2

# Takes connections, and never says a word.
SILENT = r"""
import socket
listener, held = socket.create_server(("127.0.0.1", 3210), backlog=4096), []
while True:
    held.append(listener.accept())
"""


@pytest.fixture
def together():
    """Everything that is opened for a story, closed after it."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def cookie(product):
    """dan's session."""
    with product.visitor("dan") as client:
        yield client.cookie_header()


@pytest.fixture
def served(host, pki, cookie):
    """Asks as dan and as a stranger from elsewhere, on connections of their own, and says how long both take at most, in
    seconds; each has to be answered."""

    def ask():
        took = []
        for _ in range(10):
            answers, seconds = streams.took(lambda: raw.ask(host, pki, raw.request(path="/healthz", Cookie=cookie)))
            assert answers == [200], answers.text
            took.append(seconds)
            there = 'curl -sk -o /dev/null -w "%{http_code} %{time_total}" --resolve "$1:443:127.0.0.1" "https://$1/_csm/sign-in"'
            status, seconds = host.sh(there, DAN).split()
            assert status == "200"
            took.append(float(seconds))
        return max(took)

    return ask


def flood(together, host, pki, connections, path, name=DAN, **fields):
    """So many connections, each with as many requests as nginx takes at once, and no byte of an answer's body may be sent."""
    opened = [together.enter_context(streams.Connection(host, pki, name, window=0)) for _ in range(connections)]
    for one in opened:
        for _ in range(streams.MOST):
            one.ask(path, **fields)
    for one in opened:
        one.settle(silence=2, whole=False)
    return opened


# The page, and what leads to it.
UNTAKEN = {
    "the sign-in page": ("/_csm/sign-in", {"Sec_Fetch_Mode": "navigate"}),
    "a program's refusal": ("/anything", {}),
    "a page that is none": ("/_csm/nothing", {}),
    "a session that is none": ("/anything", {"Cookie": "__Host-csm=" + "A" * 43}),
}


@pytest.mark.parametrize("what", UNTAKEN)
def test_answers_that_nobody_takes_keep_nobody_waiting(host, product, pki, served, together, what):
    """A23. Five connections, with more requests than the gateway takes connections."""
    before = served()
    path, fields = UNTAKEN[what]
    opened = flood(together, host, pki, 5, path, **fields)
    assert sum(len(one.statuses) for one in opened) > 512
    assert served() < max(4 * before, 10 * latency.UNNOTICED)


def test_a_source_has_only_so_much_under_way(host, product, pki, served, together):
    """A23. Without a session: what is more is told so, whole in its head, and holds nothing."""
    opened = flood(together, host, pki, 4, "/_csm/sign-in", Sec_Fetch_Mode="navigate")
    held = sum(one.count(200) for one in opened)
    refused = sum(one.count(429) for one in opened)
    assert (held, refused) == (STRANGERS, 4 * streams.MOST - STRANGERS)
    assert sum(len(one.whole) for one in opened) == refused
    # Of whoever has a session there, and of strangers from elsewhere, it is not counted.
    served()
    together.close()
    # What has ended is not held against anybody.
    with streams.Connection(host, pki, DAN) as one:
        number = one.ask("/_csm/sign-in", Sec_Fetch_Mode="navigate")
        assert one.settle().statuses[number] == 200


def test_names_that_are_nobodys_are_no_way_around(host, product, pki, together):
    """A23. Neither a host that is none, nor a path that only nginx knows, may hold more."""
    for name, path in (("mallory.code.example.test", "/"), ("code.example.test", "/"), (DAN, "/_csm/auth"), (DAN, "/_csm")):
        opened = flood(together, host, pki, 4, path, name)
        held = sum(len(one.statuses.keys() - one.whole) for one in opened)
        assert held <= STRANGERS, (name, path, held)
        together.close()


def test_fifty_people_behind_one_address(host, product, pki, together):
    """A23. All of them sign in, have two windows' websockets open, and open an editor at the same moment: none is refused."""
    names = list(product.people)
    people = []
    for number in range(PEOPLE):
        name = names[number % len(names)]
        with product.visitor(name) as client:
            people.append((f"{name}.{product.domain}", client.cookie_header()))
    statuses = []
    for name, cookie in people:
        for _ in range(SOCKETS):
            connection, status = streams.websocket(host, pki, name, cookie, window())
            together.callback(connection.close)
            statuses.append(status)
    assert set(statuses) == {101}, statuses
    opened = [(together.enter_context(streams.Connection(host, pki, name)), cookie) for name, cookie in people]
    for one, cookie in opened:
        for _ in range(REQUESTS):
            one.ask("/healthz", Cookie=cookie)
    for one, _ in opened:
        one.settle(silence=raw.PATIENCE)
    found = {status: sum(one.count(status) for one, _ in opened) for one, _ in opened for status in one.statuses.values()}
    assert found == {200: PEOPLE * REQUESTS}


def test_a_neighbours_silent_workspace_is_his_own_trouble(host, product, pki, served, together):
    """A23. Somebody who is signed in, with twelve connections full of requests that his workspace never answers: those beyond what a
    browser may have are refused, and nobody else waits."""
    product.inside("sam", "tee", "/tmp/silent.py", input=SILENT)
    product.inside_sh("sam", "(setsid python3 /tmp/silent.py >/dev/null 2>&1 &)")
    before = served()
    with product.visitor("sam") as client:
        opened = flood(together, host, pki, 12, "/proxy/3210/", SAM, Cookie=client.cookie_header())
        assert served() < max(4 * before, 10 * latency.UNNOTICED)
        assert sum(one.count(429) for one in opened) == 12 * streams.MOST - PERSON
