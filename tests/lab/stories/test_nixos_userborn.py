"""Accounts by userborn, as the NixOS module makes them: subordinate ids come from files that it writes."""

import re

import pytest

from lab.nixos import Nixos
from lab.pki import Pki

INSTALLED = False
DOMAIN = "code.example.org"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"), DOMAIN)


class Userborn(Nixos):
    def make_accounts(self, text):
        super().make_accounts(text)
        # The store that all hosts of the lab share was filled with other ids than the module's.
        images = next(line for line in self.host.get("/etc/subuid").decode().splitlines() if "images" in line)
        for name in ("subuid", "subgid"):
            ids = re.sub(r"^code-server-multi-images:.*$", images, self.read(name), flags=re.M)
            self.host.put(f"/etc/{name}", ids)


@pytest.fixture(scope="module")
def product(host, pki):
    product = Userborn(host, pki, "userborn", DOMAIN)
    product.install()
    product.wait_ready()
    return product


def test_workspaces_run_as_the_ids_that_were_written_down(host, product):
    for name, first in (("dan", 1879113728), ("alice", 1879179264)):
        assert int(host.sh(f"stat -c %u /run/code-server-multi/run/{name}")) == first + 999
    made = product.csm("password", "dan", "--generate").stdout.strip()
    with product.client("dan") as dan:
        assert product.sign_in(dan, password=made).status_code == 303
        assert dan.get("/healthz").status_code == 200


def test_a_link_in_their_place_would_not_do(host, product):
    """Why the module writes a copy and not, as NixOS does for most of /etc, a link."""
    host.sh("cp /etc/subuid /etc/static/subuid; ln -sf /etc/static/subuid /etc/subuid")
    try:
        assert product.csm("restart", "dan", "--timeout", "60", check=False).returncode != 0
    finally:
        host.sh("cp --remove-destination /etc/static/subuid /etc/subuid")
    product.wait_ready("dan")
