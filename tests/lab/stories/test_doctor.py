"""`csm doctor` on a host that lacks one prerequisite after the other: each is named, with a fix that mends it.

Where the fix is a command, it is that command that mends the host here: a fix that does not help is a lie."""

import datetime
import json
import re

import pytest
import trustme

CONFIGURATION = "/etc/code-server-multi/config.toml"


def CONFIGURE(product):
    product.only("dan")
    names = ("code.example.test", "*.code.example.test")
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3)
    ca = trustme.CA()
    for name, one in (("foreign", ca.issue_cert("example.org")), ("ending", ca.issue_cert(*names, not_after=soon))):
        product.host.put(f"/etc/lab/{name}.pem", one.cert_chain_pems[0].bytes())


def away(program):
    """A program that is not installed, and is again."""
    return f"mv {program} {program}.away", f"mv {program}.away {program}"


def says(program, text):
    """A program of another version, found first on PATH; whatever else it is asked it does."""
    real = f"/usr/bin/{program}" if program != "nginx" else "/usr/sbin/nginx"
    script = f"printf '%s\\n' '#!/bin/sh' 'case $1 in --version|-v) echo \"{text}\" ;; --help) echo ;; *) exec {real} \"$@\" ;; esac'"
    return f"{script} >/usr/local/sbin/{program}; chmod 0755 /usr/local/sbin/{program}", f"rm /usr/local/sbin/{program}"


def mounted(text, path):
    return f"echo '{text}' >/tmp/instead; mount --bind /tmp/instead {path}", f"umount {path}"


def line(file, pattern):
    """A line that is missing in a file."""
    return f"cp {file} /tmp/kept; sed -i '/{pattern}/d' {file}", f"cp /tmp/kept {file}"


def in_configuration(key, value):
    return f"cp {CONFIGURATION} /tmp/kept; sed -i 's|^{key} = .*|{key} = {value}|' {CONFIGURATION}", f"cp /tmp/kept {CONFIGURATION}"


