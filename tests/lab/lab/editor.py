"""An editor session as the browser holds one: the websocket of the window, past its handshake, kept open.

Messages of VS Code's protocol (src/vs/base/parts/ipc/common/ipc.net.ts) have a head of 13 bytes: kind, number,
number of the last one received, length; whatever fills a websocket frame is a piece of that stream."""

import json
import struct
import threading
import uuid

# An editor that has just started sometimes says nothing to one of its first windows. The browser's gives up after a while
# and opens another connection, and so does ours.
TRIES, PATIENCE = 3, 8

HEAD = struct.Struct(">BIII")
REGULAR, CONTROL, ACK = 1, 2, 3


class Session:
    """Use as a context manager. `is_alive()` asks the far end on the very same connection."""

    def __init__(self, client):
        # The page first, as in a browser, and not only where it leads to: the editor loads most of itself for it, and a window
        # that comes meanwhile was seen to wait for ever.
        client.get("/", follow_redirects=True)
        self.ended = None
        for left in reversed(range(TRIES)):
            self._buffer, self._socket = b"", None
            try:
                self._socket = client.websocket(
                    f"/?reconnectionToken={uuid.uuid4()}&reconnection=false&skipWebSocketFrames=false",
                    ping_interval=None,
                )
                self._shake_hands()
                break
            except BaseException as error:
                if self._socket:
                    self._socket.close()
                if not isinstance(error, TimeoutError) or not left:
                    raise
                print(f"{client.visited}: the editor did not answer a window within {PATIENCE} s; once more")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()
        self._reader.join(5)

    def is_alive(self, deadline=5):
        """A ping is answered by the editor itself; nginx passes frames on unseen."""
        if self.ended:
            return False
        return self._socket.ping().wait(deadline) and not self.ended

    def assert_alive(self):
        assert self.is_alive(), f"the editor's websocket is gone: {self.ended or 'no answer to a ping'}"

    def wait_ended(self, deadline=20):
        self._reader.join(deadline)
        return not self._reader.is_alive()

    def _shake_hands(self):
        self._say({"type": "auth", "auth": "00000000000000000000", "data": "lab"})
        answer = self._control()
        assert answer["type"] == "sign", answer
        self._say({"type": "connectionType", "signedData": answer["data"], "desiredConnectionType": 1})
        answer = self._control()
        assert answer["type"] == "ok", answer

    def _say(self, message):
        text = json.dumps(message).encode()
        self._socket.send(HEAD.pack(CONTROL, 0, 0, len(text)) + text)

    def _control(self):
        while True:
            kind, _, text = self._message(timeout=PATIENCE)
            if kind == CONTROL:
                return json.loads(text)

    def _message(self, timeout=None):
        while len(self._buffer) < HEAD.size or len(self._buffer) < HEAD.size + HEAD.unpack_from(self._buffer)[3]:
            self._buffer += self._socket.recv(timeout=timeout)
        kind, number, _, length = HEAD.unpack_from(self._buffer)
        text = self._buffer[HEAD.size : HEAD.size + length]
        self._buffer = self._buffer[HEAD.size + length :]
        return kind, number, text

    def _read(self):
        try:
            while True:
                kind, number, _ = self._message()
                if kind == REGULAR:
                    self._socket.send(HEAD.pack(ACK, 0, number, 0))
        except Exception as error:
            self.ended = error
