# Goes before each test's own script: what people do, in words.
import json
import shlex

DOMAIN = "code.example.test"
DAEMON = "code-server-multi.service"


def set_password(name, password):
    # At run time, as secret managers do: nothing of it is in the store.
    machine.succeed(f"install -d -m 0711 /run/secrets; umask 077; echo {shlex.quote(password)} >/run/secrets/{name}")


def workspace(name):
    found = json.loads(machine.succeed("csm status --json"))["workspaces"]
    return next(one for one in found if one["name"] == name)


def wait_ready(*names):
    for name in names:
        machine.wait_until_succeeds(f"csm status {name} --json | grep -q '\"state\":\"ready\"'", timeout=900)


def curl(url, *options):
    """The status of an answer."""
    words = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", *options, url]
    return int(machine.succeed(shlex.join(words)))


def sign_in(name, password):
    """The status of a sign-in; its cookie is kept for `visit`."""
    origin = f"https://{name}.{DOMAIN}"
    form = ["--data-urlencode", f"password={password}", "--data", "next=/"]
    return curl(f"{origin}/_csm/sign-in", "-c", f"/root/{name}.cookies", "-H", f"Origin: {origin}", *form)


def visit(name, path="/healthz", cookies=None):
    return curl(f"https://{name}.{DOMAIN}{path}", "-b", f"/root/{cookies or name}.cookies")


def show(unit, key):
    return machine.succeed(f"systemctl show --property {key} --value {unit}").strip()


def begin():
    machine.start()
    machine.wait_for_unit("multi-user.target")
    set_password("dan", "a password of dan's")
    set_password("alice", "a password of alice's")
    wait_ready("dan", "alice")
