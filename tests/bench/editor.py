"""Memory of one workspace with one open tab, and what settings that take features away save."""

import json
import statistics

from lab import workbench
from lab.browser import Browser

SETTINGS = "/home/coder/.local/share/code-server/User/settings.json"
# Seconds after the page; language servers and the chat parts come late.
OPEN = 40

AI = "chat.disableAIFeatures"
UNTOUCHED_TYPESCRIPT = {"typescript.tsserver.useSyntaxServer": "auto", "typescript.disableAutomaticTypeAcquisition": False}

# name: the user's settings (None: as the image comes), and whether a file and a terminal are opened too.
VARIANTS = {
    "one tab, as the image comes": (None, False),
    "one tab, AI features on": ({AI: False}, False),
    "one tab, a .js file and a terminal, AI off, TypeScript as the editor has it": ({AI: True} | UNTOUCHED_TYPESCRIPT, True),
    "the same, as the image comes: one TypeScript server, no typings download": (None, True),
}
SAVED = {
    "AI features off": ("one tab, AI features on", "one tab, as the image comes"),
    "one TypeScript server, no typings download": (
        "one tab, a .js file and a terminal, AI off, TypeScript as the editor has it",
        "the same, as the image comes: one TypeScript server, no typings download",
    ),
}

# What to call a process: the first of these that its command line has.
KINDS = {
    "--type=extensionHost": "extension host",
    "--type=fileWatcher": "file watcher",
    "--type=ptyHost": "terminal host",
    "agentHost": "agent host",
    "copilot": "copilot runtime",
    "typingsInstaller": "typings installer",
    "tsserver": "TypeScript server",
    "server-main": "server",
    "jsonServerMain": "JSON server",
    "out/node/entry": "server",
    "code-server --auth": "parent",
    "bash": "shell",
}


def editor(place, options):
    product = place.product
    product.inside_sh("dan", "printf 'const a = [1, 2, 3];\\nconsole.log(a.map((one) => one + 1));\\n' >main.js")
    taken = {name: [] for name in VARIANTS}
    with Browser(place.host, place.pki, place.directory / "browser", place.directory / "pictures") as browser:
        for number in range(options.tabs + 1):
            for name, (settings, working) in VARIANTS.items():
                # The first time only fills caches and the browser.
                if number or name == next(iter(VARIANTS)):
                    found = one_tab(place, browser, settings, working)
                    if number:
                        taken[name].append(found)
    return {
        "rounds": options.tabs,
        "variants": {name: summary(many) for name, many in taken.items()},
        "saved": {what: totals(taken[before]) - totals(taken[after]) for what, (before, after) in SAVED.items()},
    }


def one_tab(place, browser, settings, working):
    """Kilobytes (PSS) by kind of process, in a workspace that was started for it."""
    product = place.product
    product.inside_sh(
        "dan",
        'mkdir -p "${1%/*}"; if [ "$2" ]; then echo "$2" >"$1"; else rm -f "$1"; fi',
        SETTINGS,
        json.dumps(settings) if settings is not None else "",
    )
    product.csm("restart", "dan")
    product.wait_ready("dan")
    context = browser.visitor()
    try:
        page = context.new_page()
        workbench.go(page, browser.url("dan"))
        workbench.sign_in(page, product.passwords["dan"])
        workbench.see_workbench(page)
        if working:
            page.get_by_role("treeitem", name="main.js").dblclick()
            page.locator(".monaco-editor .view-line").first.wait_for()
            workbench.run_action(page, "Terminal: Create New Terminal")
            page.locator(".terminal-wrapper .xterm-screen").last.wait_for()
        page.wait_for_timeout(OPEN * 1000)
        found = {}
        for one in place.inside("processes", "csm-dan.service"):
            if one["container"]:
                what = kind(one["command"])
                found[what] = found.get(what, 0) + one["pss"]
        return found
    finally:
        context.close()


def kind(command):
    return next((name for part, name in KINDS.items() if part in command), command[:60])


def totals(many):
    return statistics.median(sum(one.values()) for one in many)


def summary(many):
    """Medians, and the total of each time."""
    kinds = sorted({what for one in many for what in one})
    return {
        "total": totals(many),
        "each": [sum(one.values()) for one in many],
        "parts": {what: statistics.median(one.get(what, 0) for one in many) for what in kinds},
    }
