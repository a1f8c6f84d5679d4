"""Hundreds of open editor windows, in tests/long a thousand, while everything of ours is replaced: F3. nginx speaks to the editors
itself, so that none of them notices anything."""

import contextlib
import os

from lab.bystanders import MOST_DELAY
from lab.crowd import PATIENCE, Crowd
from lab.invariants import plant_canary
from lab.product import DAEMON, GATEWAY

# Of each of three people. tests/long opens 334.
WINDOWS = int(os.environ.get("CSM_LAB_WINDOWS", "100"))


def CONFIGURE(product):
    plant_canary(product)
    # As docs/nginx.md asks for so many. Debian's 768 for each worker are less than a thousand windows take.
    product.host.sh("sed -i 's/worker_connections .*/worker_connections 4096;/' /etc/nginx/nginx.conf")


def others(host, before):
    """Neither unit's process is the one that it was."""
    now = {unit: host.show(unit, "MainPID") for unit in before}
    return all(pid not in ("0", before[unit]) for unit, pid in now.items())


def workers(host):
    """nginx's, without those that only wait for their last connection."""
    return set(host.sh("pgrep -f '^nginx: worker process$'").split())


def test_f3_a_thousand_windows_while_everything_of_ours_is_replaced(host, product, invariants):
    units = (DAEMON, GATEWAY)
    with contextlib.ExitStack() as ends:
        visitors = [ends.enter_context(product.visitor(name)) for name in product.people]
        crowd = ends.enter_context(Crowd(visitors, WINDOWS))
        asked = lambda: {visitor.get("/healthz").status_code for visitor in visitors} == {200}  # noqa: E731

        def nobody_noticed(what, most_delay=MOST_DELAY):
            print(f"{what}: of {WINDOWS * len(visitors)} windows none is gone, the longest wait was {crowd.check():.2f} s")
            invariants.bystanders.check(most_delay)

        # Opening so many at once is work for the editors, which others wait for; what comes now is not.
        nobody_noticed("at rest", most_delay=PATIENCE)

        # As the document says it, with another file in the program's place.
        before = {unit: host.show(unit, "MainPID") for unit in units}
        host.sh('install -m 0755 /usr/src/csm /usr/local/bin/csm; systemctl daemon-reload; systemctl restart "$@"', *units)
        assert asked() and others(host, before)
        nobody_noticed("an upgrade")

        before = {unit: host.show(unit, "MainPID") for unit in units}
        host.sh('systemctl kill --signal=KILL "$@"', *units)
        host.wait_for("both are there again", lambda: others(host, before) and asked() and product.status(), 20)
        # systemd starts the daemon after a second, and who asks for a page is answered by a gateway that has heard from it.
        nobody_noticed("both killed", most_delay=1 + MOST_DELAY)

        # A change that nginx has to read: new workers, and old ones that stay for those who are connected.
        generation, old = product.status()["nginx"]["generation"], workers(host)
        product.config["workspaces"]["sam"]["port"] = 8101
        product.reload()
        host.wait_for("nginx serves it", lambda: product.status()["nginx"]["generation"] != generation, 20)
        host.wait_for("there are new workers", lambda: workers(host) and not workers(host) & old, 20)
        assert asked()
        nobody_noticed("another configuration of nginx")
        invariants.check()
    invariants.quick()
