"""The disk answers with errors (EIO): F9. At each call that writes an intent the old one stays, in force and on disk, who
asked is told, and the next one who asks is served."""

import pytest

from lab.invariants import plant_canary
from lab.tracer import Tracer

INTENTS = "/var/lib/code-server-multi/intent"
# The new file, until it has its name.
NEW = f"{INTENTS}/.sam.toml.new"
# What fails, of what strace(1) is told to look at.
CALLS = {
    "open the directory": ("openat", INTENTS),
    "write it": ("write", NEW),
    "sync it": ("fsync", NEW),
    "rename it": ("/^rename", INTENTS),
    "sync the directory": ("fsync", INTENTS),
}


def CONFIGURE(product):
    plant_canary(product)
    product.only("dan", "sam")


@pytest.mark.parametrize("what", CALLS)
def test_f9_the_disk_fails_to(host, product, invariants, sam, what):
    names, path = CALLS[what]
    assert sam.start() == 0
    before, pid = host.sh('cat "$1/sam.toml" 2>/dev/null || true', INTENTS), sam.pid()
    tracer = Tracer(host, product.daemon_pid(), "-P", path, "-e", f"trace={names}", "-e", f"inject={names}:error=EIO")
    try:
        done = product.csm("stop", "sam", check=1)
        assert "Input/output error" in done.stderr and "nothing was changed" in done.stderr, done
        invariants.bystanders.check()
    finally:
        tracer.end()
    assert any("INJECTED" in line for _, _, line in tracer.calls()), tracer.calls()
    # Nothing was done, nothing was half done, and the next daemon is of the same mind.
    assert sam.state() == "ready" and sam.pid() == pid
    assert host.sh('cat "$1/sam.toml" 2>/dev/null || true', INTENTS) == before
    assert not host.sh('find "$1" -name ".*" -type f', INTENTS)
    invariants.restarting_changes_nothing()
    assert sam.pid() == pid
    assert sam.stop() == 0 and sam.is_stopped() and sam.intent()["running"] is False
    assert sam.start() == 0
    invariants.quick()


def test_after_all_of_it(invariants):
    invariants.check()
