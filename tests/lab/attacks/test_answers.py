"""What a workspace answers in the place of its editor: two heads for one request, cookies that are named like ours, and scripts
that would sit between a person and the sign-in page. Rows A34, A35 and A36."""

import json

import pytest
from playwright.sync_api import expect

from lab import pace, raw, streams
from lab.workbench import open_sign_in, sign_in

DAN, ALICE = "dan.code.example.test", "alice.code.example.test"
PORTS = {"dan": 18081, "alice": 18082}


def CONFIGURE(product):
    product.only("dan", "alice")
    for name, port in PORTS.items():
        product.config["workspaces"][name]["port"] = port


# In the place of an editor. What a path answers is in the table that comes with it, every byte of it.
IMPOSTOR = r"""
import json, os, socket, sys, threading
path, table = "/run/csm/http/http.sock", json.loads(sys.argv[1])
if os.path.lexists(path):
    os.unlink(path)
s = socket.socket(socket.AF_UNIX)
s.bind(path)
os.chmod(path, 0o660)
s.listen(64)
print("listening", flush=True)
def serve(c):
    asked = b""
    while b"\r\n\r\n" not in asked:
        piece = c.recv(65536)
        if not piece:
            return
        asked += piece
    where = asked.split(b" ")[1].decode().split("?")[0]
    c.sendall(table.get(where, table["/"]).encode("latin-1"))
    c.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""


def answer(body, *lines, kind="text/html"):
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *lines, "", body])


SECOND = answer("the second", "X-Second: head", 'Clear-Site-Data: "cookies"')
WORKER = "self.onfetch = event => event.respondWith(new Response('<h1>drawn by a worker</h1>', {headers: {'Content-Type': 'text/html'}}))"
# Each sets a cookie that is named like ours, as browsers take it and nginx may not see it.
SPELLINGS = ["; Path=/; Secure", "; Path=/;\tSecure", ";\tPath=/;\tSECURE", "; secure\t; path=/", "; Path=/; Secure; HttpOnly; SameSite=None"]

TABLE = {
    "/": answer("<h1>bait</h1>"),
    "/early-hints": "HTTP/1.1 103 Early Hints\r\nX-First: head\r\n\r\n" + SECOND + SECOND,
    "/continue": "HTTP/1.1 100 Continue\r\n\r\n" + SECOND + SECOND,
    "/no-status": SECOND.replace("HTTP/1.1", "HTTP:1.1") + SECOND,
    "/worker.js": answer(WORKER, "Service-Worker-Allowed: /", kind="text/javascript"),
    "/below/worker.js": answer(WORKER, "Service-Worker-Allowed: /", kind="text/javascript"),
    "/below/": answer("<h1>below</h1>"),
} | {f"/cookies/{number}": answer("<h1>cookies</h1>", f"Set-Cookie: __Host-csm=X{how}", f"Set-Cookie: csm-dan=X{how}", f"Set-Cookie: csm-dan=X{how.replace('ecure', 'ame').replace('ECURE', 'AME')}")
     for number, how in enumerate(SPELLINGS)}  # fmt: skip


@pytest.fixture(scope="module")
def cookies(product):
    """Everybody's session."""
    found = {}
    for name in product.people[:2]:
        with product.visitor(name) as client:
            found[name] = client.cookie_header()
    return found


@pytest.fixture(scope="module", autouse=True)
def impostors(host, product, cookies):
    """In both workspaces."""
    started = [host.start(*product.inside_argv(name, "python3", "-c", IMPOSTOR, json.dumps(TABLE)), text=True) for name in PORTS]
    for one in started:
        assert one.stdout.readline() == "listening\n"
    yield
    for name in PORTS:
        product.csm("stop", name)
    for one in started:
        one.communicate(timeout=20 / pace.SLOWEST)


TWO_HEADS = ["/early-hints", "/continue", "/no-status"]


@pytest.mark.parametrize("path", TWO_HEADS)
def test_a_second_head_answers_no_second_request(host, pki, cookies, path):
    """A34. Whatever follows an answer of a workspace on a connection over HTTP/1.1, no other request is answered there: neither one
    of another browser behind the same proxy, nor one for another host."""
    first = raw.request(path=path, Cookie=cookies["dan"], Connection="keep-alive")
    for name, who in ((DAN, "dan"), (ALICE, "alice")):
        with raw.tls(host, pki, DAN) as connection:
            connection.sendall(first)
            connection.settimeout(raw.PATIENCE)
            received = b""
            try:
                # To its end: nothing is left to be sent on.
                while piece := connection.recv(65_536):
                    received += piece
                closed = True
            except TimeoutError:
                closed = False
            assert closed, (name, received)
        # The same with the next request sent already.
        answers = raw.ask(host, pki, first + raw.request(path="/_csm/sign-in", name=name, Cookie=cookies[who]))
        assert "/_csm/" not in answers.text and "content-security-policy" not in answers.text.lower()


@pytest.mark.parametrize("path", TWO_HEADS)
def test_over_http2_no_answer_reaches_another_request(host, pki, cookies, path):
    """A34. The connection goes on, and the next request gets its own answer."""
    with streams.Connection(host, pki, DAN) as connection:
        odd = connection.ask(path, Cookie=cookies["dan"])
        connection.settle(whole=False)
        plain = connection.ask("/plain", Cookie=cookies["dan"])
        connection.settle(silence=2)
        assert connection.statuses[plain] == 200 and connection.bodies[plain] == b"<h1>bait</h1>"
        # Whatever a browser makes of it, it is about that one request.
        assert connection.statuses.keys() == {odd, plain}


