"""The keys for opencode: start it, show it, another one, point it at lines; and stepping aside for the vendors' own."""

import re

import pytest
from playwright.sync_api import expect

from lab import pace, wait
from lab.vsix import stub
from lab.workbench import close_welcome, in_terminal, open_palette, open_workbench, run_action, see_focus_in_file

SHARED = True

# Seconds of a machine of its own, in which opencode has long started.
STARTED = 30
FILE = "/home/coder/project/src/main.rs"
PREPARE = r"""
mkdir -p /home/coder/project/src /home/coder/.local/share/code-server/User
cd /home/coder/project
for n in $(seq 60); do echo "fn line_$n() {}"; done >src/main.rs
# A terminal that shows its text as text.
echo '{"terminal.integrated.gpuAcceleration": "off"}' >/home/coder/.local/share/code-server/User/settings.json
"""


def prepared(product, browser, name):
    """The window of a first visit, past the page by which it is seen that our extension has started."""
    product.inside_sh(name, PREPARE)
    page = open_workbench(browser, product, name)
    close_welcome(page)
    return page


@pytest.fixture(scope="module")
def editor(product, browser):
    page = prepared(product, browser, "dan")
    open_file(page)
    return page


def open_file(page):
    page.get_by_role("treeitem", name="src").click()
    page.get_by_role("treeitem", name="main.rs").dblclick()
    page.locator(".monaco-editor .view-line", has_text="line_1()").first.wait_for()
    page.locator(".editor-group-container .monaco-editor").first.click()
    page.mouse.move(650, 600)  # off the line between the two halves


def into_the_file(page):
    """Its keys are others than a terminal's, so they are not pressed before it has the focus."""
    page.keyboard.press("Control+1")
    see_focus_in_file(page)


def go_to(page, line):
    into_the_file(page)
    page.keyboard.press("Control+g")
    field = page.locator(".quick-input-widget input[type=text]")
    expect(field).to_be_visible()
    field.fill(f":{line}")
    page.locator(f".quick-input-list .monaco-list-row.focused[aria-label*='line {line},']").wait_for()
    page.keyboard.press("Enter")
    expect(page.locator(".quick-input-widget")).to_be_hidden()
    see_focus_in_file(page)


def agents(product, name="dan"):
    """opencode's process ids in a workspace."""
    return product.inside(name, "pgrep", "-x", "opencode", check=False).stdout.split()


def screens(page):
    """What each terminal that can be seen shows, without its spaces and frames: long lines are cut anywhere."""
    return [re.sub(r"[\s\xa0┃]+", "", text) for text in page.locator(".xterm-rows").all_inner_texts()]


def has(page, *texts):
    """Whether a terminal shows the texts, one after the other."""
    wanted = "".join(texts).replace(" ", "")
    return any(wanted in screen for screen in screens(page))


def shows(page, *texts):
    wait.until(f"a terminal shows {texts}", lambda: has(page, *texts), 60)


def terminal_has_focus(page):
    return page.evaluate("() => document.activeElement?.classList.contains('xterm-helper-textarea') ?? false")


def see_focus_in_terminal(page):
    wait.until("the terminal has the focus", lambda: terminal_has_focus(page), 20)


def ready(page):
    """The keys are there once the extensions have started: so is the button in the file's title."""
    page.locator(".editor-actions [aria-label*='opencode']").first.wait_for()


def test_the_reference_starts_opencode_where_there_is_none(product, browser, editor):
    ready(editor)
    assert agents(product) == []
    go_to(editor, 7)
    begun = pace.clock()
    editor.keyboard.press("Control+Alt+k")
    # Typed once opencode can take it, not before.
    given_up = editor.get_by_text("opencode is not ready yet. Try again when it asks what to do.")
    wait.until("it is typed", lambda: has(editor, "@src/main.rs") or given_up.first.is_visible(), 60)
    if not has(editor, "@src/main.rs"):
        # After a minute by the clock on the wall. That is for a machine on which opencode takes so long, not for any.
        assert pace.clock() - begun < STARTED
        shows(editor, "Ask anything")
        into_the_file(editor)
        editor.keyboard.press("Control+Alt+k")
        shows(editor, "@src/main.rs")
    assert len(agents(product)) == 1
    see_focus_in_terminal(editor)
    browser.picture(editor, "keys 1 reference to a file")


