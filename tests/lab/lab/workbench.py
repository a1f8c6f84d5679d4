"""What a person does in the browser: the sign-in page, then the editor's window."""

import time

from playwright.sync_api import Error, TimeoutError, expect

from . import wait


def go(page, url):
    """Once more if a host of another run came or went at that moment: the browser takes it for a change of networks."""
    try:
        page.goto(url)
    except Error as error:
        if "ERR_NETWORK_CHANGED" not in str(error):
            raise
        page.goto(url)


def open_sign_in(browser, name="dan", **options):
    page = browser.visitor(**options).new_page()
    go(page, browser.url(name))
    expect(page.locator("h1")).to_have_text(f"Sign in to {name}")
    return page


def sign_in(page, password):
    page.get_by_label("Password").fill(password)
    with page.expect_response(lambda answer: answer.request.method == "POST" and "/_csm/sign-in" in answer.url) as answer:
        page.get_by_role("button", name="Sign in").click()
    return answer.value


def see_workbench(page):
    # The first window of a workspace, on a machine that builds something else besides.
    page.locator(".monaco-workbench .activitybar").wait_for(timeout=60_000)
    page.locator(".explorer-folders-view").wait_for(timeout=60_000)


def open_workbench(browser, product, name="dan", **options):
    """The window of somebody who has just signed in."""
    page = open_sign_in(browser, name, **options)
    assert sign_in(page, product.passwords[name]).status == 303
    see_workbench(page)
    return page


def close_welcome(page):
    """The page of a first visit, as soon as it is there: it takes the focus when it comes."""
    frame = wait.until("the welcome page", lambda: frame_with(page, "h1", "Welcome to your workspace"), 60)
    frame.get_by_role("link", name="Close this page").click()
    expect(page.get_by_role("tab", name="Welcome")).to_have_count(0)


def run_action(page, title):
    """Through the command palette, as people do. It lists what the editor can do at the moment it is opened, so it is
    opened again while the language of a new file, say, isn't known yet."""
    row = page.locator(".quick-input-list .monaco-list-row", has_text=title).first
    deadline = time.monotonic() + 60
    while True:
        page.keyboard.press("F1")
        field = page.locator(".quick-input-widget input[type=text]")
        try:
            # Keys go nowhere while they are a page's that is about to open inside the editor.
            field.wait_for(timeout=5000)
            field.fill(f">{title}")
            row.wait_for(timeout=5000)
            break
        except TimeoutError:
            assert time.monotonic() < deadline, f"the command palette never had {title}"
            page.keyboard.press("Escape")
            expect(page.locator(".quick-input-widget")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(page.locator(".quick-input-widget")).to_be_hidden()


def in_terminal(page, command):
    page.locator(".terminal-wrapper .xterm-helper-textarea").last.focus()
    page.keyboard.type(f"{command}\n")


def frame_with(page, selector, text):
    """The frame of a page inside the editor, once it is the one that is shown: the editor fills a hidden one first."""
    for frame in page.frames[1:]:
        try:
            frame.locator(selector, has_text=text).first.wait_for(timeout=500)
            if frame.frame_element().is_visible():
                return frame
        except Error:
            continue  # it is loading, or gone
    return None
