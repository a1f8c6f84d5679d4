"""docs/operations.md as a reader follows it: its own configuration, run twice, one person more, passwords by hand."""

import json

import pytest

from lab.product import Product

INSTALLED = False


@pytest.fixture(scope="module")
def product(host, pki):
    product = Product(host, pki)
    product.people = ("dan", "alice")
    # The document's configuration names the archive, which is where a first start takes the image from.
    product.install(by_document=True)
    product.wait_ready("dan", "alice")
    return product


def test_a_password_by_hand_lets_in(product, visit):
    made = product.csm("password", "dan", "--generate").stdout.strip()
    dan = visit("dan")
    assert product.sign_in(dan, password=made).status_code == 303
    assert dan.get("/healthz").status_code == 200


def test_the_least_configuration_is_what_it_says(host, product):
    shown = product.workspace("dan")
    assert shown["account"] == "csm-dan" and shown["url"].rstrip("/") == "https://dan.code.example.test"
    assert shown["limits"]["memory_max"] == 3 << 30 and shown["limits"]["memory_high"] == (3 << 30) * 5 // 6
    assert shown["limits"]["cpu_quota_usec"] == 1_500_000


def test_owners_and_modes_are_those_of_the_design(host, product):
    expected = {
        "/var/lib/code-server-multi": "root:root 711",
        "/var/lib/code-server-multi/intent": "root:root 700",
        "/var/lib/code-server-multi/accounts/dan": "csm-dan:csm-dan 700",
        "/var/lib/code-server-multi/podman/dan": "root:root 755",
        "/var/lib/code-server-multi/images": "code-server-multi-images:code-server-multi-images 700",
        "/var/lib/vscode/dan/home": "csm-dan:csm-dan 700",
        "/var/lib/vscode/dan/workspace": "csm-dan:csm-dan 700",
        "/var/lib/vscode/dan/config": "csm-dan:csm-dan 700",
        "/run/code-server-multi": "root:root 711",
        "/run/code-server-multi/admin.sock": "root:csm-admin 660",
        "/run/code-server-multi/gateway/http.sock": "root:code-server-multi-web 660",
    }
    shown = {path: host.sh("stat -c '%U:%G %a' \"$1\"", path) for path in expected}
    assert shown == expected
    # A workspace's account and nobody else's is what a container runs as.
    assert not host.sh("find /var/lib/vscode/dan /var/lib/code-server-multi/accounts/dan -xdev -user root ! -path /var/lib/vscode/dan")


def test_the_blocks_may_be_run_again_with_one_person_more(host, product):
    before = product.main_pids("dan", "alice")
    ids = host.get("/etc/subuid")
    product.people = ("dan", "alice", "sam")
    product.install(by_document=True)
    product.wait_ready("dan", "alice", "sam")
    assert product.main_pids("dan", "alice") == before
    assert host.get("/etc/subuid").startswith(ids) and host.get("/etc/subuid").count(b"\n") == ids.count(b"\n") + 1
    product.wait_settled()


def test_doctor_finds_nothing_but_what_a_host_of_namespaces_lacks(product):
    found = json.loads(product.csm("doctor", "--json", check=False).stdout)
    text = product.csm("doctor", check=False).stdout
    failed = [line for line in text.splitlines() if line.startswith("fail")]
    assert found
    assert all("controller" in line for line in failed), text
