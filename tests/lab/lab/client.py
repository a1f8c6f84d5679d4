"""HTTPS and websockets as a program speaks them: the lab's authority, and names that lead to one host."""

import re
import select
import socket
import ssl
import threading

import httpx
from websockets.sync.client import connect

from . import env, pace


class _ToHost(httpx.HTTPTransport):
    """Sends every request to one address, with the name kept in SNI, in Host and in the certificate's check."""

    def __init__(self, address, **options):
        super().__init__(**options)
        self._address = address

    def handle_request(self, request):
        name = request.url.host
        # A request of its own: the client files cookies by the name in the one that it made.
        there = httpx.Request(
            request.method,
            request.url.copy_with(host=self._address[0], port=self._address[1]),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": name},
        )
        return super().handle_request(there)


class _InTurn(ssl.SSLSocket):
    """A connection that one thread may read while another one writes, as websockets does. OpenSSL itself takes one at a time:
    with two, what was written never went out now and then, and nobody answered it."""

    _turn = None

    def do_handshake(self, block=False):
        super().do_handshake(block)
        super().settimeout(0)
        self._turn = threading.Lock()

    def settimeout(self, seconds):
        if not self._turn:
            super().settimeout(seconds)

    def recv(self, *arguments):
        return self._in_turn(super().recv, *arguments)

    def send(self, *arguments):
        return self._in_turn(super().send, *arguments)

    def _in_turn(self, act, *arguments):
        while True:
            waits_for = select.poll()
            try:
                with self._turn:
                    return act(*arguments)
            except ssl.SSLWantReadError:
                waits_for.register(self, select.POLLIN)
            except ssl.SSLWantWriteError:
                waits_for.register(self, select.POLLOUT)
            # Not for ever: it may be closed meanwhile.
            waits_for.poll(1000)


def session_in(cookies):
    """The session among cookies {name: value}, of a workspace's host or of a tunnel."""
    found = [one for one in cookies.items() if re.fullmatch(r"(__Host-csm|csm-[a-z0-9-]+?)--[0-9a-f]{16}", one[0])]
    assert len(found) == 1, cookies
    return found[0]


class Client(httpx.Client):
    """One visitor, with cookies of their own, at https://NAME.DOMAIN. Redirects are not followed unless asked."""

    def __init__(self, host, pki, name, domain=env.DOMAIN, **options):
        self.host, self.pki, self.visited = host, pki, f"{name}.{domain}" if name else domain
        context = pki.context()
        super().__init__(
            base_url=f"https://{self.visited}",
            transport=_ToHost(host.address, verify=context),
            timeout=options.pop("timeout", 20 / pace.SLOWEST),
            trust_env=False,
            **options,
        )

    def __enter__(self):  # httpx refuses it for a client that was used before
        return self

    def __exit__(self, *_):
        self.close()

    def session(self):
        """The cookie that signs it in, as (name, token): of all of ours the one whose name ends in nothing but digits."""
        return session_in({cookie.name: cookie.value for cookie in self.cookies.jar})

    def cookie_header(self):
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.cookies.jar)

    def websocket(self, path, headers=None, origin="own", name=None, **options):
        """Opens a websocket with this visitor's cookies; refusals raise websockets.exceptions.InvalidStatus."""
        address, context = self.host.address, self.pki.context()
        context.sslsocket_class = _InTurn
        visited = name or self.visited
        headers = dict(headers or {})
        if self.cookies.jar and "Cookie" not in headers:
            headers["Cookie"] = self.cookie_header()
        return connect(
            f"wss://{visited}{path}",
            sock=socket.create_connection(address, 20 / pace.SLOWEST),
            ssl=context,
            server_hostname=visited,
            origin=f"https://{visited}" if origin == "own" else origin,
            additional_headers=headers,
            proxy=None,
            legacy=True,  # returns the connection itself
            open_timeout=options.pop("open_timeout", 20 / pace.SLOWEST),
            max_size=None,
            close_timeout=0.5,  # the editor answers no closing frame
            **options,
        )
