"""An image that isn't ours: laid out like codercom/code-server (user 1000 `coder`, an entrypoint of its own), loaded by the
daemon from an archive. All it has is a shell and a `code-server` on its PATH."""

import pytest

from lab.stand_in import ARCHIVE, NAME, put


def CONFIGURE(product):
    product.only("dan", "alice")


@pytest.fixture(scope="module")
def other(host, product):
    put(host)
    host.put("/etc/lab/key", "k3y $(id) `id` \"'\\\n", 0o600)
    product.config["image"] = {"name": NAME, "archive": ARCHIVE}
    product.config["workspaces"]["dan"] |= {
        "environment": {"GREETING": "two words, a $dollar and 100 %"},
        "secret_environment": {"SOME_KEY": "/etc/lab/key"},
    }
    return product


def test_an_archive_that_is_not_there_is_said_and_nothing_stops(host, product):
    before = product.main_pids()
    product.config["image"] = {"name": NAME, "archive": "/var/lib/not-there.tar"}
    product.reload()
    host.wait_for("the image has failed", lambda: product.status()["image"]["state"] == "failed")
    finding = product.status()["image"]["finding"]
    assert finding["code"] == "image-failed" and "/var/lib/not-there.tar" in finding["message"]
    assert finding["remediation"]
    assert product.main_pids() == before


def test_the_daemon_loads_the_archive_and_the_image_waits(host, other):
    before = other.main_pids()
    other.reload()
    host.wait_for("the image is present", lambda: other.status()["image"]["state"] == "present", 60)
    host.wait_for("it is pending", lambda: "image" in other.workspace("dan")["pending"])
    assert other.main_pids() == before, "a newer image is used from the next start, not before"
    assert host.sh('stat -c %U "$1"', "/var/lib/code-server-multi/images/store") == "code-server-multi-images"


def test_a_workspace_runs_on_it(host, other):
    other.csm("restart", "dan")
    other.wait_ready("dan")
    assert other.workspace("dan")["pending"] == []
    with other.visitor("dan") as dan:
        given = dan.get("/").json()
    assert given["uid"] == 1000
    assert "--bind-addr" not in given["argv"], "the image's own entrypoint is not used"
    assert given["environment"]["HOME"] == "/home/coder"
    assert given["environment"]["GREETING"] == "two words, a $dollar and 100 %"
    assert given["environment"]["SOME_KEY"] == "k3y $(id) `id` \"'\\"


def test_it_goes_back_with_the_configuration(host, other):
    other.config["image"] = {"name": "localhost/other/editor:2"}
    other.reload()
    host.wait_for("the image is missing", lambda: other.status()["image"]["state"] == "missing")
    # What could not be started again is left running; once stopped, it says why it can't start.
    assert "it could not be started again, so it was left running" in other.csm("restart", "alice", check=1).stderr
    assert other.state("alice") == "ready"
    other.csm("stop", "alice")
    other.csm("start", "alice", check=False)
    found = other.workspace("alice")
    assert found["state"] == "blocked" and [one["code"] for one in found["findings"]] == ["image-missing"], found
