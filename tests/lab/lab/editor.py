"""An editor session as the browser holds one: the websocket of the window, past its handshake, kept open.

Messages of VS Code's protocol (src/vs/base/parts/ipc/common/ipc.net.ts) have a head of 13 bytes: kind, number,
number of the last one received, length; whatever fills a websocket frame is a piece of that stream."""

import json
import struct
import threading
import uuid

from . import pace

# For an answer to the handshake.
PATIENCE = 20

HEAD = struct.Struct(">BIII")
REGULAR, CONTROL, ACK = 1, 2, 3


def path():
    """Of a window that was not there before."""
    return f"/?reconnectionToken={uuid.uuid4()}&reconnection=false&skipWebSocketFrames=false"


def handshake():
    """What a window says first: gives what to send, and is sent what came back."""
    answer = yield _control({"type": "auth", "auth": "00000000000000000000", "data": "lab"})
    assert answer["type"] == "sign", answer
    answer = yield _control({"type": "connectionType", "signedData": answer["data"], "desiredConnectionType": 1})
    assert answer["type"] == "ok", answer


def _control(message):
    text = json.dumps(message).encode()
    return HEAD.pack(CONTROL, 0, 0, len(text)) + text


def acknowledge(number):
    return HEAD.pack(ACK, 0, number, 0)


class Stream:
    """Pieces in, messages out."""

    def __init__(self):
        self._buffer = b""

    def feed(self, piece):
        """What is whole by now: [(kind, number, text)]."""
        self._buffer += piece
        whole = []
        while len(self._buffer) >= HEAD.size:
            kind, number, _, length = HEAD.unpack_from(self._buffer)
            if len(self._buffer) < HEAD.size + length:
                break
            whole.append((kind, number, self._buffer[HEAD.size : HEAD.size + length]))
            self._buffer = self._buffer[HEAD.size + length :]
        return whole


class Session:
    """Use as a context manager. `is_alive()` asks the far end on the very same connection."""

    def __init__(self, client):
        self.ended, self._stream = None, Stream()
        self._socket = client.websocket(path(), ping_interval=None)
        try:
            self._shake_hands()
        except BaseException:
            self._socket.close()
            raise
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()
        self._reader.join(5)

    def is_alive(self, deadline=5):
        """A ping is answered by the editor itself; nginx passes frames on unseen."""
        end, answered = pace.clock() + deadline, None
        while not self.ended and pace.clock() < end:
            answered = answered or self._socket.ping()
            if answered.wait(0.5):
                return not self.ended
        return False

    def assert_alive(self):
        assert self.is_alive(), f"the editor's websocket is gone: {self.ended or 'no answer to a ping'}"

    def _shake_hands(self):
        steps = handshake()
        self._socket.send(next(steps))
        while True:
            for kind, _, text in self._stream.feed(self._socket.recv(timeout=PATIENCE / pace.SLOWEST)):
                if kind == CONTROL:
                    try:
                        self._socket.send(steps.send(json.loads(text)))
                    except StopIteration:
                        return

    def _read(self):
        try:
            while True:
                for kind, number, _ in self._stream.feed(self._socket.recv()):
                    if kind == REGULAR:
                        self._socket.send(acknowledge(number))
        except Exception as error:
            self.ended = error