# What is missing: what breaks it, what mends it (nothing: the fix that is printed), code, and words of the fix.
ROWS = {
    "an old kernel": (*mounted("5.10.0-8-amd64", "/proc/sys/kernel/osrelease"), "kernel", "newer kernel"),
    "an old systemd": (*says("systemctl", "systemd 252 (252.39)"), "systemd", "upgrade the distribution"),
    "an old util-linux": (*says("mount", "mount from util-linux 2.38.1"), "util-linux", "upgrade the distribution"),
    "an old Podman": (*says("podman", "podman version 4.9.4"), "podman", "apt-get install podman"),
    "no Podman": (*away("/usr/bin/podman"), "podman", "apt-get install podman"),
    "an old nginx": (*says("nginx", "nginx version: nginx/1.22.1"), "nginx", "apt-get install nginx-light"),
    "no nginx": (*away("/usr/sbin/nginx"), "nginx", "apt-get install nginx-light"),
    "no pasta": (*away("/usr/bin/pasta"), "pasta", "apt-get install passt"),
    "an old pasta": (*says("pasta", ""), "pasta", "upgrade the distribution"),
    "no crun": (*away("/usr/bin/crun"), "crun", "apt-get install crun"),
    "no catatonit": (*away("/usr/bin/catatonit"), "catatonit", "apt-get install catatonit"),
    "no newuidmap": (*away("/usr/bin/newuidmap"), "newuidmap", "apt-get install uidmap"),
    "no newgidmap": (*away("/usr/bin/newgidmap"), "newgidmap", "apt-get install uidmap"),
    "a newuidmap without rights": ("chmod u-s /usr/bin/newuidmap; setcap -r /usr/bin/newuidmap 2>/dev/null || true", "chmod u+s /usr/bin/newuidmap", "newuidmap", "chmod u+s"),
    "no configuration": (*away(CONFIGURATION), "configuration-unreadable", "write it"),
    "a wrong configuration": (f"cp {CONFIGURATION} /tmp/kept; echo nonsense = 1 >>{CONFIGURATION}", f"cp /tmp/kept {CONFIGURATION}", "configuration-refused", f"csm check-config {CONFIGURATION}"),
    "no group of nginx and editors": ("groupmod --new-name lab-web code-server-multi-web", "groupmod --new-name code-server-multi-web lab-web", "group-missing", "groupadd --system code-server-multi-web"),
    "no group of admins": ("groupdel csm-admin", None, "group-missing", "groupadd --system csm-admin"),
    "no account of the gateway": ("usermod --login lab-gateway code-server-multi-gateway", "usermod --login code-server-multi-gateway lab-gateway", "account-missing", "useradd --system"),
    "no account of the images": ("usermod --login lab-images code-server-multi-images", "usermod --login code-server-multi-images lab-images", "account-missing", "useradd --system"),
    "no account of a person": ("sed -i s/^csm-dan:/lab-dan:/ /etc/passwd", "sed -i s/^lab-dan:/csm-dan:/ /etc/passwd", "account-missing", "useradd --system"),
    "an admin's account": ("usermod --append --groups csm-admin csm-dan", None, "account-admin", "csm-admin"),
    "no subordinate user ids": (*line("/etc/subuid", "^csm-dan:"), "subordinate-ids-missing", "/etc/subuid"),
    "no subordinate group ids": (*line("/etc/subgid", "^csm-dan:"), "subordinate-ids-missing", "/etc/subgid"),
    "overlapping subordinate ids": ("cp /etc/subuid /tmp/kept; sed -n 's/^csm-dan:/somebody:/p' /tmp/kept >>/etc/subuid", "cp /tmp/kept /etc/subuid", "subordinate-ids-overlap", "/etc/subuid"),
    "an open password": ("chmod 0644 /etc/lab/passwords/dan", None, "password-file-open", "chmod o-rwx /etc/lab/passwords/dan"),
    "no certificate": (*away("/etc/lab/certificate.pem"), "certificate-unreadable", "*.code.example.test"),
    "another's certificate": (*in_configuration("certificate", '"/etc/lab/foreign.pem"'), "certificate-names", "*.code.example.test"),
    "a certificate that ends": (*in_configuration("certificate", '"/etc/lab/ending.pem"'), "certificate-expires", "renew"),
    "no key": (*away("/etc/lab/key.pem"), "certificate-key-missing", "nginx.certificate_key"),
    "an open key": ("chmod 0644 /etc/lab/key.pem", None, "certificate-key-open", "chmod o-rwx /etc/lab/key.pem"),
    "nginx stopped": ("systemctl stop nginx", None, "nginx-inactive", "systemctl start nginx"),
    "no unit of nginx": (*in_configuration("group", '"www-data"\\nunit = "lab-nginx.service"'), "nginx-unit-missing", "nginx.unit"),
    "no drop-in of nginx": ("mv /etc/systemd/system/nginx.service.d/code-server-multi.conf /tmp/; systemctl daemon-reload; systemctl restart nginx", "mv /tmp/code-server-multi.conf /etc/systemd/system/nginx.service.d/; systemctl daemon-reload; systemctl restart nginx", "nginx-drop-in-missing", "nix/units/nginx.service.d"),
    "no include in nginx": ("mv /etc/nginx/conf.d/code-server-multi.conf /tmp/include.conf; systemctl restart nginx", "mv /tmp/include.conf /etc/nginx/conf.d/code-server-multi.conf; systemctl restart nginx", "nginx-include-missing", "include /var/lib/code-server-multi/nginx/current/*.conf"),
    "few connections in nginx": ("cp /etc/nginx/nginx.conf /tmp/kept; sed -i 's/worker_connections [0-9]*/worker_connections 768/' /etc/nginx/nginx.conf", "cp /tmp/kept /etc/nginx/nginx.conf", "nginx-connections-few", "worker_connections 16384"),
    "a patient nginx": ("sed -i /client_header_timeout/d /etc/nginx/conf.d/code-server-multi.conf", "echo 'client_header_timeout 20s;' >>/etc/nginx/conf.d/code-server-multi.conf", "nginx-head-timeout-long", "client_header_timeout 20s"),
    "no daemon": ("systemctl stop code-server-multi.service", None, "service-inactive", "systemctl enable --now code-server-multi.service"),
    "a daemon that does not start with the machine": ("systemctl disable code-server-multi.service", None, "service-disabled", "systemctl enable code-server-multi.service"),
    "no unit of the gateway": ("systemctl stop code-server-multi-gateway.socket; mv /etc/systemd/system/code-server-multi-gateway.socket /tmp/; systemctl daemon-reload", "mv /tmp/code-server-multi-gateway.socket /etc/systemd/system/; systemctl daemon-reload; systemctl start code-server-multi-gateway.socket", "service-missing", "nix/units/code-server-multi-gateway.socket"),
    "homes in memory": ("mount -t tmpfs tmpfs /var/lib/vscode", "umount /var/lib/vscode", "file-system", "ext4"),
    "a full disk": ("mount -t tmpfs -o size=16m tmpfs /var/lib/vscode", "umount /var/lib/vscode", "disk-space", "make room"),
}


def findings(product):
    said = json.loads(product.csm("doctor", "--json", check=False).stdout)["findings"]
    return [one for one in said if one["severity"] != "ok"]


@pytest.fixture(scope="module")
def before(product):
    """What this host lacks anyway: findings that are there before anything is broken."""
    return {(one["code"], one["what"]) for one in findings(product)}


@pytest.mark.parametrize("missing", ROWS)
def test_what_is_missing_is_named_with_its_fix(host, product, before, missing):
    broken, mended, code, words = ROWS[missing]
    host.sh(broken)
    found = []
    try:
        found = [one for one in findings(product) if (one["code"], one["what"]) not in before]
        named = [one for one in found if one["code"] == code and words in one["fix"]]
        assert named, found
        text = product.csm("doctor", check=False).stdout
        assert f"Fix: {named[0]['fix']}" in text
        if not mended:
            mended = command(named[0]["fix"])
    finally:
        host.sh(mended or "true")
    host.wait_for("nothing new is found", lambda: {(one["code"], one["what"]) for one in findings(product)} <= before, 15)


def command(fix):
    """The command in a fix: the last one where it names two, without the words around it."""
    shown = fix.split("; then: ")[-1]
    return re.split(r"; if |, then", shown)[0].split(": ", 1)[-1]


def test_the_host_is_whole_again(product):
    """The rows above took turns: none left anything behind."""
    product.csm("reload")
    product.wait_ready()
    product.wait_settled()
