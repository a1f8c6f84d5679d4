"""HTTP/2 as no browser speaks it: many requests at once on one connection, windows that never open, bodies without an end.

Nothing is checked on the way out. What comes back is read by `settle`, until every request has its answer or the far end has
said no more for a while."""

import socket
import ssl
import struct
import time

from . import raw

_WINDOW = 4
_PING, _WINDOW_UPDATE = 6, 8
# As many requests as nginx takes at once on a connection, less one.
MOST = 127
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Connection:
    """One connection. `window`: how many bytes of each answer's body the far end may send unasked."""

    def __init__(self, host, pki, sni, window=65_535):
        self._socket = raw.tls(host, pki, sni, ("h2",))
        assert self._socket.selected_alpn_protocol() == "h2"
        self._buffer, self._next, self.sni = b"", 1, sni
        # Status, and what came with it, of each request by its number; whose answers are whole; those that were cut off.
        self.statuses, self.bodies, self.whole, self.reset, self.gone = {}, {}, set(), set(), False
        self._send(PREFACE + raw.frame(raw.SETTINGS, 0, 0, struct.pack(">HI", _WINDOW, window)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def ask(self, path, method="GET", ends=True, authority=None, **fields):
        """Sends a request, and gives its number. `_` in a name stands for `-`."""
        pseudo = {":method": method, ":scheme": "https", ":authority": authority or self.sni, ":path": path}
        named = {name.replace("_", "-").lower(): value for name, value in fields.items() if value is not None}
        block = b"".join(b"\0" + raw.literal(name) + raw.literal(value) for name, value in (pseudo | named).items())
        number, self._next = self._next, self._next + 2
        self._send(raw.frame(raw.HEADERS, raw.END_HEADERS | (raw.END_STREAM if ends else 0), number, block))
        return number

    def say(self, number, data):
        """More of a request's body."""
        for at in range(0, len(data), 16_000):
            self._send(raw.frame(raw.DATA, 0, number, data[at : at + 16_000]))

    def settle(self, silence=raw.SILENCE, whole=True):
        """Reads until each request has its status (and its answer's end, if `whole`), or until nothing came for that long."""
        while not self.gone and not self._is_settled(whole):
            self._socket.settimeout(silence)
            try:
                piece = self._socket.recv(262_144)
            except (TimeoutError, ConnectionError, ssl.SSLError):
                break
            self.gone = not piece
            self._take(piece)
        return self

    def count(self, status):
        return sum(one == status for one in self.statuses.values())

    def _is_settled(self, whole):
        asked = set(range(1, self._next, 2))
        return asked <= (self.whole if whole else self.statuses.keys() | self.reset)

    def _take(self, piece):
        self._buffer += piece
        while len(self._buffer) >= raw.FRAME.size:
            high, low, kind, flags, number = raw.FRAME.unpack_from(self._buffer)
            end = raw.FRAME.size + (high << 16 | low)
            if len(self._buffer) < end:
                return
            body, self._buffer = self._buffer[raw.FRAME.size : end], self._buffer[end:]
            self._read(kind, flags, number, body)

    def _read(self, kind, flags, number, body):
        if kind == raw.SETTINGS and not flags & raw.ACK:
            self._send(raw.frame(raw.SETTINGS, raw.ACK, 0, b""))
        elif kind == _PING and not flags & raw.ACK:
            self._send(raw.frame(_PING, raw.ACK, 0, body))
        elif kind == raw.HEADERS:
            self.statuses.setdefault(number, raw.status_of(body))
        elif kind == raw.DATA:
            self.bodies[number] = self.bodies.get(number, b"") + body
            if body:
                self._send(raw.frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", len(body))))
        elif kind == raw.RESET:
            self.reset.add(number)
            self.whole.add(number)
        elif kind == raw.GOAWAY:
            self.gone = True
        if kind in (raw.HEADERS, raw.DATA) and flags & raw.END_STREAM:
            self.whole.add(number)

    def _send(self, data):
        try:
            self._socket.settimeout(raw.PATIENCE)
            self._socket.sendall(data)
        except (TimeoutError, ConnectionError, ssl.SSLError):
            self.gone = True


def websocket(host, pki, name, cookie, path):
    """An open websocket, as a socket, and its status: 101 if it was let in."""
    connection = raw.tls(host, pki, name)
    connection.sendall(
        raw.request(path=path, Host=name, Cookie=cookie, Origin=f"https://{name}", Connection="Upgrade", Upgrade="websocket",
                    Sec_WebSocket_Version="13", Sec_WebSocket_Key="bGFiLWxhYi1sYWItbGFiMQ==")
    )  # fmt: skip
    return connection, int(connection.recv(4096).split(b" ", 2)[1])


def took(ask):
    """Seconds, and what came of it."""
    begun = time.monotonic()
    return ask(), time.monotonic() - begun


def is_open(connection):
    """Whether the far end has not closed a connection on which nothing is to come."""
    connection.settimeout(0.2)
    try:
        return bool(connection.recv(65_536))
    except TimeoutError:
        return True
    except (ConnectionError, ssl.SSLError, socket.timeout):
        return False
