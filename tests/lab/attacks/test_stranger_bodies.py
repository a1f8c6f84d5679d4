"""Bodies that are sent to nginx, and that nobody is going to read: none of it may reach the disk, where endless ones would fill
it, and where passwords have no business to be. Row A24."""

import pytest

from lab import raw, streams

SHARED = True

DAN, ALICE = "dan.code.example.test", "alice.code.example.test"

# The sizes of all files below its own directory that nginx holds open; it gives them no name.
HELD = r"""
for pid in $(pgrep -x nginx); do
  find "/proc/$pid/fd" -lname '/var/lib/nginx/*' -exec stat --dereference --format '%s %N' {} + 2>/dev/null || true
done
"""

# More than any buffer for a body, and than what the kernel takes for somebody who doesn't read.
MUCH = 1 << 20


def by_its_length(host, pki, name, path, cookie=None):
    connection = raw.tls(host, pki, name)
    return connection, raw.request("POST", path, name=name, Cookie=cookie, Content_Length=str(1 << 40), Connection="keep-alive"), b"x" * 16_384


def in_chunks(host, pki, name, path, cookie=None):
    connection = raw.tls(host, pki, name)
    return connection, raw.request("POST", path, name=name, Cookie=cookie, Transfer_Encoding="chunked", Connection="keep-alive"), b"4000\r\n" + b"x" * 0x4000 + b"\r\n"


def first_line(connection, head, piece):
    """Sends the head, then up to MUCH of the body, as long as the far end takes it; gives the answer's status, if one came."""
    connection.settimeout(raw.SILENCE)
    received = b""
    try:
        connection.sendall(head)
        for _ in range(MUCH // len(piece)):
            connection.sendall(piece)
        received = connection.recv(4096)
    except OSError:
        # It has closed its end, after an answer or not.
        try:
            received = received or connection.recv(4096)
        except OSError:
            pass
    return int(received.split(b" ", 2)[1]) if received.startswith(b"HTTP/1.1 ") else None


def over_http2(host, pki, name, path, cookie=None, method="POST"):
    connection = streams.Connection(host, pki, name)
    number = connection.ask(path, method, ends=False, Cookie=cookie)
    # As much as may be sent before anybody has asked for more.
    connection.say(number, b"x" * 60_000)
    return connection, connection.settle(whole=False).statuses.get(number)


def sent(host, pki, how, name, path, cookie=None):
    """The answer's status, and what nginx holds on the disk meanwhile."""
    if how is over_http2:
        connection, status = over_http2(host, pki, name, path, cookie)
    else:
        connection, *what = how(host, pki, name, path, cookie)
        status = first_line(connection, *what)
    try:
        return status, host.sh(HELD)
    finally:
        connection.__exit__(None, None, None)


# Of a path and a host, what a stranger's body is answered before it has ended.
PLACES = {
    (DAN, "/anything"): 401,
    (DAN, "/_csm/auth"): 404,
    (DAN, "/_csm/away"): 404,
    (DAN, "/_csm"): 404,
    ("mallory.code.example.test", "/anything"): 404,
    ("code.example.test", "/"): 404,
}
WAYS = [by_its_length, in_chunks, over_http2]


@pytest.mark.parametrize("how", WAYS)
def test_a_strangers_body_is_answered_and_not_kept(host, product, pki, how):
    """A24. It is refused as soon as its head is there, however much more is to come."""
    found = {place: sent(host, pki, how, *place) for place in PLACES}
    assert {place: held for place, (_, held) in found.items()} == dict.fromkeys(PLACES, "")
    assert {place: status for place, (status, _) in found.items()} == PLACES


def test_a_body_that_comes_unsaid_is_not_kept(host, product, pki):
    """A24. Over HTTP/2 a GET may have one, which nothing in its head tells of: it is cut off where no form is longer."""
    connection, status = over_http2(host, pki, DAN, "/anything", method="GET")
    with connection:
        assert (status, host.sh(HELD)) == (413, "")


@pytest.mark.parametrize("how", WAYS)
def test_a_body_for_a_workspace_that_is_away_is_not_kept(host, product, pki, how):
    """A24. Of somebody who is signed in: who is told that nobody is at home is told so at once."""
    with product.visitor("alice") as client:
        product.csm("stop", "alice")
        try:
            assert sent(host, pki, how, ALICE, "/anything", client.cookie_header()) == (503, "")
        finally:
            product.csm("start", "alice")


def test_a_form_with_a_password_is_not_written_down(host, product, pki):
    """A24. Of the largest that is taken, and half of it sent; in chunks of a byte it could be more than any buffer."""
    own = {"Origin": f"https://{DAN}", "Content_Type": "application/x-www-form-urlencoded", "Connection": "keep-alive"}
    with raw.tls(host, pki, DAN) as connection:
        connection.sendall(raw.request("POST", "/_csm/sign-in", Content_Length="16000", **own) + b"next=" + b"x" * 15_000)
        # Whatever is asked after it on another connection comes after it.
        assert raw.ask(host, pki, raw.request(path="/_csm/sign-in", Sec_Fetch_Mode="navigate")) == [200]
        assert host.sh(HELD) == ""
    with raw.tls(host, pki, DAN) as connection:
        connection.sendall(raw.request("POST", "/_csm/sign-in", Transfer_Encoding="chunked", **own) + b"1\r\nx\r\n" * 15_000)
        connection.settimeout(raw.PATIENCE)
        assert connection.recv(4096).startswith(b"HTTP/1.1 411 ")
        assert host.sh(HELD) == ""


def test_what_is_passed_on_is_not_kept_either(host, product, pki):
    """A24. An upload goes to the workspace as it comes: one that nobody inside reads stands still."""
    with product.visitor("dan") as client:
        cookie = client.cookie_header()
        for how in WAYS:
            _, held = sent(host, pki, how, DAN, "/proxy/3999/", cookie)
            assert held == "", how
        # And one that is read arrives, whatever its size.
        big = b"x" * (20 << 20)
        assert client.post("/proxy/3999/", content=big, headers={"Origin": f"https://{DAN}"}).status_code == 500
