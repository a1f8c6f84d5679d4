"""What a person does in the browser: the sign-in page, then the editor's window."""

from playwright.sync_api import Error, expect

from . import pace, wait

# For what is tried again, in seconds of pace.clock().
PATIENCE = 5


def go(page, url):
    """Once more if the browser shares this machine's networks, and another host came or went at that moment."""
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
    page.locator(".monaco-workbench .activitybar").wait_for()
    page.locator(".explorer-folders-view").wait_for()


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
    """Through the command palette, as people do."""
    open_palette(page, title).click()
    expect(page.locator(".quick-input-widget")).to_be_hidden()


def open_palette(page, title, asked=None):
    """The command palette; gives the row of this command."""
    field = page.locator(".quick-input-widget input[type=text]")
    # Not just what Enter takes: that may be another one whose title has the same words. Keys of the command come after a comma.
    row = page.locator(", ".join(f'.quick-input-list .monaco-list-row[aria-label{which}"]' for which in (f'="{title}', f'^="{title}, ')))

    def opened():
        """It lists what the editor can do at the moment it is opened, so it is opened again while the language of a new
        file, say, isn't known yet."""
        page.keyboard.press("F1")
        try:
            # Keys go nowhere while they are a page's that is about to open inside the editor.
            wait.until("the palette", field.is_visible, PATIENCE)
            field.fill(f">{asked or title}", timeout=PATIENCE * 1000 / pace.SLOWEST)
            return wait.until("the command", row.is_visible, PATIENCE)
        except (wait.TimedOut, Error):
            page.keyboard.press("Escape")
            return False

    wait.until(f"the command palette has {title}", opened, 60)
    return row


def see_focus_in_file(page):
    """So that keys that are pressed next are for it."""
    inside = "() => document.activeElement?.closest('.editor-group-container .monaco-editor') != null"
    wait.until("a file has the focus", lambda: page.evaluate(inside), 20)


def in_terminal(page, command):
    page.locator(".terminal-wrapper .xterm-helper-textarea").last.focus()
    page.keyboard.type(f"{command}\n")


def frame_with(page, selector, text):
    """The frame of a page inside the editor, once it is the one that is shown: the editor fills a hidden one first."""
    for frame in page.frames[1:]:
        try:
            if frame.locator(selector, has_text=text).count() and frame.frame_element().is_visible():
                return frame
        except Error:
            continue  # it is loading, or gone
    return None
