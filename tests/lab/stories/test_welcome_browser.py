"""The welcome page: there on the first visit, gone once closed, readable for everybody; and the pages around sign-in."""

import json

import pytest
from playwright.sync_api import expect

from lab import wait
from lab.accessible import assert_accessible, findings
from lab.workbench import frame_with, open_sign_in, open_workbench, run_action, see_workbench, sign_in

SHARED = True

TITLE = "Welcome to your workspace"
DESK, PHONE = {"width": 1360, "height": 850}, {"width": 390, "height": 844}
LOOKS = [
    pytest.param("light", DESK, id="light"),
    pytest.param("dark", DESK, id="dark"),
    pytest.param("light", PHONE, id="light-phone"),
    pytest.param("dark", PHONE, id="dark-phone"),
]


def welcome(page):
    return wait.until("the welcome page", lambda: frame_with(page, "h1", TITLE), 60)


def has_welcome(page):
    return page.get_by_role("tab", name="Welcome").count() > 0


def settled(page):
    """The extensions have started, ours among them: its button is there."""
    run_action(page, "Terminal: Create New Terminal")
    page.locator(".part.panel .title-actions [aria-label*='opencode']").first.wait_for()


@pytest.fixture(scope="module")
def editor(product, browser):
    return open_workbench(browser, product)


def test_it_opens_on_the_first_visit(browser, editor):
    frame = welcome(editor)
    for heading in ("Ask an AI helper", "Your files", "The terminal", "When you are away", "What is kept", "Signing out"):
        expect(frame.get_by_role("heading", name=heading)).to_be_visible()
    browser.picture(editor, "welcome")


def test_it_is_there_again_until_it_is_closed(editor):
    editor.reload()
    see_workbench(editor)
    welcome(editor)


def test_its_buttons_work(product, browser, editor):
    frame = welcome(editor)
    frame.get_by_role("link", name="Open a terminal").click()
    editor.locator(".terminal-wrapper .xterm-screen").last.wait_for()
    frame.get_by_role("link", name="Start Claude Code").click()
    wait.until("Claude Code runs", lambda: product.inside("dan", "pgrep", "-x", "claude", check=False).stdout.split(), 60)
    browser.picture(editor, "welcome with Claude Code")
    product.inside("dan", "pkill", "-x", "claude")
    with editor.context.expect_page() as opened:
        welcome(editor).get_by_role("link", name="Sign out").click()
    page = opened.value
    expect(page.locator("h1")).to_have_text("Sign out of dan?")
    page.close()


def test_files_are_uploaded_and_downloaded_as_it_says(product, editor):
    product.inside("dan", "touch", "/home/coder/project/letter.txt")
    run_action(editor, "View: Show Explorer")
    letter = editor.get_by_role("treeitem", name="letter.txt")
    letter.click(button="right")
    expect(editor.get_by_role("menuitem", name="Download...")).to_be_visible()
    editor.keyboard.press("Escape")
    below = letter.bounding_box()
    editor.mouse.click(below["x"] + 40, below["y"] + 5 * below["height"], button="right")
    expect(editor.get_by_role("menuitem", name="Upload...")).to_be_visible()
    editor.keyboard.press("Escape")


def test_once_closed_it_never_comes_back_by_itself(product, browser, editor):
    run_action(editor, "Workspace: Welcome")
    welcome(editor).get_by_role("link", name="Close this page").click()
    expect(editor.get_by_role("tab", name="Welcome")).to_have_count(0)
    editor.reload()
    see_workbench(editor)
    settled(editor)
    assert not has_welcome(editor)
    # Nor in another browser: it is remembered in the home.
    other = open_workbench(browser, product)
    settled(other)
    assert not has_welcome(other)
    run_action(other, "Workspace: Welcome")
    welcome(other)
    other.context.close()


@pytest.fixture(scope="module")
def alices(product, browser):
    """One window for all looks: both its size and the theme follow the device."""
    page = open_workbench(browser, product, "alice")
    yield page
    page.context.close()


@pytest.mark.parametrize("scheme, size", LOOKS)
def test_it_can_be_read_by_everybody(request, browser, alices, scheme, size):
    alices.set_viewport_size(size)
    alices.emulate_media(color_scheme=scheme)
    frame = welcome(alices)
    frame.locator(f"body.vscode-{scheme}").wait_for()
    assert frame.evaluate("innerWidth") <= size["width"]
    print(json.dumps(assert_accessible(frame)))
    browser.picture(alices, f"welcome {request.node.callspec.id}")


@pytest.mark.parametrize("scheme, size", LOOKS)
def test_the_sign_in_page_can_be_used_by_everybody(request, product, browser, scheme, size):
    page = open_sign_in(browser, "alice", color_scheme=scheme, viewport=size)
    name = request.node.callspec.id
    assert not findings(page)
    browser.picture(page, f"sign in {name}")
    assert sign_in(page, "not " + product.passwords["alice"]).status == 401
    assert not findings(page)
    page.goto(browser.url("nobody"))
    assert not findings(page)
    page.goto(browser.url("alice"))
    assert sign_in(page, product.passwords["alice"]).status == 303
    page.goto(browser.url("alice", "/_csm/sign-out"))
    expect(page.locator("h1")).to_have_text("Sign out of alice?")
    assert not findings(page)
    browser.picture(page, f"sign out {name}")
    page.context.close()


def test_the_page_of_a_stopped_workspace_can_be_used_by_everybody(host, product, browser):
    page = open_sign_in(browser, "sam")
    assert sign_in(page, product.passwords["sam"]).status == 303
    product.csm("stop", "sam")
    try:
        host.wait_for("sam is stopped", lambda: product.state("sam") == "stopped")
        page.goto(browser.url("sam"))
        expect(page.locator("h1")).to_have_text("sam is stopped")
        assert not findings(page)
        browser.picture(page, "stopped")
    finally:
        product.csm("start", "sam")
