"""What was stopped stays stopped, and what ran runs: over a daemon that is killed, and a reboot of the machine."""

from lab.product import DAEMON

NEEDS = {"reboot"}
DRAWN = True


def CONFIGURE(product):
    product.only("dan", "sam")


def test_what_was_stopped_stays_stopped_over_kill_and_reboot(host, product):
    product.wait_ready("dan", "sam")
    product.csm("stop", "dan")
    pid = product.daemon_pid()
    host.sh('kill -KILL "$1"', str(pid))
    host.wait_for("the daemon is another process", lambda: product.daemon_pid() not in (0, pid), 30)
    product.wait_ready("sam")
    assert product.state("dan") == "stopped"

    host.reboot()
    host.wait_for("the daemon is up", lambda: host.show(DAEMON, "ActiveState") == "active", 60)
    product.wait_ready("sam", deadline=60)
    assert product.state("dan") == "stopped"
    assert product.workspace("dan")["intent"]["running"] is False
    assert host.show("csm-dan.service", "LoadState") == "not-found"
    with product.visitor("sam") as sam:
        assert sam.get("/healthz").status_code == 200
    product.wait_settled()
