"""What a visitor can do to nginx and the sign-in: lie about who he is and which host he means, hide a second request in
the first, reach the editor around the sign-in, have a person led elsewhere. Rows A5, A6, A8, A9, A10 and A16."""

import contextlib
import html
import json
import re

import pytest
from websockets.exceptions import InvalidStatus

from lab import pace, raw, streams

SHARED = True

DAN, ALICE = "dan.code.example.test", "alice.code.example.test"

# Answers with the headers that it was sent, and keeps a list of what was asked for. Nothing about it is careful.
ECHO = r"""
import http.server, json
class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        with open("/tmp/asked", "a") as asked:
            asked.write(self.command + " " + self.path + "\n")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        text = json.dumps(self.headers.items()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    do_POST = do_PUT = do_GET
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 3200), Echo).serve_forever()
"""

HERE = "/proxy/3200/"


@pytest.fixture(scope="module")
def cookie(host, product):
    """dan's session, and behind it an echo on port 3200."""
    product.inside("dan", "tee", "/tmp/echo.py", input=ECHO)
    product.inside_sh("dan", "(setsid python3 /tmp/echo.py >/dev/null 2>&1 &)")
    with product.visitor("dan") as client:
        host.wait_for("the echo", lambda: client.get(HERE).status_code == 200, 10)
        yield client.cookie_header()


@pytest.fixture(scope="module")
def alices(product):
    with product.visitor("alice") as client:
        yield client.cookie_header()


@pytest.fixture
def ask(host, pki):
    return lambda request, sni=DAN: raw.ask(host, pki, request, sni)


def asked(product):
    """What has arrived at the echo so far."""
    return product.inside_sh("dan", "cat /tmp/asked").splitlines()


def seen(text):
    """The echo's headers, in lower case: [(name, value)]."""
    pairs = json.loads(re.search(r"\[\[.*\]\]", text, re.S)[0])
    return [(name.lower(), value) for name, value in pairs]


LIES = {
    "X-Real-IP": "6.6.6.6",
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Host": "evil.example",
    "Forwarded": "for=6.6.6.6;host=evil.example",
    "True-Client-IP": "6.6.6.6",
    "X-Client-IP": "6.6.6.6",
    "X-Forwarded-User": "evil",
    "X-Forwarded-Groups": "evil",
    "X-Remote-User": "evil",
    "Remote-User": "evil",
    "X-Auth-Request-Email": "evil@example",
    "X-Csm-Workspace": "alice",
    "X-Csm-Uri": "/_csm/evil",
    "X-Csm-Method": "EVIL",
    "X-Original-URL": "/evil",
    "X-Accel-Redirect": "/evil",
}


@pytest.mark.parametrize("how", ["once", "twice", "in small letters", "named by Connection", "over HTTP/2"])
def test_who_the_visitor_is_can_not_be_claimed(host, pki, ask, cookie, how):
    """A5. What arrives is what nginx knows itself, whatever was sent in its place."""
    fields = {name: [value] for name, value in LIES.items()}
    if how == "twice":
        fields = {name: [value, value] for name, value in LIES.items()}
    if how == "in small letters":
        fields = {name.lower(): [value] for name, value in LIES.items()}
    if how == "named by Connection":
        # Hop-by-hop headers are a proxy's to drop: it must not drop its own.
        fields["Connection"] = ["close, " + ", ".join(LIES)]
    if how == "over HTTP/2":
        lies = [(name.lower(), value) for name, value in LIES.items()]
        pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", DAN), (":path", HERE)]
        status, text = raw.h2(host, pki, [*pseudo, ("cookie", cookie), *lies])
        assert status == 200
    else:
        answers = ask(raw.request(path=HERE, Cookie=cookie, **fields))
        assert answers == [200], answers.text
        text = answers.text
    headers = seen(text)
    for lie in ("6.6.6.6", "evil", "gopher", "alice"):
        assert lie not in str(headers).lower(), headers
    names = [name for name, _ in headers]
    assert len(names) == len(set(names)), headers
    assert dict(headers)["host"] == DAN
    assert dict(headers)["x-forwarded-proto"] == "https"
    assert dict(headers)["x-real-ip"] == dict(headers)["x-forwarded-for"].split(",")[0]


