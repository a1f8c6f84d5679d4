"""Random histories on a real host: what people and admins do, with the daemon and the gateway killed in between, and all
invariants after each. CSM_LAB_SEED repeats a run, CSM_LAB_HISTORIES makes it longer (tests/long does). Thousands more
are played on a machine that isn't one: tests/it/engine/histories.rs."""

import concurrent.futures
import os
import time

from lab import dice, pace
from lab.invariants import plant_canary
from lab.product import DAEMON, GATEWAY
from lab.subject import RUNS

HISTORIES = int(os.environ.get("CSM_LAB_HISTORIES", "2"))
LENGTH = (3, 7)
ACTS = ("start", "stop", "restart", "change", "change_now", "limit", "remove", "add")


def CONFIGURE(product):
    plant_canary(product)
    product.only("dan", "sam")
    product.host.put(f"/etc/systemd/system/{DAEMON}.d/lab.conf", "[Service]\nRestartSec=20ms\n")


def history(drawn):
    """[(what, killed, after how long)]: each an act, and who is killed that long after it was begun."""
    return [
        (drawn.choice(ACTS), drawn.choice((None, None, DAEMON, DAEMON, GATEWAY)), drawn.uniform(0, 1.2))
        for _ in range(drawn.randint(*LENGTH))
    ]


def play(host, product, sam, pool, events):
    for act, victim, moment in events:
        configured = "sam" in product.config["workspaces"]
        if configured == (act == "add"):
            continue
        if act == "add":
            product.config["workspaces"]["sam"] = sam.table
        elif act == "remove":
            sam.table = product.config["workspaces"].pop("sam")
        doing = pool.submit(sam.again, act)
        if victim:
            # The moment itself, not a wait for anything.
            time.sleep(moment)
            host.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", victim, check=False)
        code = doing.result(90 / pace.SLOWEST)
        host.wait_for("a daemon answers", product.status, 20)
        if code != 0:
            assert victim == DAEMON, f"undisturbed {act} ended with {code}"
            # Whether it was on disk before the daemon died is open; so it is asked for again, as people do.
            assert sam.again(act) == 0, act
        sam.runs = RUNS.get(act, sam.runs)


def as_acknowledged(host, product, sam):
    """Everything that was answered with 0 has come about: by what is on disk, in systemd and inside."""
    table = product.config["workspaces"].get("sam")
    intent = sam.intent()
    assert (intent["running"] if intent else True) is sam.runs, f"{intent}, and what was acknowledged: {sam.runs}"
    if not table or not sam.runs:
        assert sam.is_absent()
        return True
    assert sam.is_ready()
    if "tasks_max" in table:
        assert host.show("csm-sam.service", "TasksMax") == str(table["tasks_max"])
    assert sam.greeting() == table.get("environment", {}).get("GREETING", "")
    return True


def test_every_history_ends_as_desired(host, product, invariants, sam):
    drawn = dice.of("histories")
    sam.runs = True
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for number in range(HISTORIES):
            events = history(drawn)
            what = f"seed {dice.SEED}, history {number}: " + ", ".join(
                f"{act}" + (f" ({victim.removeprefix('code-server-multi').removesuffix('.service') or 'daemon'} killed after {moment:.2f} s)" if victim else "")
                for act, victim, moment in events
            )
            print(what)
            try:
                play(host, product, sam, pool, events)
                # What was being started when the last kill came has its time; a gateway too.
                invariants.quick(within=20, most_delay=10)
                as_acknowledged(host, product, sam)
                invariants.intents_are_whole()
                # The dear ones now and then.
                if number % 20 == 0 or number == HISTORIES - 1:
                    invariants.check(most_delay=10)
            except AssertionError as error:
                raise AssertionError(what) from error
