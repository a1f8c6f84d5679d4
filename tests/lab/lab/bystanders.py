"""People at work, whom nothing that happens to the daemon or to somebody else's workspace may concern."""

import threading
import time

import httpx

from . import pace

# A fault of one person delays nobody else's request by more (I7), in seconds of pace.clock(), or of the clock that is given.
MOST_DELAY = 1.0
# Between two requests of somebody who is at work.
EVERY = 0.1


class Bystanders:
    """Each has an open editor window, and a browser that asks for something all the time. The caller closes them."""

    def __init__(self, product, *names, clock=pace.clock):
        self.product, self.names = product, names
        self.clients = {name: product.visitor(name) for name in names}
        self.windows = {name: product.session(client) for name, client in self.clients.items()}
        self.pids = product.main_pids(*names)
        self._asking = {name: _Asking(product.same_visitor(client), clock) for name, client in self.clients.items()}

    def check(self, most_delay=MOST_DELAY):
        """The windows are open, the same processes serve them, and every request since the last check was answered."""
        for name, window in self.windows.items():
            assert window.is_alive(), f"{name}'s window is gone: {window.ended or 'no answer to a ping'}"
        pids = self.product.main_pids(*self.names)
        assert pids == self.pids, f"stopped under somebody at work: {self.pids} became {pids}"
        for name, asking in self._asking.items():
            codes, longest = asking.since()
            assert codes == {200}, f"{name}'s requests were answered {codes}"
            assert longest <= most_delay, f"{name} waited {longest:.2f} s for an answer; {most_delay:.2f} s are allowed"

    def close(self):
        for one in (*self._asking.values(), *self.clients.values()):
            one.close()
        for window in self.windows.values():
            window.__exit__()


class _Asking:
    """Asks for the editor's health again and again, on a connection of its own."""

    def __init__(self, client, clock):
        self._client, self._clock, self._answers, self._end = client, clock, [], threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self):
        while not self._end.wait(EVERY):
            begun = self._clock()
            try:
                code = self._health()
            except Exception as error:
                code = repr(error)
            self._answers.append((code, self._clock() - begun))

    def _health(self):
        try:
            return self._client.get("/healthz").status_code
        except httpx.RemoteProtocolError:
            # An nginx that reads new files closes idle connections, also the one that a request is just being sent on.
            # Browsers ask once more on another (RFC 9110, 9.2.2).
            return self._client.get("/healthz").status_code

    def since(self):
        """Codes and the longest wait since this was asked last; waits for an answer to what is asked from now on."""
        end, before = pace.clock() + 20, len(self._answers)
        while len(self._answers) < before + 2 and pace.clock() < end:
            time.sleep(0.02)
        answers, self._answers = self._answers, []
        assert answers, "no request was answered in 20 s"
        return {code for code, _ in answers}, max(took for _, took in answers)

    def close(self):
        self._end.set()
        self._thread.join(25)
        self._client.close()
