"""A workspace that takes whatever it can get of descriptors and of the disk: F15. Its neighbours are served as before, and
the admin ends it at once. A fork bomb is in stories/test_fork_bomb_vm.py, memory in test_limits_vm.py."""

import contextlib
import time

from lab import latency
from lab.invariants import plant_canary

# Neighbours' answers are compared with those before it.
ALONE = True
# On the wall: pace.clock() would go slower for what the bomb itself keeps the machine from, and nobody else is there to.
CLOCK = time.monotonic
SAMPLES = 320
# Everybody's homes, on a file system of their own, as docs/operations.md advises.
HOMES = "/var/lib/vscode"
PROCESSES = 16
DESCRIPTORS = r"""
import os, sys, time
held = []
while True:
    try:
        held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        if sys.stdout:
            print(error.errno, len(held), flush=True)
            sys.stdout = None
        time.sleep(0.01)
"""


def CONFIGURE(product):
    plant_canary(product)
    product.only("dan", "sam")
    product.host.sh('mkdir -p "$1"; mount -t tmpfs -o size=256m,mode=700 lab-small "$1"', HOMES)


@contextlib.contextmanager
def beside(product, bomb, has_gone_off):
    """With the bomb in sam's workspace, and dan's answers compared with those before."""
    dans = lambda: {"a neighbour's /healthz": latency.of_health(product, "dan", SAMPLES)}  # noqa: E731
    before = dans()
    bomb = product.host.start(*product.inside_argv("sam", *bomb))
    try:
        has_gone_off(bomb)
        latency.assert_stays_unnoticed(before, dans)
        yield
    finally:
        bomb.kill()
        bomb.wait()


def stopped(sam):
    """Seconds that it took."""
    begun = CLOCK()
    assert sam.stop() == 0
    return CLOCK() - begun


def without_a_bomb(sam):
    """How long it takes to stop what does nothing, on this machine with whatever else it has to do."""
    took = stopped(sam)
    assert sam.start() == 0
    return took


def ended_by_the_admin(product, sam, before):
    took = stopped(sam)
    print(f"csm stop took {took:.1f} s beside it, {before:.1f} s before")
    assert took < max(5, 3 * before)
    assert sam.is_stopped() and not product.processes(product.ids("sam"))


def test_f15_a_descriptor_bomb(host, product, invariants, sam):
    """Each process has its limit, and so has the whole workspace by the number of its processes and its memory."""
    most = int(product.inside_sh("sam", "ulimit -Hn"))
    script = f'for n in {{1..{PROCESSES}}}; do python3 -c "$1" & done; wait'

    def has_gone_off(bomb):
        for _ in range(PROCESSES):
            errno, held = map(int, bomb.stdout.readline().split())
            assert errno == 24 and most - 20 < held <= most, (errno, held, most)  # EMFILE

    before = without_a_bomb(sam)
    with beside(product, ("bash", "-c", script, "lab", DESCRIPTORS), has_gone_off):
        held = host.sh("cat /proc/sys/fs/file-nr").split()[0]
        print(f"{PROCESSES} processes at their limit of {most}; {held} open files on this machine")
        invariants.quick()
        ended_by_the_admin(product, sam, before)
    assert sam.start() == 0
    invariants.quick()


def test_f15_a_disk_bomb(host, product, invariants, sam):
    """Homes share their file system, and so do containers; nothing of ours divides it. What others can't do then is save."""
    script = 'cd "$1"; while :; do head -c 1M /dev/zero >>bomb || sleep 0.05; done 2>/dev/null'
    is_full = lambda _: host.wait_for("not a byte is left", lambda: host.sh('df --output=avail "$1" | tail -n 1', HOMES).strip() == "0", 60)  # noqa: E731
    saves = lambda name: product.inside(name, "sh", "-c", "head -c 9000 /dev/zero >/home/coder/project/more && rm /home/coder/project/more", check=False).returncode == 0  # noqa: E731
    before = without_a_bomb(sam)
    with beside(product, ("bash", "-c", script, "lab", "/home/coder/project"), is_full):
        assert not saves("dan")
        invariants.quick()
        ended_by_the_admin(product, sam, before)
    # As a full disk stays: everybody works on, and the next one is started.
    assert sam.start() == 0
    invariants.quick()
    host.sh('rm "$1/sam/workspace/bomb"', HOMES)
    assert saves("dan") and saves("sam")
    invariants.check()
