"""More editor windows than anybody has, held by one thread: each is past its handshake and asks the far end for an answer
again and again, so that one that is dropped, or kept waiting, is noticed whenever it happens."""

import asyncio
import json
import resource
import threading
import time

from websockets.asyncio.client import connect

from . import editor, pace

# Between two questions of one window.
EVERY = 3
# Windows that are opened at a time.
AT_ONCE = 16
# An answer takes longer only where nobody is there to give it.
PATIENCE = 20


class Crowd:
    """`each` windows of each client. Use as a context manager."""

    def __init__(self, clients, each):
        self._windows = [_Window(client) for client in clients for _ in range(each)]
        _allow_descriptors(len(self._windows) + 500)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        try:
            self._wait(self._open(), 120 / pace.SLOWEST)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._wait(self._close(), 60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def check(self):
        """Every window has had an answer to what it asked from now on. The longest that any of them waited since this was
        asked last."""
        before = [window.answers for window in self._windows]
        end = pace.clock() + PATIENCE + EVERY
        while any(one.answers < count + 2 and not one.ended for one, count in zip(self._windows, before)) and pace.clock() < end:
            time.sleep(0.05)
        gone = [window.ended or "no answer" for window, count in zip(self._windows, before) if window.ended or window.answers < count + 2]
        assert not gone, f"{len(gone)} of {len(self._windows)} windows are gone, the first one: {gone[0]!r}"
        return max(window.longest() for window in self._windows)

    def _wait(self, work, deadline):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(deadline)

    async def _open(self):
        turn = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(window.open(turn) for window in self._windows))

    async def _close(self):
        await asyncio.gather(*(window.close() for window in self._windows))


class _Window:
    def __init__(self, client):
        self._client, self._socket, self._work = client, None, []
        self.answers, self.ended, self._longest = 0, None, 0.0

    async def open(self, turn):
        async with turn:
            visited, (address, port) = self._client.visited, self._client.host.address
            self._socket = await connect(
                f"wss://{visited}{editor.path()}",
                host=address,
                port=port,
                ssl=self._client.pki.context(),
                server_hostname=visited,
                origin=f"https://{visited}",
                additional_headers={"Cookie": self._client.cookie_header()},
                proxy=None,
                compression=None,
                ping_interval=None,
                open_timeout=PATIENCE / pace.SLOWEST,
                close_timeout=0.1,
                max_size=None,
            )
            async with _patience():
                await self._shake_hands()
        self._work = [asyncio.create_task(self._until_it_ends(work)) for work in (self._read, self._ask)]

    async def close(self):
        for work in self._work:
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        if self._socket:
            self._socket.transport.abort()

    def longest(self):
        longest, self._longest = self._longest, 0.0
        return longest

    async def _shake_hands(self):
        self._stream, steps = editor.Stream(), editor.handshake()
        await self._socket.send(next(steps))
        async for piece in self._socket:
            for kind, _, text in self._stream.feed(piece):
                if kind == editor.CONTROL:
                    try:
                        await self._socket.send(steps.send(json.loads(text)))
                    except StopIteration:
                        return

    async def _until_it_ends(self, work):
        try:
            await work()
        except Exception as error:
            self.ended = self.ended or error

    async def _read(self):
        async for piece in self._socket:
            for kind, number, _ in self._stream.feed(piece):
                if kind == editor.REGULAR:
                    await self._socket.send(editor.acknowledge(number))
        raise ConnectionError("closed by the far end")

    async def _ask(self):
        while True:
            begun = pace.clock()
            async with _patience():
                await (await self._socket.ping())
            self._longest = max(self._longest, pace.clock() - begun)
            self.answers += 1
            await asyncio.sleep(EVERY)


def _patience():
    """Not asyncio.wait_for: in Python 3.11 one that is cancelled in the moment of its answer goes on as if it were not."""
    return asyncio.timeout(PATIENCE / pace.SLOWEST)


def _allow_descriptors(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