@pytest.mark.parametrize("sni", [DAN, ALICE, None])
def test_no_header_with_an_underscore_passes(host, product, ask, cookie, sni):
    """A5. Many servers take X_Forwarded_User for X-Forwarded-User. Without the right name in SNI, what counts until the
    Host is read is the first server's setting."""
    request = raw.request(path=HERE, Cookie=cookie, X_Forwarded_User="evil")
    answers = ask(request.replace(b"X-Forwarded-User", b"X_Forwarded_User"), sni)
    assert answers == [200] and "evil" not in answers.text, answers.text


# Of (path, Host, cookie of whom): what it is answered. The editor answers `/` with 302, to its folder; 401 from alice's
# host for dan's cookie means that the request was alice's and was judged as hers.
HOSTS = [
    ("/", DAN, "dan", 302),
    ("/", "DAN.Code.Example.TEST", "dan", 302),
    ("/", f"{DAN}.", "dan", 302),
    ("/", f"{DAN}:443", "dan", 302),
    ("/", ALICE, "dan", 401),
    (f"https://{ALICE}/", DAN, "dan", 401),
    (f"https://{DAN}/", ALICE, "alice", 401),
    (f"https://{DAN}/", ALICE, "dan", 302),
    (f"https://{ALICE}@{DAN}/", DAN, "dan", 400),
    ("/", [DAN, DAN], "dan", 400),
    ("/", [DAN, ALICE], "dan", 400),
    ("/", None, "dan", 400),
    ("/", "", "dan", 400),
    ("/", f"{DAN}/", "dan", 400),
    ("/", f"a#@{DAN}", "dan", 404),
    ("/", f"{DAN}#@evil.example", "dan", 404),
    ("/", f"{DAN}, {ALICE}", "dan", 400),
    ("/", "mallory.code.example.test", "dan", 404),
    ("/", f"x.{DAN}", "dan", 404),
    ("/", "code.example.test", "dan", 404),
    ("/", "evil.example", "dan", 404),
    ("/", "127.0.0.1", "dan", 404),
    ("/", "csm_gateway", "dan", 404),
]


@pytest.mark.parametrize("sni", [DAN, ALICE, None])
def test_the_host_is_the_one_that_is_named(ask, cookie, alices, sni):
    """A5. Neither another name in SNI nor in the request's first line opens one workspace with another's session."""
    cookies = {"dan": cookie, "alice": alices}
    found = []
    for path, name, whose, _ in HOSTS:
        answers = ask(raw.request(path=path, Host=name, Cookie=cookies[whose]), sni)
        found.append((path, name, whose, *answers[:1]))
        assert len(answers) == 1, answers.text
    assert found == HOSTS


AUTHORITIES = [
    ([(":authority", DAN)], "dan", 302),
    ([(":authority", DAN), ("host", DAN)], "dan", 400),
    ([(":authority", DAN), ("host", ALICE)], "dan", 400),
    ([(":authority", ALICE), ("host", DAN)], "dan", 400),
    ([("host", DAN)], "dan", 302),
    ([("host", DAN), ("host", ALICE)], "dan", 400),
    ([(":authority", ALICE)], "dan", 401),
    ([(":authority", DAN)], "alice", 401),
    ([(":authority", DAN), (":authority", ALICE)], "dan", 400),
    ([(":authority", f"a#@{DAN}")], "dan", 404),
    ([(":authority", "mallory.code.example.test")], "dan", 404),
    ([], "dan", 400),
]


