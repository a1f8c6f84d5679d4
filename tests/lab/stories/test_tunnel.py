"""The editor through an SSH tunnel: a port of the host's loopback, with the same sign-in."""

import pytest

from lab.lines import Lines

PORT = 18081
ASK = ("curl", "--silent", "--show-error", "--include", "--max-time", "60", "--cookie-jar", "/root/jar", "--cookie", "/root/jar")
UPGRADE = (
    "--http1.1", "--header", "Connection: Upgrade", "--header", "Upgrade: websocket",
    "--header", "Sec-WebSocket-Version: 13", "--header", "Sec-WebSocket-Key: bGFiLWxhYi1sYWItbGFiMQ==",
)  # fmt: skip
SOCKET = "/stable?reconnectionToken=lab&reconnection=false&skipWebSocketFrames=false"


def CONFIGURE(product):
    product.only("dan")
    product.config["workspaces"]["dan"]["port"] = PORT


@pytest.fixture(scope="module")
def ask(host, product):
    """ask("/path", option...) -> (status, whole answer), as a program on the host that the tunnel ends on."""

    def ask(path, *options, name="127.0.0.1", check=True):
        done = host.run(*ASK, *options, f"http://{name}:{PORT}{path}", check=check)
        return int(done.stdout.split()[1]) if done.stdout else 0, done.stdout

    return ask


def post_sign_in(ask, password, name="127.0.0.1"):
    origin = f"Origin: http://{name}:{PORT}"
    return ask("/_csm/sign-in", "--header", origin, "--data-urlencode", f"password={password}", name=name)


def test_nobody_gets_in_unasked(ask):
    status, _ = ask("/")
    assert status == 401
    status, _ = ask(SOCKET, *UPGRADE)
    assert status == 401


def test_a_name_that_is_not_localhosts_is_refused(ask):
    status, answer = ask("/", "--header", "Host: dan.evil.example")
    assert status in (404, 421), answer


def test_the_password_opens_it(ask, product):
    status, _ = post_sign_in(ask, "wrong wrong")
    assert status == 401
    status, answer = post_sign_in(ask, product.passwords["dan"])
    assert status == 303, answer
    cookie = next(line for line in answer.splitlines() if line.lower().startswith("set-cookie:"))
    assert "csm-dan--" in cookie and "__Host-" not in cookie and "HttpOnly" in cookie
    status, answer = ask("/", "--location")
    assert "200 OK" in answer, answer[:1000]


def test_its_websocket_opens_from_its_own_origin_alone(host, ask):
    own = f"Origin: http://127.0.0.1:{PORT}"
    # curl stays on the open websocket, so its answer is read while it does; in a pipe it would keep that to itself.
    curl = host.start("stdbuf", "--output=L", *ASK, *UPGRADE, "--header", own, f"http://127.0.0.1:{PORT}{SOCKET}", text=True)
    with Lines(curl) as answer:
        assert answer.next().split()[1] == "101", answer.seen
    status, answer = ask(SOCKET, *UPGRADE, "--header", "Origin: http://127.0.0.1:18082")
    assert status == 403, answer


def test_the_port_is_on_loopback_alone(host):
    sockets = host.sh("ss --no-header --listening --tcp --numeric 'sport = :%d'" % PORT)
    assert [line.split()[3] for line in sockets.splitlines()] == [f"127.0.0.1:{PORT}"]
