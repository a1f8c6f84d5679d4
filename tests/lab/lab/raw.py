"""Requests as no well-behaved client sends them: bytes over TLS or a unix socket, any name in SNI, any field in HTTP/2.

Nothing is checked or repaired on the way out; what comes back is read until the far end closes or falls silent."""

import base64
import json
import re
import socket
import ssl
import struct

from . import pace

# Whoever has answered, and was not asked to close the connection, says no more.
SILENCE = 5
# Nobody else says nothing for so long, on a machine that has other work.
PATIENCE = SILENCE / pace.SLOWEST


def tls(host, pki, sni, protocols=("http/1.1",)):
    """A connection to port 443. `sni` may be None: then the certificate is checked, but against no name."""
    context = pki.context()
    context.check_hostname = sni is not None
    context.set_alpn_protocols(list(protocols))
    return context.wrap_socket(socket.create_connection(host.address, PATIENCE), server_hostname=sni)


class Answers(list):
    """The statuses of all answers that came, in order."""

    def __init__(self, received):
        self.text = received.decode("latin-1")
        super().__init__(int(status) for status in re.findall(r"HTTP/1\.[01] ([0-9]{3}) [A-Z]", self.text))

    def header(self, name):
        """The values of a header, of all answers together."""
        return re.findall(rf"^{re.escape(name)}: (.*)\r$", self.text, re.M | re.I)


def ask(host, pki, request, sni="dan.code.example.test"):
    """Sends one piece of bytes and returns what was answered."""
    with tls(host, pki, sni) as connection:
        return Answers(_say(connection, request))


_ASK_UNIX = r"""
import base64, json, socket, sys
for sent in json.load(sys.stdin):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(sys.argv[1])
    received = b""
    try:
        s.sendall(base64.b64decode(sent))
        while piece := s.recv(65536):
            received += piece
    except OSError:
        pass
    print(base64.b64encode(received).decode())
"""


def ask_unix(host, path, requests):
    """The same, as root, on a socket in the host: each piece on a connection of its own."""
    sent = json.dumps([base64.b64encode(one).decode() for one in requests])
    return [Answers(base64.b64decode(line)) for line in host.run("python3", "-c", _ASK_UNIX, path, input=sent).stdout.split("\n")[:-1]]


def request(method="GET", path="/", body=b"", name="dan.code.example.test", **fields):
    """A request in bytes. A field of value None is left out, of a list is there several times; `_` stands for `-`."""
    lines = [f"{method} {path} HTTP/1.1"]
    for field, value in {"Host": name, "Connection": "close", **fields}.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                lines.append(f"{field.replace('_', '-')}: {one}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def _say(connection, sent):
    received = b""
    connection.settimeout(PATIENCE)
    try:
        connection.sendall(sent)
        while piece := connection.recv(65536):
            received += piece
            if b"Connection: close" not in sent:
                connection.settimeout(SILENCE)
            if _is_over(received, sent):
                break
    except (TimeoutError, ConnectionError, ssl.SSLError):
        pass
    return received


def _is_over(received, sent):
    """A final answer without a body that was not asked to close the connection would otherwise cost the whole silence."""
    return b"Connection: close" not in sent and received.endswith(b"\r\n0\r\n\r\n")


# HTTP/2 (RFC 9113) as far as it takes to send one request and read its status. Fields go out as literals that are in no
# table (RFC 7541, 6.2.2), so that any name and value can be sent.

FRAME = struct.Struct(">BHBBI")
DATA, HEADERS, RESET, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
# The statuses of the static table; nginx writes all others out in full.
_STATUS = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}


def h2(host, pki, fields, sni="dan.code.example.test"):
    """The status of a request with these fields [(name, value)], pseudo-headers included; "reset" or "goaway" if it was
    refused as a breach of protocol; and the text of the answer."""
    block = b"".join(b"\0" + literal(name) + literal(value) for name, value in fields)
    with tls(host, pki, sni, ("h2",)) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_STREAM | END_HEADERS, 1, block))
        status, text, stream = None, b"", _Stream(connection)
        while True:
            kind, flags, body = stream.frame()
            if kind == SETTINGS and not flags & ACK:
                connection.sendall(frame(SETTINGS, ACK, 0, b""))
            elif kind == HEADERS and status is None:
                status = status_of(body)
            elif kind == DATA:
                text += body
            elif kind in (RESET, GOAWAY):
                return ("reset" if kind == RESET else "goaway"), text.decode(errors="replace")
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                return status, text.decode(errors="replace")


class _Stream:
    def __init__(self, connection):
        self._connection, self._buffer = connection, b""

    def frame(self):
        high, low, kind, flags, _ = FRAME.unpack(self._take(FRAME.size))
        return kind, flags, self._take(high << 16 | low)

    def _take(self, length):
        while len(self._buffer) < length:
            piece = self._connection.recv(65536)
            if not piece:
                raise ConnectionError("closed in the middle of a frame")
            self._buffer += piece
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken


def frame(kind, flags, stream, body):
    return FRAME.pack(len(body) >> 16, len(body) & 0xFFFF, kind, flags, stream) + body


def literal(text):
    data = text.encode("latin-1")
    if len(data) < 127:
        return bytes([len(data)]) + data
    length, prefix = len(data) - 127, b"\x7f"
    while length >= 128:
        prefix += bytes([length % 128 | 128])
        length //= 128
    return prefix + bytes([length]) + data


def status_of(block):
    # nginx may begin with a change of the table's size (RFC 7541, 6.3).
    while block[0] & 0xE0 == 0x20:
        block = block[1:]
    return _STATUS.get(block[0]) or int(block[2:5])
