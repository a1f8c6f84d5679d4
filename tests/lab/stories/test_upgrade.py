"""An upgrade: this version starts on what an earlier one left (tests/data/state says which), and nobody loses anything."""

import pytest

from lab import state
from lab.product import Product


@pytest.fixture(scope="module")
def earlier():
    return state.earlier()


@pytest.fixture(scope="module")
def product(host, pki, earlier):
    product = Product(host, pki)
    del product.config["workspaces"]["dan"]["password_file"]
    product.passwords |= earlier["passwords"]
    state.put(host)
    product.install()
    product.wait_ready("dan", "alice")
    return product


def test_what_was_stopped_stays_stopped_and_says_why(host, product):
    product.wait_settled()
    sam = product.workspace("sam")
    assert sam["state"] == "stopped", sam
    assert host.sh("cat /var/lib/code-server-multi/intent/sam.toml") == (state.KEPT / "intent" / "sam.toml").read_text().strip()
    product.csm("start", "sam")
    product.wait_ready("sam")


def test_passwords_go_on(product):
    for name in ("dan", "alice"):
        with product.visitor(name) as client:
            assert client.get("/healthz").status_code == 200


def test_nobody_is_signed_out(product, earlier):
    """By a password that csm keeps, and by a file whose string depends on this host's key."""
    for name, cookie in earlier["cookies"].items():
        with product.client(name) as client:
            client.headers["Cookie"] = f"{state.COOKIE}={cookie}"
            assert client.get("/healthz").status_code == 200, name


def test_nothing_was_put_aside(host, product):
    assert not host.sh("find /var/lib/code-server-multi /var/lib/code-server-multi-gateway -name '*.unreadable'")
    assert product.status()["configuration"]["problems"] == []
    assert host.sh("readlink /var/lib/code-server-multi/nginx/current") == host.sh("readlink /var/lib/code-server-multi/nginx/good")
