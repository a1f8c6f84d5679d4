"""What one workspace takes of what is counted for a user id. Row A21; without any watch left for root: test_watches_vm.py."""

from lab import pace
from lab.meanwhile import exit_code

# All hosts of this kernel have the same user ids, and share what is counted for them.
ALONE = True

HOG = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
held = []
while (fd := libc.inotify_init1(0)) >= 0:
    held.append(fd)
error = ctypes.get_errno()
watched = 0
for number in range(1_000):
    os.makedirs(f"/tmp/w/{number}")
    if libc.inotify_add_watch(held[0], f"/tmp/w/{number}".encode(), 0x100) < 0:
        break
    watched += 1
print(len(held), error, watched, flush=True)
sys.stdin.read()
"""


def test_watches_used_up_in_one_workspace_are_not_missed_elsewhere(host, product):
    """A21. They are counted for each user id: the daemon notices a new password at once, another workspace starts as ever."""
    with product.visitor("alice") as alice:
        hog = host.start(*product.inside_argv("dan", "python3", "-c", HOG), stdin=-1, text=True)
        try:
            instances, error, watches = map(int, hog.stdout.readline().split())
            assert error == 24 and instances >= 50 and watches > 0, (instances, error, watches)
            product.set_password("alice", "another password")
            begun = pace.clock()
            host.wait_for("the new password counts", lambda: alice.get("/healthz").status_code == 401, 3)
            assert pace.clock() - begun < 1.5  # a second, and the request
            product.csm("restart", "sam")
            assert product.state("sam") == "ready"
        finally:
            hog.stdin.close()
            product.set_password("alice", product.passwords["alice"])
            # The kernel takes its time to give them back, one after the other: on a busy machine a minute.
            host.wait_for("the hog is gone", lambda: not host.sh("pgrep -f 'inotify_add_watc[h]' || true"), 120)
            exit_code(hog, 20)
