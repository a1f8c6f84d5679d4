"""The product as the NixOS module has it: units, accounts, directories and configuration are those of tests/nix/golden, word
for word. What NixOS itself would do with them (accounts with numbers, nginx's own unit, a switch) is done here in shell."""

import re
import tomllib

import tomli_w

from . import env
from .product import IMAGE, Product, image_name

GOLDEN = env.CHECKOUT / "tests" / "nix" / "golden"
CSM = "/nix/store/00000000000000000000000000000000-code-server-multi/bin/csm"
PROGRAMS = ("podman", "crun", "pasta", "catatonit", "journalctl")

# As NixOS has it: everything in the system's profile, nothing in /usr that the daemon would find.
PLACES = """
mkdir -p /etc/static-0 /run/wrappers /run/secrets
# /run runs nothing; the wrappers have a mount of their own.
mount -t tmpfs -o nodev,mode=755 wrappers /run/wrappers
mkdir /run/wrappers/bin
ln -sfn static-0 /etc/static
install -D -m 0755 /usr/src/csm "$1"
ln -sf "$1" /usr/local/bin/csm
for name in newuidmap newgidmap; do install -m 4755 /usr/bin/$name /run/wrappers/bin/$name; done
shift
mkdir -p /etc/code-server-multi
for generation in 1 2; do
  mkdir -p /nix/store/programs-$generation/bin
  for name; do
    real=$(command -v "$name" || ls /usr/libexec/podman/"$name")
    ln -sf "$real" /nix/store/programs-$generation/bin/"$name"
  done
done
ln -sfn /nix/store/programs-1 /etc/code-server-multi/programs
ln -sfn /etc/static/config.toml /etc/code-server-multi/config.toml
"""

# nginx as an account of its own, as NixOS runs it.
NGINX_UNIT = """
[Unit]
After=network.target
[Service]
User=nginx
Group=nginx
ExecStartPre=/usr/sbin/nginx -t -c /etc/nginx/nginx.conf
ExecStart=/usr/sbin/nginx -c /etc/nginx/nginx.conf
ExecReload=/usr/sbin/nginx -t -c /etc/nginx/nginx.conf
ExecReload=/bin/kill -HUP $MAINPID
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectHome=yes
ProtectSystem=strict
ProtectProc=invisible
ProcSubset=pid
PrivateDevices=yes
PrivateTmp=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
UMask=0027
CacheDirectory=nginx
LogsDirectory=nginx
Restart=always
RestartSec=10
[Install]
WantedBy=multi-user.target
"""
NGINX_MAIN = "daemon off;\npid /run/nginx/nginx.pid;\nerror_log stderr;\n"


class Nixos(Product):
    """Installed from the golden files of one case of tests/nix."""

    def __init__(self, host, pki, case, domain):
        super().__init__(host, pki, (), domain)
        self.golden = GOLDEN / case
        self.config = tomllib.loads(self.read("config.toml"))
        # The one image that the lab has.
        self.config["image"] = {"name": image_name(), "archive": IMAGE}
        self.people = tuple(self.config["workspaces"])
        self.passwords = {name: f"the password of {name}" for name in self.people}
        self.generation = 0

    def read(self, name):
        return (self.golden / name).read_text()

    def password_file(self, name):
        return self.config["workspaces"][name]["password_file"]

    def install(self):
        host = self.host
        host.run("bash", "-eu", "-s", input=(env.LAB / "images-account").read_text())
        host.put("/usr/src/csm", env.product("CSM"), 0o755)
        host.sh(PLACES, CSM, *PROGRAMS)
        self.make_accounts(self.read("accounts"))
        for name in self.people:
            if "password_file" in self.config["workspaces"][name]:
                self.set_password(name, self.passwords[name])
        nginx = self.config["nginx"]
        host.put(nginx["certificate"], self.pki.certificate, 0o640, "root:nginx")
        host.put(nginx["certificate_key"], self.pki.key, 0o640, "root:nginx")
        host.put("/etc/tmpfiles.d/00-nixos.conf", self.read("tmpfiles.conf"))
        host.put("/etc/systemd/journald@code-server-multi.conf", self.read("journald-code-server-multi.conf"))
        for unit in self.units():
            host.put(f"/etc/systemd/system/{unit}", self.read(unit))
        host.put("/etc/systemd/system/nginx.service", NGINX_UNIT)
        host.put("/etc/systemd/system/nginx.service.d/module.conf", self.read("nginx.service"))
        host.put("/etc/nginx/nginx.conf", NGINX_MAIN + self.read("nginx.conf"))
        self.write_config()
        wanted = dict(pair.split(":")[::-1] for pair in re.search(r"^wanted=(.*)$", self.read("machine"), re.M)[1].split())
        assert wanted["code-server-multi"] == "multi-user.target"
        host.sh(
            "systemctl stop nginx; systemd-tmpfiles --create; systemctl daemon-reload; systemctl restart nginx;"
            " systemctl start code-server-multi-gateway.socket code-server-multi.service"
        )

    def units(self):
        """The golden units that are the module's own."""
        return [file.name for file in self.golden.glob("code-server-multi*.[s]*")]

    def make_accounts(self, text):
        """What NixOS makes of users.users and users.groups. Accounts that are there keep their numbers."""
        script = []
        for line in text.splitlines():
            kind, name, *rest = line.split()
            fields = dict(field.partition("=")[::2] for field in rest)
            if kind == "group":
                script.append(f"getent group {name} >/dev/null || groupadd --system {name}")
            elif "system" in fields:
                script.append(
                    f"getent passwd {name} >/dev/null || useradd --system --no-create-home --gid {fields['group']}"
                    f" --home-dir {fields['home']} --shell /usr/sbin/nologin {name}"
                )
                if fields.get("subordinate") == "automatic":
                    script.append(AUTOMATIC.replace("NAME", name))
        # Groups first: an account needs its own.
        script.sort(key=lambda line: not line.startswith("getent group"))
        script.append("getent passwd nginx >/dev/null || useradd --system --user-group --no-create-home nginx")
        self.host.run("bash", "-eu", "-s", input="\n".join(script))

    def write_config(self):
        """A new generation of /etc, put in place at once, as a switch does."""
        self.generation += 1
        place = f"/etc/static-{self.generation}"
        self.host.put(f"{place}/config.toml", tomli_w.dumps(self.config))
        self.host.sh('ln -sfn "$1" /etc/static.new; mv -T /etc/static.new /etc/static', place)

    def switch(self):
        """What switch-to-configuration does when only X-Reload-Triggers differs."""
        self.write_config()
        self.host.sh("systemctl reload code-server-multi.service")


# A range above all others, which is what NixOS's own script amounts to.
AUTOMATIC = """
if ! grep -q '^NAME:' /etc/subuid; then
  first=$(awk -F: 'BEGIN { top = 100000 } $2 + $3 > top { top = $2 + $3 } END { print top }' /etc/subuid /etc/subgid)
  echo "NAME:$first:65536" | tee -a /etc/subuid >>/etc/subgid
fi
"""
