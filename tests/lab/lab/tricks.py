"""Strangers of the worst kind, at the edge of one host: many connections, each with one trick or another, as an end of its own.

    python -m lab.tricks JSON      [address, port, authority, seed, connections, seconds]; prints how often each was played
"""

import contextlib
import json
import random
import socket
import ssl
import struct
import sys
import threading
import time
from types import SimpleNamespace

from . import raw, streams

DOMAIN = "code.example.test"
HOSTS = [f"dan.{DOMAIN}", f"alice.{DOMAIN}", f"sam.{DOMAIN}", f"mallory.{DOMAIN}", DOMAIN]
PATHS = ["/", "/anything", "/_csm/sign-in", "/_csm/sign-out", "/_csm/auth", "/_csm/x", "/healthz", "/proxy/3000/", "/%2e%2e/x", "/" + "y" * 3000]
THREADS = 32
TOKEN = "A" * 43


class Stranger:
    """One at a time plays tricks; what they opened stays open until others need the room."""

    def __init__(self, address, authority, dice, most):
        self._there = SimpleNamespace(address=address), SimpleNamespace(context=lambda: ssl.create_default_context(cafile=authority))
        self._address, self._dice, self._most, self._open, self.played = address, dice, most, [], {}

    def go_on(self, until):
        tricks = [one for name, one in vars(Stranger).items() if name.startswith("_trick_")]
        while time.monotonic() < until:
            trick = self._dice.choice(tricks)
            name = trick.__name__.removeprefix("_trick_")
            with contextlib.suppress(OSError, AssertionError):
                trick(self)
                self.played[name] = self.played.get(name, 0) + 1
            while len(self._open) > self._most:
                self._close(self._open.pop(self._dice.randrange(len(self._open))))
        for one in self._open:
            self._close(one)

    def _close(self, one):
        with contextlib.suppress(OSError):
            one.__exit__(None, None, None)

    def _host(self):
        return self._dice.choice(HOSTS)

    def _path(self):
        return self._dice.choice(PATHS)

    def _h2(self, window=0):
        self._open.append(streams.Connection(*self._there, self._host(), window))
        return self._open[-1]

    def _h1(self):
        self._open.append(raw.tls(*self._there, self._host()))
        self._open[-1].settimeout(2)
        return self._open[-1]

    def _trick_answers_untaken(self):
        one = self._h2()
        for _ in range(streams.MOST):
            one.ask(self._path(), Sec_Fetch_Mode=self._dice.choice(["navigate", None]))
        one.settle(silence=0.05, whole=False)

    def _trick_sessions_made_up(self):
        one = self._h2()
        for number in range(streams.MOST):
            one.ask(self._path(), Cookie=f"__Host-csm={number:043d}")
        one.settle(silence=0.05, whole=False)

    def _trick_a_thousand_streams(self):
        one = self._h2(window=65_535)
        for _ in range(1000):
            one.ask(self._path())
        one.settle(silence=0.05)

    def _trick_resets(self):
        one = self._h2()
        for _ in range(200):
            number = one.ask(self._path())
            one._send(raw.frame(raw.RESET, 0, number, struct.pack(">I", 8)))
        one.settle(silence=0.05)

    def _trick_malformed(self):
        one = self._h2()
        for _ in range(streams.MOST):
            one.ask(self._path(), Host="elsewhere")
        one.settle(silence=0.05, whole=False)

    def _trick_much_of_a_head(self):
        if self._dice.random() < 0.5:
            self._h1().sendall(raw.request(path=self._path(), name=self._host(), X_A="a" * 100_000))
        else:
            self._h2().ask(self._path(), X_A="a" * 16_000)

    def _trick_half_a_head(self):
        self._h1().sendall(b"GET / HTTP/1.1\r\nHost: dan.code.example.test\r\nX-Slow: ")

    def _trick_half_a_handshake(self):
        one = socket.create_connection(self._address, 5)
        one.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        self._open.append(one)

    def _trick_nothing_said(self):
        self._open.append(socket.create_connection(self._address, 5))

    def _trick_an_endless_body(self):
        one = self._h1()
        one.sendall(raw.request("POST", self._path(), name=self._host(), Transfer_Encoding="chunked", Connection="keep-alive"))
        for _ in range(16):
            one.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")

    def _trick_an_endless_body_over_http2(self):
        one = self._h2()
        for _ in range(8):
            one.say(one.ask(self._path(), "POST", ends=False), b"x" * 8000)
        one.settle(silence=0.05, whole=False)

    def _trick_half_a_form(self):
        origin = f"https://{HOSTS[0]}"
        self._h1().sendall(raw.request("POST", "/_csm/sign-in", b"password=x", Origin=origin, Content_Length="15000", Connection="keep-alive"))

    def _trick_a_guess(self):
        origin = f"https://{HOSTS[0]}"
        self._h1().sendall(raw.request("POST", "/_csm/sign-in", b"password=x", Origin=origin, Content_Length="10", Connection="keep-alive"))

    def _trick_pages_in_a_row(self):
        one = self._h1()
        one.sendall(raw.request(path="/_csm/sign-in", Sec_Fetch_Mode="navigate", Connection="keep-alive") * 50)


def main(address, port, authority, seed, connections, seconds):
    until = time.monotonic() + seconds
    strangers = [Stranger((address, port), authority, random.Random(f"{seed} {number}"), connections // THREADS) for number in range(THREADS)]
    threads = [threading.Thread(target=one.go_on, args=[until]) for one in strangers]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    played = {}
    for one in strangers:
        for name, count in one.played.items():
            played[name] = played.get(name, 0) + count
    print(json.dumps(played))


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
