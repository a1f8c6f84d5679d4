"""tests/demo: one host with three workspaces, forwarded to loopback, until Ctrl-C."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time

from . import env, host as hosts, layer
from .pki import Pki
from .product import Product

DOMAIN = "code.localhost"  # browsers take every name below localhost for this machine


def main():
    asked = argparse.ArgumentParser(prog="tests/demo")
    asked.add_argument("port", nargs="?", type=int, default=8443, help="loopback port for the browser")
    asked.add_argument("--until-ready", action="store_true", help="end as soon as all workspaces are ready")
    asked = asked.parse_args()
    # A closed terminal must take the host down just as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    hosts.of_runs_that_died()
    with contextlib.suppress(KeyboardInterrupt):
        show(asked.port, asked.until_ready)
    print("\nThe host is gone, with everything in it.")


def show(port, until_ready):
    say(f"booting a Debian 13 host for https://NAME.{DOMAIN}:{port}")
    with hosts.Host("demo", store=env.product("STORE"), layer=layer.place()) as host:
        place = env.CACHE / "demo"
        pki = Pki(place, DOMAIN)
        product = Product(host, pki, domain=DOMAIN)
        product.config["nginx"]["public_port"] = port
        try:
            product.install()
            say("waiting for the workspaces")
            product.wait_ready()
        except BaseException:
            host.collect(env.artifacts() / "demo")
            print(f"What the host said is in {env.artifacts() / 'demo'}", file=sys.stderr)
            raise
        print(f"\n{product.csm('status').stdout}\nSign in with a browser on this machine (from another: ssh -L {port}:127.0.0.1:{port} HERE):\n")
        for name in product.people:
            print(f"  https://{name}.{DOMAIN}:{port}   password {product.passwords[name]}")
        print(
            f"\nThe certificate is the demo's own: click through the browser's warning, or trust {pki.authority}"
            "\n(made for this run; its key was never written down). Ctrl-C ends the demo.\n"
        )
        sys.stdout.flush()
        asyncio.run(forward(port, host.address, until_ready))


async def forward(port, address, until_ready):
    server = await asyncio.start_server(lambda *near: pass_on(near, address), "127.0.0.1", port)
    with contextlib.suppress(OSError):  # a machine may have no IPv6
        await asyncio.start_server(lambda *near: pass_on(near, address), "::1", port)
    if until_ready:
        return
    async with server:
        await server.serve_forever()


async def pass_on(near, address):
    try:
        far = await asyncio.open_connection(*address)
    except OSError:
        near[1].close()
        return
    await asyncio.gather(pump(near[0], far[1]), pump(far[0], near[1]))


async def pump(source, sink):
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()


def say(what, begun=time.monotonic()):
    print(f"{time.monotonic() - begun:4.0f} s  {what}", file=sys.stderr)


if __name__ == "__main__":
    os.environ.setdefault(env.MARK, env.RUN)
    main()