def test_authority_and_host_do_not_disagree_over_http2(host, pki, cookie, alices):
    """A5. One connection serves all workspaces of the certificate, as browsers do it: each request is judged by its own
    authority, and one that names two is refused."""
    cookies = {"dan": cookie, "alice": alices}
    found = []
    for fields, whose, _ in AUTHORITIES:
        request = [(":method", "GET"), (":scheme", "https"), (":path", "/"), *fields, ("cookie", cookies[whose])]
        # Pseudo-headers come first, or the request is malformed for that reason.
        request.sort(key=lambda field: not field[0].startswith(":"))
        found.append((fields, whose, raw.h2(host, pki, request, ALICE)[0]))
    assert found == AUTHORITIES


# What nginx tells the gateway, claimed by the client: (whose host, path, headers, what it is answered). Every one of them
# would be let in, or out, were it believed.
CLAIMS = {
    "another's host with one's own session": (ALICE, "GET", "/", {"X_Csm_Workspace": "dan", "X_Csm_Origin": f"https://{DAN}"}, 401),
    "a post that is called a navigation": (DAN, "POST", HERE, {"X_Csm_Method": "GET", "Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}, 403),
    "an upgrade that is called none": (DAN, "GET", "/", {"X_Csm_Upgrade": "", "Upgrade": "websocket", "Connection": "Upgrade", "Origin": "https://evil.example", "Sec_Fetch_Mode": "navigate"}, 403),
    "another origin that is called one's own": (DAN, "GET", HERE, {"X_Csm_Origin": "https://evil.example", "Origin": "https://evil.example"}, 403),
    "a form for another's sign-out": (ALICE, "POST", "/_csm/sign-out", {"X_Csm_Workspace": "dan", "X_Csm_Origin": f"https://{DAN}", "Origin": f"https://{DAN}", "Content_Length": "0"}, 403),
    "a tunnel's cookie": (DAN, "GET", "/", {"X_Csm_Tunnel": "1", "Cookie": "csm-dan=TOKEN"}, 401),
    "a place that is asked for by its inner name": (DAN, "GET", "/_csm/auth", {"X_Csm_Uri": "/"}, 404),
}  # fmt: skip


def test_the_gateway_is_told_by_nginx_alone(ask, cookie):
    """A5. The sign-in page says whose it is, in words; and what a client claims neither opens nor closes anything."""
    answers = ask(raw.request(path="/_csm/sign-in", X_Csm_Workspace="alice", X_Csm_Origin=f"https://{ALICE}"))
    assert answers == [200] and "Sign in to dan" in answers.text and "alice" not in answers.text
    found = {}
    for what, (name, method, path, fields, _) in CLAIMS.items():
        fields = {"Cookie": cookie, **fields}
        fields["Cookie"] = fields["Cookie"].replace("csm-dan=TOKEN", cookie.replace("__Host-csm", "csm-dan"))
        found[what] = list(ask(raw.request(method, path, Host=name, **fields), name))
    assert found == {what: [claim[-1]] for what, claim in CLAIMS.items()}
    assert ask(raw.request(path=HERE, Cookie=cookie)) == [200]


HIDDEN = b"GET /proxy/3200/hidden HTTP/1.1\r\nHost: " + DAN.encode() + b"\r\n\r\n"
CHUNKED = b"0\r\n\r\n"

# What nginx answers to each: one answer, and the rest of the connection is thrown away.
SMUGGLED = {
    "length and chunks": (400, {"Content_Length": "6", "Transfer_Encoding": "chunked"}, CHUNKED + HIDDEN),
    "two lengths": (400, {"Content_Length": ["0", str(len(HIDDEN))]}, HIDDEN),
    "a list of lengths": (400, {"Content_Length": f"0, {len(HIDDEN)}"}, HIDDEN),
    "a signed length": (400, {"Content_Length": "+5"}, b"hello" + HIDDEN),
    "a negative length": (400, {"Content_Length": "-1"}, HIDDEN),
    "a length in hexadecimal": (400, {"Content_Length": "0x5"}, b"hello" + HIDDEN),
    "an endless length": (400, {"Content_Length": "9" * 30}, HIDDEN),
    "two codings": (400, {"Transfer_Encoding": ["chunked", "chunked"]}, CHUNKED + HIDDEN),
    "chunked and something": (501, {"Transfer_Encoding": "chunked, identity"}, CHUNKED + HIDDEN),
    "not quite chunked": (501, {"Transfer_Encoding": "xchunked"}, CHUNKED + HIDDEN),
    "chunked after a vertical tab": (501, {"Transfer_Encoding": "\x0bchunked"}, CHUNKED + HIDDEN),
    "a chunk beyond 64 bits": (400, {"Transfer_Encoding": "chunked"}, b"10000000000000005\r\nhello\r\n" + CHUNKED + HIDDEN),
    "a negative chunk": (400, {"Transfer_Encoding": "chunked"}, b"-1\r\nhello\r\n" + CHUNKED + HIDDEN),
    "a chunk longer than said": (400, {"Transfer_Encoding": "chunked"}, b"2\r\nhello\r\n" + CHUNKED + HIDDEN),
    "a bare carriage return": (400, {"X_A": "a\rTransfer-Encoding: chunked"}, HIDDEN),
    "a zero byte": (400, {"X_A": "a\0b"}, HIDDEN),
    "a continued line": (400, {"X_A": "a\r\n Transfer-Encoding: chunked"}, HIDDEN),
    "a space before the colon": (400, {"Transfer_Encoding ": "chunked"}, CHUNKED + HIDDEN),
}


@pytest.mark.parametrize("signed_in", [True, False], ids=["signed in", "a stranger"])
def test_nothing_is_hidden_behind_a_request(product, ask, cookie, signed_in):
    """A6. Connections to the editor and to the gateway are kept and shared, so a request that ends elsewhere for one side
    than for the other would be the next visitor's."""
    found = {}
    for what, (_, fields, rest) in SMUGGLED.items():
        fields = {"Connection": "keep-alive", "Cookie": cookie if signed_in else None, **fields}
        answers = ask(raw.request("POST", HERE + "open", rest, **fields))
        found[what] = list(answers)
    assert found == {what: [status] for what, (status, _, _) in SMUGGLED.items()}
    assert not [line for line in asked(product) if "hidden" in line]


# The same against the gateway's own socket, as nginx reaches it: what it says, and to how many requests.
AT_THE_GATEWAY = {
    # Read by its chunks, and the connection is closed after the answer (RFC 9112, 6.1).
    "length and chunks": ({"Content_Length": "6", "Transfer_Encoding": "chunked"}, CHUNKED, [401]),
    "two lengths": ({"Content_Length": ["0", "5"]}, b"hello", [400]),
    "a signed length": ({"Content_Length": "+5"}, b"hello", [400]),
    "an endless length": ({"Content_Length": "9" * 30}, b"", [400]),
    "chunked and something": ({"Transfer_Encoding": "chunked, identity"}, CHUNKED, [400]),
    "not quite chunked": ({"Transfer_Encoding": "xchunked"}, CHUNKED, [400]),
    "a chunk beyond 64 bits": ({"Transfer_Encoding": "chunked"}, b"10000000000000005\r\nhello\r\n" + CHUNKED, [400]),
    "a negative chunk": ({"Transfer_Encoding": "chunked"}, b"-1\r\nhello\r\n" + CHUNKED, [400]),
    "a chunk longer than said": ({"Transfer_Encoding": "chunked"}, b"2\r\nhello\r\n" + CHUNKED, [400]),
    "a bare carriage return": ({"X_A": "a\rb: c"}, b"", [400]),
    "a zero byte": ({"X_A": "a\0b"}, b"", [400]),
    "a continued line": ({"X_A": "a\r\n b"}, b"", [400]),
    "a space before the colon": ({"X_A ": "b"}, b"", [400]),
    "a head beyond 64 KiB": ({"X_A": "a" * 200_000}, b"", [431]),
    "a form beyond 8 KiB": ({"Content_Length": "9000"}, b"a" * 9000, [413]),
    "a workspace named twice": ({"X_Csm_Workspace": ["dan", "alice"], "Connection": "close"}, b"", [404]),
    "a workspace that is a path": ({"X_Csm_Workspace": "../dan", "Connection": "close"}, b"", [404]),
    "no workspace": ({"X_Csm_Workspace": None, "Connection": "close"}, b"", [404]),
}

def test_the_gateway_is_as_strict_when_asked_directly(host, product, cookie):
    """A6. For the day on which nginx is not: the second of two strict ends."""
    wired = {"X_Csm_Workspace": "dan", "X_Csm_Origin": f"https://{DAN}", "X_Csm_Method": "POST", "Origin": f"https://{DAN}", "Connection": "keep-alive"}
    behind = raw.request("POST", "/_csm/sign-out", **(wired | {"Connection": "close", "Content_Length": "0", "Cookie": cookie}))
    sent = [raw.request("POST", "/_csm/sign-in", rest + behind, **(wired | fields)) for fields, rest, _ in AT_THE_GATEWAY.values()]
    answers = raw.ask_unix(host, "/run/code-server-multi/gateway/http.sock", sent)
    found = {what: list(one) for what, one in zip(AT_THE_GATEWAY, answers, strict=True)}
    assert found == {what: answers for what, (_, _, answers) in AT_THE_GATEWAY.items()}
    # None of the sign-outs behind them was carried out.
    assert host.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", "/run/code-server-multi/gateway/http.sock", "-H", "X-Csm-Workspace: dan",
                    "-H", f"X-Csm-Origin: https://{DAN}", "-H", "X-Csm-Method: GET", "-H", f"Cookie: {cookie}", "http://x/_csm/auth").stdout == "204"


def test_a_websocket_opens_for_the_workspaces_own_page_alone(visit, cookie):
    """A8. With dan's cookie, as a browser that is signed in sends it along. The refusal is the edge's: whatever answers in the
    place of the editor is never asked."""
    origins = {
        f"https://{DAN}": 101,
        f"https://{ALICE}": 403,
        f"http://{DAN}": 403,
        f"https://{DAN}:8443": 403,
        f"https://{DAN}.evil.example": 403,
        f"https://evil.example/{DAN}": 403,
        "null": 403,
        "": 403,
    }
    found = {}
    for origin in origins:
        try:
            visit("dan").websocket("/?reconnectionToken=x", headers={"Cookie": cookie, "Origin": origin}, origin=None).close()
            found[origin] = 101
        except InvalidStatus as refused:
            found[origin] = refused.response.status_code
            assert b"This request came from another site" in refused.response.body, (origin, refused.response.body)
    assert found == origins
    with pytest.raises(InvalidStatus) as refused:
        visit("dan").websocket("/?reconnectionToken=x", origin=f"https://{DAN}")
    assert refused.value.response.status_code == 401


DOORS = [
    "/", HERE, "/absproxy/3200/", "/healthz", "/login", "/logout", "/mint-key", "/update/check", "/manifest.json", "/robots.txt", "/security.txt",
    "/_static/src/browser/media/favicon.ico", "/stable-0/static/out/vs/loader.js", "/vscode-remote-resource?path=/etc/passwd", "/version", "/errors",
    "/_csm/../proxy/3200/", "/_csm/%2e%2e/proxy/3200/", "/_csm/sign-in/../../proxy/3200/", "/_csm/./../proxy/3200/", "//proxy/3200/", "/proxy//3200/",
    "/%70roxy/3200/", "/_csm%2f..%2fproxy/3200/", "/_csm/..%2fproxy%2f3200%2f", "/_csm/..;/proxy/3200/", "/./_csm/../proxy/3200/", "/_CSM/sign-in",
]  # fmt: skip


def test_every_door_asks_first(product, ask, cookie):
    """A9. Around the sign-in there is no way to the editor or to a port behind it, with code-server's own cookies neither."""
    before = asked(product)
    found = {}
    for path in DOORS:
        found[path] = list(ask(raw.request(path=path, Cookie="code-server-session=%24argon2id%24v%3D19; key=x; vscode-tkn=x")))
    # The gateway has no such page.
    assert found == {path: [404 if path == "/_csm/..;/proxy/3200/" else 401] for path in DOORS}
    assert asked(product) == before
    # The doors are there: with a session they lead somewhere.
    assert ask(raw.request(path=HERE, Cookie=cookie)) == [200]
    assert len(asked(product)) == len(before) + 1


ELSEWHERE = [
    "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "/\n/evil.example", "https://evil.example/", "//evil.example:443/%2e%2e",
    "https:evil.example", "javascript:alert(1)", "JaVaScRiPt://%0aalert(1)", "data:text/html,x", "/x\r\nSet-Cookie: a=b", "/x\r\n\r\n<script>", "/\u00a0/evil.example",
    "/_csm/sign-out", "/" + "x" * 3000, " //evil.example", "evil.example", "/\x00",
]  # fmt: skip


def test_signing_in_leads_to_a_path_on_the_same_host(product, visit):
    """A10. Whatever the page was asked to lead to afterwards."""
    with product.visitor("dan") as signed_in:
        for target in ELSEWHERE:
            page = visit("dan").get("/_csm/sign-in", params={"next": target})
            assert page.status_code == 200
            assert re.search(r'name="next" value="([^"]*)"', page.text)[1] == "/", target
            answer = signed_in.get("/_csm/sign-in", params={"next": target})
            assert (answer.status_code, answer.headers["location"]) == (303, "/"), target
            assert "set-cookie" not in answer.headers
        # A path with everything that HTML and URLs know stays as it is, and stays a text.
        odd = "/a?b=<script>alert(1)</script>&c=\"'>&amp;#x"
        page = visit("dan").get("/_csm/sign-in", params={"next": odd})
        assert html.unescape(re.search(r'name="next" value="([^"]*)"', page.text)[1]) == odd
        assert "<script" not in page.text


PAGES = ["/_csm/sign-in", "/_csm/sign-in?signed-out", "/_csm/sign-out", "/_csm/nothing", "/anything"]


def test_every_page_of_ours_forbids_scripts_and_frames(ask):
    """A10. Even were something injected, it could not run, nor could the page be put into another."""
    for path in PAGES:
        answers = ask(raw.request(path=path))
        policy = answers.header("content-security-policy")
        assert len(policy) == 1 and policy[0].startswith("default-src 'none';") and "unsafe" not in policy[0] and "script-src" not in policy[0], (path, policy)
        assert "frame-ancestors 'none'" in policy[0] and "form-action 'self'" in policy[0] and "base-uri 'none'" in policy[0]
        assert answers.header("x-frame-options") == ["DENY"] and answers.header("cache-control") == ["no-store"] and answers.header("x-content-type-options") == ["nosniff"], path


def test_a_form_from_elsewhere_is_not_carried_out(product, ask, cookie):
    """A10. Neither a sign-in (as the attacker's own user) nor a sign-out."""
    form = f"password={product.passwords['dan']}&next=/".encode()
    own = {"Content_Type": "application/x-www-form-urlencoded", "Content_Length": str(len(form)), "Cookie": cookie}
    for origin in ({"Origin": f"https://{ALICE}"}, {"Origin": "null"}, {"Origin": [f"https://{DAN}", f"https://{ALICE}"]}, {"Sec_Fetch_Site": "same-site"},
                   {"Sec_Fetch_Site": "cross-site", "Origin": f"https://{DAN}"}, {"Origin": ""}, {}):  # fmt: skip
        for path in ("/_csm/sign-in", "/_csm/sign-out"):
            answers = ask(raw.request("POST", path, form, **own, **origin))
            assert answers == [403] and not answers.header("set-cookie"), (path, origin, answers.text)
    assert ask(raw.request(path=HERE, Cookie=cookie)) == [200]


def test_no_address_is_logged_when_a_request_fails(host, pki, product, alices, ask):
    """A16. Addresses carry tokens. nginx puts the whole request line into the error log whenever the editor or the gateway
    can't be reached, a form is too large, or a source asks too often."""
    canary = "canary-token-Wv5KdS83"
    product.csm("stop", "alice")
    try:
        for path in (f"/?tkn={canary}", f"/{canary}/x"):
            assert ask(raw.request(path=path, Host=ALICE, Cookie=alices, Referer=f"https://{ALICE}/?{canary}"), ALICE) == [503]
        # More at once than a source may have under way.
        with contextlib.ExitStack() as together:
            opened = [together.enter_context(streams.Connection(host, pki, ALICE, window=0)) for _ in range(3)]
            for one in opened:
                for _ in range(streams.MOST):
                    one.ask(f"/_csm/sign-in?{canary}", Sec_Fetch_Mode="navigate")
            assert sum(one.settle(silence=2, whole=False).count(429) for one in opened) > 0
        assert ask(raw.request("POST", f"/_csm/sign-in?{canary}", Content_Length="99999", Host=ALICE), ALICE) == [413]
        assert ask(raw.request(path=f"/?{canary}", Host="mallory.code.example.test"), ALICE) == [404]
        host.sh("journalctl --sync")
        assert host.sh('grep -rlaF "$1" /var/log/nginx || true', canary) == ""
        assert canary not in host.journal()
    finally:
        product.csm("start", "alice")


# In the place of dan's editor: two answers to each request, and how many connections it was asked on.
TWO_ANSWERS = r"""
import os, socket, sys, threading
path = "/run/csm/http/http.sock"
os.unlink(path)
s = socket.socket(socket.AF_UNIX)
s.bind(path)
os.chmod(path, 0o660)
s.listen(64)
print("listening", flush=True)
answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n%s"
def serve(c, number):
    while asked := c.recv(65536):
        text = b"connection %d, %s" % (number, b"close" if b"\r\nConnection: close\r\n" in asked else b"kept")
        c.sendall(answer % (len(text), text) + answer % (6, b"hidden"))
number = 0
while True:
    number += 1
    threading.Thread(target=serve, args=(s.accept()[0], number), daemon=True).start()
"""


def test_no_connection_to_an_editor_is_used_twice(host, product, ask):
    """A6. Whatever a workspace adds to its answer would be the answer to the next visitor's request, were connections to it
    kept. The last story that needs dan's own editor."""
    with product.visitor("dan") as client:
        mine = client.cookie_header()
        impostor = host.start(*product.inside_argv("dan", "python3", "-c", TWO_ANSWERS), text=True)
        try:
            assert impostor.stdout.readline() == "listening\n"
            bodies = []
            for _ in range(6):
                answers = ask(raw.request(path="/x", Cookie=mine))
                assert answers == [200] and "hidden" not in answers.text, answers.text
                bodies.append(answers.text.split("\r\n\r\n")[1])
            # A connection of the visitor's ends with the answer.
            pair = ask(raw.request(path="/x", Cookie=mine, Connection="keep-alive") + raw.request(path="/x", Cookie=mine))
            assert pair == [200] and "hidden" not in pair.text, pair.text
            # The daemon looks at it too, and takes numbers.
            numbers = [int(body.split()[1].rstrip(",")) for body in bodies]
            assert numbers == sorted(set(numbers)) and all(body.endswith("close") for body in bodies), bodies
        finally:
            product.csm("restart", "dan")
            impostor.communicate(timeout=20 / pace.SLOWEST)
