"""A new workspace by the words of `csm scaffold`, taken as they stand: its account, its section, its password, its address."""

import re

import pytest

from lab.product import CONFIG


def CONFIGURE(product):
    product.only("dan")


class Scaffold:
    """What the verb printed, and the commands that it names."""

    def __init__(self, product, name):
        self.name, self.host = name, product.host
        done = product.csm("scaffold", name)
        self.text = done.stdout
        self.password = re.search(r"kept nowhere: (\S+)$", done.stderr, re.M)[1]
        self.address = re.search(r"will be at https://(\S+)/$", self.text, re.M)[1]
        account, section = re.findall(r"\((csm scaffold .*?)\)[:,]", self.text)
        assert account.endswith("--only account | sh") and section.endswith(f">>{CONFIG}")
        self.account, self.section = account, section

    def ranges(self):
        return [self.host.sh('grep "^$1:" "$2" || true', f"csm-{self.name}", file) for file in ("/etc/subuid", "/etc/subgid")]


@pytest.fixture(scope="module")
def before(product):
    return product.main_pids()


def assert_signs_in(product, visit, scaffold):
    client = visit(scaffold.name)
    assert client.visited == scaffold.address
    assert product.sign_in(client, password=scaffold.password + "x").status_code == 401
    assert product.sign_in(client, password=scaffold.password).status_code == 303
    assert client.get("/healthz").status_code == 200


def test_a_password_set_by_csm(host, product, visit, before):
    erin = Scaffold(product, "erin")
    assert erin.password not in erin.text
    assert erin.ranges() == ["", ""], "it wrote something"
    host.sh(erin.account)
    ranges = erin.ranges()
    assert all(re.fullmatch(r"csm-erin:\d+:65536", line) for line in ranges)
    host.sh(erin.account)
    assert erin.ranges() == ranges, "a second run changed something"
    host.sh(erin.section)
    product.csm("reload")
    product.wait_ready("erin")
    assert "csm password erin" in erin.text
    product.csm("password", "erin", input=erin.password + "\n")
    assert_signs_in(product, visit, erin)
    assert product.main_pids() == before, "somebody else's workspace was restarted"


def test_a_password_in_a_file(host, product, visit):
    frank = Scaffold(product, "frank")
    host.sh(frank.account)
    host.sh(frank.section)
    commented = re.search(r'^ *# (password_file = "\S+")', frank.text, re.M)[1]
    host.sh('sed -i "s|^# $1.*|$1|" "$2"', commented, CONFIG)
    directory, file = re.findall(r"^ *(install .*)$", frank.text, re.M)
    host.sh(directory)
    host.run("sh", "-c", file, input=frank.password + "\n")
    product.csm("reload")
    product.wait_ready("frank")
    assert_signs_in(product, visit, frank)
    path = re.search(r'"(.*)"', commented)[1]
    assert host.sh('stat -c "%U %a" "$1" "${1%/*}"', path) == "root 600\nroot 700"


def test_a_name_that_is_there_is_refused(host, product):
    before = host.get(CONFIG)
    done = product.csm("scaffold", "erin", "--only", "toml", check=2)
    assert done.stdout == "" and "is in /etc/code-server-multi/config.toml already" in done.stderr
    # The daemon may have it from another file, or from one that it has not read yet.
    host.put("/etc/lab/without.toml", before.replace(b"[workspaces.erin]", b"[workspaces.gina]"))
    done = product.csm("scaffold", "erin", "--config", "/etc/lab/without.toml", check=2)
    assert done.stdout == "" and "is in the running configuration already" in done.stderr
    assert host.get(CONFIG) == before


def test_what_packages_install(host):
    """The pages are what man(1) takes, and the completions what bash does."""
    host.sh('csm man "$1" && ls "$1"/csm.1 "$1"/csm-status.1 "$1"/csm-config-schema.1', "/tmp/man")
    assert host.sh("source <(csm completions bash); complete -p csm").startswith("complete ")
