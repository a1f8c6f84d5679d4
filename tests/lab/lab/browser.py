"""A real Chromium that trusts the lab's authority and finds the lab's domain at one host."""

import functools
import os
import re
import shutil

from playwright.sync_api import expect, sync_playwright

from . import env, pace

# For whatever hangs. What a person is promised to see in seconds is measured with pace.clock().
NET = 60_000 / pace.SLOWEST

FLAGS = [
    "--no-sandbox",  # the lab is root
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
]


@functools.cache
def _playwright():
    """One for the run: its synchronous form can't be started twice."""
    expect.set_options(timeout=NET)
    return sync_playwright().start()


def stop():
    if _playwright.cache_info().currsize:
        _playwright().stop()
        _playwright.cache_clear()


class Browser:
    """Use as a context manager. `visitor()` gives a context with cookies of its own."""

    def __init__(self, host, pki, directory, pictures, domain=env.DOMAIN):
        self.host, self.domain, self.pictures = host, domain, pictures
        self.home = directory / "home"
        pki.trust_in(self.home)
        self._visitors = []

    def __enter__(self):
        address, port = self.host.address
        names = ", ".join(f"MAP {name}:443 {address}:{port}" for name in (f"*.{self.domain}", self.domain))
        home = {"HOME": "", "XDG_CONFIG_HOME": ".config", "XDG_CACHE_HOME": ".cache", "XDG_DATA_HOME": ".local/share"}
        self._chromium = _playwright().chromium.launch(
            executable_path=self._program(),
            args=[*FLAGS, f"--host-resolver-rules={names}"],
            env=os.environ | {name: str(self.home / below) for name, below in home.items()},
        )
        return self

    def __exit__(self, *_):
        self._chromium.close()

    def _program(self):
        """Chromium ends connections, and with them requests, whenever this machine's networks change, which they do with
        every host that comes or goes. So it gets the networks of its own host, which stay as they are."""
        chromium = shutil.which("chromium")
        if self.host.kind != "ns":
            return chromium
        program = self.home / "chromium"
        pid = (self.host.directory / "pid").read_text().strip()
        program.write_text(f'#!/bin/sh\nexec nsenter --net=/proc/{pid}/ns/net {chromium} "$@"\n')
        program.chmod(0o755)
        return str(program)

    def visitor(self, **options):
        options = {"viewport": {"width": 1360, "height": 850}, "locale": "en-US"} | options
        context = self._chromium.new_context(**options)
        context.set_default_timeout(NET)
        self._visitors.append(context)
        return context

    def url(self, name, path="/"):
        return f"https://{name}.{self.domain}{path}"

    def picture(self, page, name):
        """Keeps a screenshot with the run."""
        self.pictures.mkdir(parents=True, exist_ok=True)
        place = self.pictures / f"{re.sub('[^a-z0-9-]+', '-', name.lower())}.png"
        page.screenshot(path=str(place))
        return place

    def collect(self, directory):
        """Pictures of everything open. Never raises: it runs when something is broken already."""
        directory.mkdir(parents=True, exist_ok=True)
        for number, page in enumerate(page for context in self._visitors for page in context.pages):
            try:
                page.screenshot(path=str(directory / f"page-{number}.png"), timeout=5_000)
                (directory / f"page-{number}.html").write_text(f"<!-- {page.url} -->\n{page.content()}")
            except Exception as error:
                (directory / f"page-{number}.txt").write_text(f"not collected: {error}\n")