def test_a_tunnel_answers_no_second_request(host, product, cookies):
    """A34. It is plain HTTP/1.1, for the browser of one person and all ports of localhost."""
    script = r"""
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
ask = lambda path, name, cookie: f"{path} HTTP/1.1\r\nHost: localhost:{sys.argv[1]}\r\n{cookie}{name}\r\n".encode()
form = "password=" + sys.argv[2]
s.sendall(ask("POST /_csm/sign-in", f"Origin: http://localhost:{sys.argv[1]}\r\nContent-Length: {len(form)}\r\n", "") + form.encode())
head = s.recv(65536).decode()
cookie = "; ".join(line.split(": ")[1].split(";")[0] for line in head.split("\r\n") if line.lower().startswith("set-cookie"))
s.sendall(ask("GET /early-hints", "", f"Cookie: {cookie}\r\n") + ask("GET /_csm/sign-out", "Sec-Fetch-Mode: navigate\r\n", f"Cookie: {cookie}\r\n"))
text = b""
while piece := s.recv(65536):
    text += piece
print(text.decode("latin-1"))
"""
    said = host.run("python3", "-c", script, str(PORTS["dan"]), product.passwords["dan"]).stdout
    assert "the second" in said and "Sign out" not in said, said


@pytest.fixture
def dan(product, browser):
    """dan's browser, signed in, on a page of his workspace."""
    page = open_sign_in(browser)
    assert sign_in(page, product.passwords["dan"]).status == 303
    expect(page.locator("h1")).to_have_text("bait")
    yield page
    page.context.close()


def test_no_spelling_of_a_cookie_replaces_a_session(host, browser, dan):
    """A35. Nor does a script of the page."""
    for number in range(len(SPELLINGS)):
        assert dan.goto(browser.url("dan", f"/cookies/{number}")).status == 200
        assert dan.goto(browser.url("dan", "/plain")).status == 200
        expect(dan.locator("h1"), SPELLINGS[number]).to_have_text("bait")
    dan.evaluate("""() => { for (const name of ["__Host-csm", "__Host-csm--x"]) document.cookie = `${name}=X; Path=/; Secure`; }""")
    dan.goto(browser.url("dan", "/plain"))
    expect(dan.locator("h1")).to_have_text("bait")


def open_tunnel(page, product, name):
    page.goto(f"http://localhost:{PORTS[name]}/")
    expect(page.locator("h1")).to_have_text(f"Sign in to {name}")
    assert sign_in(page, product.passwords[name]).status == 303
    expect(page.locator("h1")).to_have_text("bait")


def test_no_tunnel_replaces_anothers_session(product, browser):
    """A35. All ports of localhost share their cookies, and alice's workspace answers with dan's."""
    page = browser.visitor().new_page()
    open_tunnel(page, product, "dan")
    open_tunnel(page, product, "alice")
    for number in range(len(SPELLINGS)):
        page.goto(f"http://localhost:{PORTS['alice']}/cookies/{number}")
        page.goto(f"http://localhost:{PORTS['dan']}/plain")
        expect(page.locator("h1")).to_have_text("bait")
    page.context.close()


REGISTER = """([script, scope]) => navigator.serviceWorker.register(script, {scope})
  .then(() => new Promise(done => setTimeout(done, 200, "registered")), error => error.name)"""


def test_no_worker_of_a_workspace_draws_the_sign_in_page(product, browser, dan):
    """A36. A script whose scope would be everything is refused, and no answer of a workspace widens one's scope."""
    for page, script, scope in (("/", "/worker.js", "/"), ("/", "/worker.js", "/_csm/"), ("/below/", "/below/worker.js", "/"), ("/below/", "/below/worker.js", "/_csm/")):
        dan.goto(browser.url("dan", page))
        assert dan.evaluate(REGISTER, [script, scope]) in ("SecurityError", "TypeError"), (script, scope)
    assert dan.evaluate("() => navigator.serviceWorker.getRegistrations().then(all => all.map(one => one.scope))") == []
    dan.context.clear_cookies()
    dan.goto(browser.url("dan", "/_csm/sign-in"))
    expect(dan.locator("h1")).to_have_text("Sign in to dan")


def test_a_worker_below_its_own_path_is_let_be(product, browser, dan):
    """A36. As the editor's own views of web pages have one."""
    dan.goto(browser.url("dan", "/below/"))
    assert dan.evaluate(REGISTER, ["/below/worker.js", "/below/"]) == "registered"


def test_plain_http1_is_refused_where_that_was_chosen(host, product, pki, cookies):
    """A34. By a key: then no browser takes an answer of a workspace in which a second head could count. Websockets, which know
    no other, stay. The last story here: nginx is reloaded."""
    product.config["nginx"]["plain_http1"] = False
    product.reload()
    product.wait_settled()
    refused = lambda: raw.ask(host, pki, raw.request(path="/plain", Cookie=cookies["dan"])) == [505]  # noqa: E731
    host.wait_for("it is refused", refused)
    with streams.Connection(host, pki, DAN) as connection:
        number = connection.ask("/plain", Cookie=cookies["dan"])
        assert connection.settle().statuses[number] == 200
    opened, status = streams.websocket(host, pki, DAN, cookies["dan"], "/plain")
    opened.close()
    # Asked of whatever is in the editor's place, which knows no websocket.
    assert status == 200
    # The sign-in itself has a program's HTTP/1.1, and a tunnel has no other.
    assert raw.ask(host, pki, raw.request(path="/_csm/sign-in", Sec_Fetch_Mode="navigate")) == [200]
    there = f"http://localhost:{PORTS['dan']}/"
    assert host.sh('curl -s -o /dev/null -w "%{http_code}" "$1"', there) == "401"
