"""A host without a free watch, which takes a kernel of its own. Row A21."""

import json

from lab import pace, stand_in
from lab.product import DAEMON

NEEDS = {"memory"}
DRAWN = True


def CONFIGURE(product):
    stand_in.only(product, "dan")
    product.config["workspaces"]["dan"] |= {"memory_limit": "300M", "memory_soft_limit": "295M"}


# Takes every watch that a user id may have (x86_64's inotify_init1 and inotify_add_watch), says how many, and holds them.
HOG = r"""
use strict; $| = 1;
my ($place, $taken) = ("/run/lab-watches", 0);
mkdir $place;
my $own = syscall(294, 0);
for my $number (1 .. 5000) {
  my $here = "$place/$number";
  mkdir $here;
  last if syscall(254, $own, $here, 0x100) < 0;
  $taken++;
}
print "$taken\n";
<STDIN>;
"""


def test_without_a_free_watch(host, product):
    """Somebody with root's own user id has taken all of its watches: the daemon starts, starts and stops what it is told,
    reads what it is told to read, and says in its log what it can't do."""
    before = host.sh("cat /proc/sys/fs/inotify/max_user_watches")
    host.sh("echo 3000 >/proc/sys/fs/inotify/max_user_watches")
    # What the daemon has comes free when it ends.
    host.sh('systemctl stop "$1"', DAEMON)
    hog = host.start("perl", "-e", HOG, stdin=-1, text=True)
    try:
        assert int(hog.stdout.readline()) > 1000
        host.sh('systemctl start "$1"', DAEMON)
        product.wait_ready()
        assert "can't watch for changes" in host.journal(DAEMON)
        product.csm("restart", "dan", timeout=180)
        assert product.state("dan") == "ready"
        with product.visitor("dan") as dan:
            product.set_password("dan", product.passwords["dan"] + "-next")
            product.csm("reload")
            host.wait_for("the new password counts", lambda: dan.get("/healthz").status_code == 401, 20)
        product.set_password("dan", product.passwords["dan"])
        product.config["workspaces"]["dan"]["tasks_max"] = 1789
        product.reload()
        host.wait_for("the limit is set", lambda: host.show("csm-dan.service", "TasksMax") == "1789", 20)
        # A kill for want of memory is counted, though nobody hears of it at once.
        done = product.inside("dan", "python3", "-c", "b = bytearray(600 << 20)", check=False, timeout=180)
        assert done.returncode == 137, done
        counts = json.loads(product.csm("top", "dan", "--json").stdout)["workspaces"][0]["counts"]
        assert counts["oom_kills"] > 0
    finally:
        hog.stdin.close()
        hog.wait(60)
        host.sh('echo "$1" >/proc/sys/fs/inotify/max_user_watches', before)
    begun = pace.clock()
    host.sh('systemctl restart "$1"', DAEMON)
    product.wait_ready()
    product.wait_settled()
    print(f"{pace.clock() - begun:.1f} s with watches again")
