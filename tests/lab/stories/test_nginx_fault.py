"""nginx refuses a configuration: everybody else is served as before, the culprit is named, and it mends by itself."""

import pytest

TAKE = "import signal, socket; s = socket.create_server(('127.0.0.1', 18080)); signal.pause()"
FOREIGN = "/etc/nginx/conf.d/foreign.conf"


@pytest.fixture(scope="module")
def signed_in(product):
    clients = {name: product.visitor(name) for name in product.people}
    yield clients
    for client in clients.values():
        client.close()


def assert_served(signed_in, *names):
    for name in names:
        assert signed_in[name].get("/healthz").status_code == 200, name


def finding(product):
    return product.status()["nginx"].get("finding")


def generation(product):
    return product.status()["nginx"]["generation"]


def test_a_file_of_the_admins_own_is_broken(host, product, signed_in, visit):
    before = generation(product)
    host.put(FOREIGN, "this is no directive;\n")
    # Something of ours has to change, else nobody would ask nginx.
    product.remove("sam")
    host.wait_for("status tells", lambda: finding(product), 20)
    said = finding(product)
    assert said["code"] == "nginx-config-foreign" and "nginx -t" in said["remediation"], said
    # No workspace is to blame, and none is blamed.
    assert not [one for one in product.status()["workspaces"] if one["findings"]]
    assert generation(product) == before
    assert_served(signed_in, "dan", "alice")
    assert host.get(FOREIGN) == b"this is no directive;\n"

    host.sh('rm "$1"', FOREIGN)
    host.wait_for("it mended by itself", lambda: not finding(product), 90)
    assert generation(product) != before
    host.wait_for("sam's vhost is gone", lambda: visit("sam").get("/").status_code == 404, 10)
    assert_served(signed_in, "dan", "alice")
    product.add("sam")
    product.wait_ready("sam")
    host.wait_for("sam's vhost is back", lambda: visit("sam").get("/").status_code == 401, 20)
    # Removing it ended its sessions.
    signed_in.pop("sam").close()
    signed_in["sam"] = product.visitor("sam")


def test_one_workspaces_snippet_is_the_culprit(host, product, signed_in, visit):
    """A port that something else has taken: `nginx -t` finds nothing wrong with it, only the reload fails."""
    product.wait_settled()
    before = generation(product)
    with host.service("taken", "python3", "-c", TAKE):
        host.wait_for("the port is taken", lambda: "127.0.0.1:18080" in host.sh("ss -Hltn"), 10)
        product.config["workspaces"]["alice"]["port"] = 18080
        product.config["workspaces"]["dan"]["port"] = 18081
        product.reload()
        host.wait_for("status tells", lambda: blamed(product), 30)
        assert list(blamed(product)) == ["alice"], blamed(product)
        assert "alice.conf" in str(blamed(product)["alice"])
        assert_served(signed_in, "dan", "alice", "sam")
        # Who is not to blame gets what was asked for.
        host.wait_for("dan's own port works", lambda: tunnel(host, 18081) == "401", 30)
        assert generation(product) != before
    host.wait_for("it mended by itself", lambda: not blamed(product) and not finding(product), 90)
    host.wait_for("alice's port works", lambda: tunnel(host, 18080) == "401", 30)
    assert_served(signed_in, "dan", "alice", "sam")


def blamed(product):
    """Findings about nginx, by workspace."""
    found = {}
    for one in product.status()["workspaces"]:
        about = [finding for finding in one["findings"] if "nginx" in finding["code"]]
        if about:
            found[one["name"]] = about
    return found


def tunnel(host, port):
    return host.run(
        "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Sec-Fetch-Mode: cors", f"http://127.0.0.1:{port}/", check=False
    ).stdout


def test_nginx_stopped_and_started(host, product, signed_in):
    """Reloads are of no use while it is down; a start reads what is there."""
    host.sh("systemctl stop nginx")
    product.config["workspaces"]["dan"].pop("port", None)
    product.reload()
    host.wait_for("status tells", lambda: finding(product), 30)
    assert finding(product)["code"] == "nginx-stopped"
    host.sh("systemctl start nginx")
    host.wait_for("it mended by itself", lambda: not finding(product), 90)
    assert_served(signed_in, "dan", "alice", "sam")
    assert tunnel(host, 18081) == "000"

    # And with nothing else that changes and could be a reason to look.
    host.sh("systemctl stop nginx")
    host.wait_for("status tells", lambda: finding(product), 10)
    host.sh("systemctl start nginx")
    host.wait_for("it mended by itself", lambda: not finding(product), 10)
    assert_served(signed_in, "dan", "alice", "sam")