def test_ctrl_esc_shows_the_one_there_is(product, browser, editor):
    into_the_file(editor)
    editor.keyboard.press("Control+Escape")
    see_focus_in_terminal(editor)
    assert len(agents(product)) == 1


def test_the_lines_of_the_selection_are_named(browser, editor):
    go_to(editor, 37)
    for _ in range(5):
        editor.keyboard.press("Shift+ArrowDown")
    editor.keyboard.press("Shift+End")
    editor.keyboard.press("Control+Alt+k")
    shows(editor, "@src/main.rs", "@src/main.rs#L37-42")
    browser.picture(editor, "keys 2 reference to lines")
    go_to(editor, 12)
    editor.keyboard.press("Shift+End")
    editor.keyboard.press("Control+Alt+k")
    shows(editor, "#L37-42", "@src/main.rs#L12")
    # From within the terminal too: the file is the one beside it.
    see_focus_in_terminal(editor)
    editor.keyboard.press("Control+Alt+k")
    shows(editor, "@src/main.rs#L12", "@src/main.rs#L12")


def test_ctrl_shift_esc_starts_another_one(product, browser, editor):
    editor.keyboard.press("Control+Shift+Escape")
    wait.until("two of them run", lambda: len(agents(product)) == 2, 60)
    expect(editor.get_by_role("tab", name="opencode")).to_have_count(2)
    shows(editor, "Ask anything")  # in a screen of its own
    browser.picture(editor, "keys 3 another session")


def test_ctrl_esc_starts_it_again_where_it_was_quit(product, editor):
    product.inside("dan", "pkill", "-x", "opencode")
    wait.until("none runs", lambda: not agents(product), 20)
    editor.keyboard.press("Control+Escape")
    wait.until("one runs", lambda: len(agents(product)) == 1, 60)
    expect(editor.get_by_role("tab", name="opencode")).to_have_count(2)
    # Started by hand it is found as well.
    product.inside("dan", "pkill", "-x", "opencode")


def test_without_the_keys_it_is_in_the_palette_and_above_the_terminal(product, browser, editor):
    run_action(editor, "Terminal: Create New Terminal")
    button = editor.locator(".part.panel .title-actions [aria-label*='opencode']").first
    button.wait_for()
    # Nothing of what makes the editor start sooner goes on into what people start.
    in_terminal(editor, 'echo "cache [$NODE_COMPILE_CACHE]"')
    shows(editor, "cache []")
    browser.picture(editor, "keys 4 button above the terminal")
    wait.until("none runs", lambda: not agents(product), 20)
    button.click()
    wait.until("one runs", lambda: len(agents(product)) == 1, 60)
    product.inside("dan", "pkill", "-x", "opencode")


@pytest.mark.parametrize(
    "name, publisher, extension", [("alice", "sst-dev", "opencode"), ("sam", "anthropic", "claude-code")]
)
def test_a_vendors_own_extension_has_the_keys(product, browser, name, publisher, extension):
    product.put_inside(name, "/tmp/stub.vsix", stub(publisher, extension))
    product.inside(name, "code-server", "--install-extension", "/tmp/stub.vsix", timeout=120)
    page = prepared(product, browser, name)
    open_file(page)
    pressed = lambda: len(product.inside(name, "cat", "/tmp/stub", check=False).stdout)  # noqa: E731
    # The stub has started too, once it does what its command says.
    run_action(page, "Stub")
    wait.until("the stub was told", lambda: pressed() == 1, 20)
    into_the_file(page)
    page.keyboard.press("Control+Escape")
    wait.until("the stub has its key", lambda: pressed() == 2, 20)
    run_action(page, "Terminal: Create New Terminal")
    see_focus_in_terminal(page)
    into_the_file(page)
    # One after the other: once the last one has come to the stub, the others would have come to us.
    for key in ("Control+Alt+k", "Control+Shift+Escape", "Control+Escape"):
        page.keyboard.press(key)
    wait.until("the stub was told", lambda: pressed() == 3, 20)
    # Both match what is asked, so they are listed at the same time.
    open_palette(page, "Open Claude Code in a Split Terminal", "in a Split Terminal")
    ours = page.locator(".quick-input-list .monaco-list-row", has_text="Open opencode in a Split Terminal")
    assert ours.count() == (0 if extension == "opencode" else 1)
    browser.picture(page, f"keys 5 beside {publisher}.{extension}")
    page.keyboard.press("Escape")
    assert agents(product, name) == []
    page.context.close()
