"""What a browser, or whoever holds what is in it, sends as cookies: in every spelling, a session stays between browser and gateway,
and opens the one host that it was made at. Row A37."""

import pytest

from lab import raw, streams
from lab.client import session_in

DAN = "dan.code.example.test"
PORT = 18083


def CONFIGURE(product):
    product.only("dan")
    product.config["workspaces"]["dan"]["port"] = PORT


# Answers with the cookies that it was sent.
ECHO = r"""
import http.server
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"cookies: " + "|".join(self.headers.get_all("Cookie") or []).encode("latin-1") + b"\n")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 3220), Echo).serve_forever()
"""
HERE = "/proxy/3220/"


@pytest.fixture(scope="module")
def session(host, product):
    """dan's session as (name, token), and an echo behind it."""
    product.inside("dan", "tee", "/tmp/echo.py", input=ECHO)
    product.inside_sh("dan", "(setsid python3 /tmp/echo.py >/dev/null 2>&1 &)")
    with product.visitor("dan") as client:
        host.wait_for("the echo", lambda: client.get(HERE).status_code == 200, 10)
        yield client.session()


# With NAME and TOKEN in the place of the session's; `good` is the session as the gateway made it.
SPELLINGS = [
    "NAME =TOKEN", "NAME\t=TOKEN", " NAME= TOKEN", "NAME = TOKEN ", "\tNAME=TOKEN", ";NAME=TOKEN", ";;NAME=TOKEN", "NAME=TOKEN;", "a;NAME=TOKEN", "a=1;NAME=TOKEN;b=2",
    'a="1; NAME=TOKEN"', "NAME=TOKEN; NAME=TOKEN", "NAME =TOKEN; NAME=TOKEN; NAME\t=TOKEN", "__HOST-CSM=TOKEN", "__host-csm =TOKEN", "__Host-csm=TOKEN", "__Host-csm--x=TOKEN",
    "; ".join(f"__Host-csm--{number:016x}=TOKEN" for number in range(12)),
]  # fmt: skip


@pytest.mark.parametrize("how", ["one line", "a line of its own", "over HTTP/2"])
def test_no_spelling_of_a_session_reaches_the_workspace(host, product, pki, session, how):
    """A37. Beside the good one, which lets the request pass."""
    name, token = session
    good = f"{name}={token}"
    for spelling in SPELLINGS:
        odd = spelling.replace("NAME", name).replace("TOKEN", token)
        if how == "over HTTP/2":
            with streams.Connection(host, pki, DAN) as connection:
                number = connection.ask(HERE, Cookie=f"kept=1; {good}; {odd.strip()}")
                connection.settle()
                status, text = connection.statuses[number], connection.bodies.get(number, b"").decode()
        else:
            lines = [f"kept=1; {good}; {odd}"] if how == "one line" else ["kept=1", good, odd]
            answers = raw.ask(host, pki, raw.request(path=HERE, Cookie=lines))
            status, text = answers[0], answers.text
        assert status in (200, 401), (spelling, text)
        assert token not in text, (spelling, text)


def test_what_is_not_ours_still_arrives(host, product, pki, session):
    """A37. Cookies of what runs in the workspace, those that only look like ours included."""
    name, token = session
    for others in ("a=1", "a=1; b=2", "csm=1", "x__Host-csm=1", "__Host-other=1", 'a="b"'):
        for header in (f"{name}={token}; {others}", f"{others}; {name}={token}"):
            answers = raw.ask(host, pki, raw.request(path=HERE, Cookie=header))
            assert answers == [200] and f"cookies: {others}\n" in answers.text, (header, answers.text)


def test_an_unusual_spelling_opens_nothing(host, product, pki, session):
    """A37. Alone: what nginx and the gateway could read in two ways is nobody's session."""
    name, token = session
    for spelling in (f"{name} ={token}", f"{name}\t={token}", f"{name.upper()}={token}", f"{name}=\"{token}\""):
        assert raw.ask(host, pki, raw.request(path=HERE, Cookie=spelling)) == [401], spelling
    assert raw.ask(host, pki, raw.request(path=HERE, Cookie=f"{name}={token}")) == [200]


def test_a_tunnels_session_opens_the_tunnel_alone(host, product, pki, session):
    """A37. It went over plain HTTP, and lies with the cookies of everything on localhost; and the other way round."""
    origin = f"http://localhost:{PORT}"
    ask = ("curl", "-s", "-i", "--max-time", "60")
    signed = host.run(*ask, "-H", f"Origin: {origin}", "--data-urlencode", f"password={product.passwords['dan']}", f"{origin}/_csm/sign-in").stdout
    pairs = [line.split(": ", 1)[1].split(";")[0] for line in signed.splitlines() if line.lower().startswith("set-cookie: ")]
    name, token = session_in(dict(pair.split("=", 1) for pair in pairs))
    code = lambda cookie: int(host.run(*ask, "-H", f"Cookie: {cookie}", f"{origin}{HERE}").stdout.split()[1])  # noqa: E731
    assert code(f"{name}={token}") == 200
    public, own = session
    for there in (name, public, "__Host-csm", name.replace("csm-dan", "__Host-csm")):
        assert raw.ask(host, pki, raw.request(path=HERE, Cookie=f"{there}={token}")) == [401], there
    for there in (name, public, "csm-dan", public.replace("__Host-csm", "csm-dan")):
        assert code(f"{there}={own}") == 401, there


def test_the_cookies_ask_to_be_kept_longest(product):
    """A37. A browser that has too many of a domain's cookies throws out others first, where it knows priorities."""
    with product.client("dan") as client:
        answer = product.sign_in(client)
        kept = answer.headers.get_list("set-cookie")
        assert kept and all("; Priority=High" in one and "; HttpOnly" in one and "; Secure" in one for one in kept), kept
