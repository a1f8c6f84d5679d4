"""An image that isn't ours: user 1000 `coder`, an entrypoint of its own, a shell, Python, and a `code-server` that only says what
it was given. Small, so also for hosts that are slow."""

import functools
import hashlib
import subprocess

from . import env
from .host import Host
from .once import once

NAME = "localhost/other/editor:1"
ARCHIVE = "/var/lib/other-image.tar"

# Made of the host's own packages. The stand-in speaks just enough to be taken for an editor, and says what it was given.
MAKE = r"""
work=/var/tmp/other-image
mkdir -p "$work/root/usr/local/bin" "$work/root/home/coder/project" "$work/root/home/coder/.local/share/code-server" "$work/root/tmp"
dpkg -L libc6 zlib1g libexpat1 libpython3.13-minimal python3.13-minimal python3-minimal busybox-static |
  sed -E 's|^/||; /^\.$|^usr\/share\/|\/gconv/d' | sort -u |
  tar -C / --no-recursion --files-from=- -cf - bin lib lib64 sbin | tar -C "$work/root" -xf -
for tool in sh cat id; do ln -sf busybox "$work/root/usr/bin/$tool"; done
chmod 1777 "$work/root/tmp"
printf 'root:x:0:0::/root:/bin/sh\ncoder:x:1000:1000::/home/coder:/bin/sh\n' >"$work/root/etc/passwd"
printf '#!/bin/sh\nexec code-server --bind-addr 0.0.0.0:8080 "$@"\n' >"$work/root/usr/bin/entrypoint.sh"
cat >"$work/root/usr/local/bin/code-server" <<'PYTHON'
#!/usr/bin/python3
import json, os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
path = sys.argv[sys.argv.index("--socket") + 1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
os.chmod(path, int(sys.argv[sys.argv.index("--socket-mode") + 1], 8))
listener.listen()
body = json.dumps({"uid": os.getuid(), "argv": sys.argv[1:], "environment": dict(os.environ)}).encode()
while True:
    connection, _ = listener.accept()
    try:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    except OSError:
        pass
    connection.close()
PYTHON
chmod 755 "$work/root/usr/bin/entrypoint.sh" "$work/root/usr/local/bin/code-server"
tar -C "$work/root" -cf "$work/root.tar" .
podman --root "$work/store" import --quiet --change 'ENTRYPOINT=["/usr/bin/entrypoint.sh"]' --change USER=coder \
  "$work/root.tar" "$1" >/dev/null
podman --root "$work/store" save --quiet --output "$2" "$1"
rm -rf "$work"
"""


@functools.cache
def _archive():
    """Made once, in a host that is fast at it."""
    tree = subprocess.run([env.LAB / "bin" / "tree"], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    kept = env.CACHE / f"other-image-{hashlib.sha256((tree.stdout + MAKE).encode()).hexdigest()[:12]}.tar"
    once(kept, _make)
    return kept


def _make(new):
    with Host("other-image") as host:
        host.sh(MAKE, NAME, ARCHIVE, timeout=240)
        new.write_bytes(host.get(ARCHIVE))


def put(host):
    """Leaves the archive on the host."""
    host.put(ARCHIVE, _archive())


def only(product, *names):
    """For CONFIGURE: nobody but these, on this image; where everything is slow, and which editor it is is of no account."""
    put(product.host)
    product.only(*names)
    product.config["image"] = {"name": NAME, "archive": ARCHIVE}
