"""A cold start: where the time goes from `csm start` to the first workbench on the screen, and what could shorten it."""


from playwright.sync_api import Error as PlaywrightError

from lab import env
from lab.browser import Browser

from .parts import spread

SCRIPT = "inside_cold.py"
# In turns, each in a workspace of its own: (name, its environment, whether nothing is in memory).
KINDS = {
    "as the image comes": ("dan", {}, False),
    "without Node's compile cache": ("alice", {"NODE_DISABLE_COMPILE_CACHE": "1"}, False),
    "files not in memory": ("sam", {}, True),
}

# What each stretch of time goes to, by the moment that ends it.
STRETCHES = {
    "begun": "csm, daemon and systemd",
    "conmon": "podman: network, image, container",
    "container": "conmon and crun",
    "server": "code-server's first process",
    "healthz": "code-server's second process",
    "returned": "link for nginx, csm's answer",
    "page": "first answer to the browser",
    "loaded": "the page's code",
    "connected": "storage, settings, connection to the server",
    "painted": "workbench built and painted",
}

# The frame after the one in which the workbench is there.
WATCH = """(() => {
  const there = () => document.querySelector('.monaco-workbench .activitybar') && document.querySelector('.explorer-folders-view');
  const wait = () => requestAnimationFrame(there() ? () => { window.benchPainted = performance.now(); } : wait);
  wait();
})()"""
# With VS Code's own marks, where it sets them.
MOMENTS = """() => ({
  painted: window.benchPainted,
  page: performance.getEntriesByType('navigation')[0].responseStart,
  marks: performance.getEntriesByType('mark').filter((mark) => mark.name.startsWith('code/')).map((mark) => [mark.name, mark.startTime]),
})"""
MARKS = {"loaded": "code/didLoadWorkbenchMain", "connected": "code/willStartWorkbench"}


def cold(place, options):
    product = place.product
    for name, environment, _ in KINDS.values():
        product.config["workspaces"][name] = product.workspace_table(name) | {"environment": environment}
    product.reload()
    taken = {kind: [] for kind in KINDS}
    with Browser(place.host, place.pki, place.directory / "cold", env.artifacts() / "pictures") as browser:
        for number in range(options.cold + 1):
            for kind in KINDS if number % 2 else reversed(KINDS):
                found = undisturbed(lambda kind=kind: one(place, browser, kind))
                # The first time fills caches, the browser's code among them.
                if number:
                    taken[kind].append(found)
    for name, *_ in KINDS.values():
        product.config["workspaces"][name] = product.workspace_table(name)
    product.reload()
    product.csm("restart", "alice")
    product.wait_ready()
    made = place.inside("prepared", "sam", options.cold * 2, script=SCRIPT, timeout=300)
    product.wait_ready("sam")
    return {
        "rounds": options.cold,
        "kinds": {kind: summary(many) for kind, many in taken.items()},
        "differences": {
            kind: {moment: spread([a[moment] - b[moment] for a, b in zip(taken[kind], taken[next(iter(KINDS))])]) for moment in ("healthz", "painted")}
            for kind in list(KINDS)[1:]
        },
        "prepared": {
            moment: spread([a[moment] - b[moment] for a, b in zip(made["made beforehand"], made["in one go"])])
            for moment in ("active", "healthz")
        },
    }


def undisturbed(work, tries=3):
    """Chromium gives up what it is loading when any network of the machine comes or goes, such as another host's."""
    for left in reversed(range(tries)):
        try:
            return work()
        except PlaywrightError:
            if not left:
                raise


def one(place, browser, kind):
    """Milliseconds after `csm start` at which each thing was done."""
    name, _, forget = KINDS[kind]
    found = place.inside("begin", name, "forget" if forget else "keep", script=SCRIPT, timeout=120)
    context = browser.visitor()
    try:
        # Signed in before, at a page that brings nothing of the editor's: a password is nothing that one waits for.
        page = context.new_page()
        page.goto(browser.url(name, "/healthz"))
        page.get_by_label("Password").fill(place.product.passwords[name])
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("lastHeartbeat").wait_for()
        page.add_init_script(WATCH)
        page.goto(browser.url(name), wait_until="commit", timeout=60_000)
        try:
            page.wait_for_function("() => window.benchPainted", timeout=60_000)
        except Exception:
            browser.picture(page, f"not painted {kind}")
            raise
        seen = page.evaluate(MOMENTS)
    finally:
        context.close()
    marks = dict(seen["marks"])
    # A version that doesn't set a mark has no such stretch.
    at = {"page": seen["page"], "painted": seen["painted"]} | {moment: marks.get(mark, seen["page"]) for moment, mark in MARKS.items()}
    # As if the visitor had come the moment that the command returned.
    return found | {moment: found["returned"] + when for moment, when in at.items()}


def summary(many):
    return {moment: spread([one[moment] for one in many]) for moment in STRETCHES}
