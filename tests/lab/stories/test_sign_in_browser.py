"""A person with a browser: signs in, works, signs out; and what a page on another workspace's host can't do."""

import json
import re

import pytest
from playwright.sync_api import Error, expect
from websockets.exceptions import InvalidStatus

from lab import pace, wait
from lab.client import session_in
from lab.workbench import close_welcome, frame_with, in_terminal, open_sign_in, run_action, see_focus_in_file, see_workbench, sign_in

# A second until a new file is noticed, and the asking.
NOTICED = 1.5

SHARED = True

SERVER = r"""
import http.server, os, sys

class Answer(http.server.SimpleHTTPRequestHandler):
    def do_POST(self):
        with open("posts", "a") as posts:
            posts.write(self.path + "\n")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_):
        pass

os.makedirs("/tmp/site", exist_ok=True)
os.chdir("/tmp/site")
with open("index.html", "w") as page:
    page.write(f"<title>site</title><h1>here is port 3000 of {os.environ['CSM_WORKSPACE']}</h1>")
http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Answer).serve_forever()
"""


@pytest.fixture(scope="module")
def editor(product, browser):
    """dan's window, signed in."""
    page = open_sign_in(browser)
    browser.picture(page, "1 sign in")
    assert sign_in(page, product.passwords["dan"]).status == 303
    see_workbench(page)
    close_welcome(page)
    return page


@pytest.fixture(scope="module")
def server(host, product, editor):
    """Port 3000 in dan's workspace, started from the integrated terminal. Also writes what was posted."""
    product.inside("dan", "tee", "/tmp/server.py", input=SERVER)
    run_action(editor, "Terminal: Create New Terminal")
    editor.locator(".terminal-wrapper .xterm-screen").last.wait_for()
    in_terminal(editor, "python3 /tmp/server.py &")
    host.wait_for(
        "port 3000 answers inside",
        lambda: "here is port 3000 of dan" in product.inside("dan", "curl", "-s", "http://127.0.0.1:3000/").stdout,
    )


def posts(product):
    return product.inside_sh("dan", "cat /tmp/site/posts 2>/dev/null || true").split()


def test_a_wrong_password_is_refused(product, browser):
    page = open_sign_in(browser, viewport={"width": 390, "height": 844}, color_scheme="dark")
    assert sign_in(page, "not " + product.passwords["dan"]).status == 401
    expect(page.get_by_role("alert")).to_be_visible()
    browser.picture(page, "2 wrong password on a phone")
    assert page.context.cookies() == []
    assert page.goto(browser.url("dan", "/healthz")).status == 200  # the sign-in page again
    expect(page.locator("h1")).to_have_text("Sign in to dan")


def test_sign_in_works_without_javascript(product, browser):
    page = open_sign_in(browser, java_script_enabled=False)
    assert sign_in(page, product.passwords["dan"]).status == 303
    # It may still be on its way there.
    wait.until("the editor's page", lambda: "monaco" in page.content() or "workbench" in page.content())


def test_the_workbench_a_terminal_and_a_file(host, product, browser, editor):
    browser.picture(editor, "3 workbench")
    run_action(editor, "Terminal: Create New Terminal")
    editor.locator(".terminal-wrapper .xterm-screen").last.wait_for()
    in_terminal(editor, "echo made-by $(whoami) in $PWD > from-terminal.txt")
    made = "/var/lib/vscode/dan/workspace/from-terminal.txt"
    host.wait_for("the file is on the host's disk", lambda: host.get(made), 20)
    assert host.get(made).decode() == "made-by coder in /home/coder/project\n"
    assert host.sh("stat -c '%U %G' \"$1\"", made) == "csm-dan csm-dan"
    editor.get_by_role("treeitem", name="from-terminal.txt").wait_for()
    browser.picture(editor, "4 terminal")
    # Nothing in the way by now: no trust question, no advertisement, no other vendor's chat.
    for nuisance in ("Restricted Mode", "trust the authors", "Coder", "Build with Agent", "Copilot"):
        assert editor.get_by_text(nuisance).count() == 0, nuisance


def test_a_markdown_preview_is_readable(host, editor, browser):
    run_action(editor, "File: New Untitled Text File")
    editor.get_by_role("tab", name="Untitled-1").wait_for()
    see_focus_in_file(editor)
    editor.keyboard.type("# A readable heading\n\nand **some** words under it")
    editor.keyboard.press("Control+s")
    field = editor.locator(".quick-input-widget input[type=text]")
    # What it proposes comes late, and would take the place of what was typed.
    expect(field).to_have_value(re.compile("heading"))
    field.fill("/home/coder/project/notes.md")

    def saved():
        """It takes no Enter while it looks at what is there."""
        editor.keyboard.press("Enter")
        return wait.until("the dialog is gone", field.is_hidden, 2)

    wait.until("it is saved", saved)
    made = "/var/lib/vscode/dan/workspace/notes.md"
    host.wait_for("the file is on the host's disk", lambda: b"A readable heading" in host.get(made), 20)
    assert host.sh("stat -c %U \"$1\"", made) == "csm-dan"
    run_action(editor, "Markdown: Open Preview")
    preview = wait.until("the preview's text", lambda: frame_with(editor, "h1", "A readable heading"), 30)
    expect(preview.locator("h1")).to_have_text("A readable heading")
    expect(preview.locator("strong")).to_have_text("some")
    expect(preview.locator("h1")).to_be_visible()
    # Painted too, so that the picture shows what a person sees.
    preview.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    browser.picture(editor, "5 markdown preview")


def test_a_port_inside_is_reached_through_the_editor(server, browser, editor):
    page = editor.context.new_page()
    page.goto(browser.url("dan", "/proxy/3000/"))
    expect(page.locator("h1")).to_have_text("here is port 3000 of dan")
    browser.picture(page, "6 port 3000")
    page.close()


def test_dans_cookie_does_not_open_alices_host(product, visit, browser, editor):
    cookies = editor.context.cookies()
    name, _ = session_in({cookie["name"]: cookie["value"] for cookie in cookies if cookie["domain"].startswith("dan.")})
    session = next(cookie for cookie in cookies if cookie["name"] == name)
    assert session["httpOnly"] and session["secure"] and session["sameSite"] == "Lax" and session["domain"] == "dan.code.example.test"
    header = {"Cookie": f"{name}={session['value']}"}
    assert visit("dan").get("/healthz", headers=header).status_code == 200
    alice = visit("alice")
    assert alice.get("/healthz", headers=header).status_code == 401
    assert alice.get("/proxy/3000/", headers=header).status_code == 401
    with pytest.raises(InvalidStatus) as refused:
        alice.websocket("/?reconnectionToken=x", headers=header)
    assert refused.value.response.status_code == 401
    # And in the browser that holds it.
    page = editor.context.new_page()
    page.goto(browser.url("alice"))
    expect(page.locator("h1")).to_have_text("Sign in to alice")
    page.close()


ATTACK = """async address => {
  const seen = {};
  const posted = await fetch(`https://${address}/proxy/3000/by-fetch`,
    {method: "POST", mode: "no-cors", credentials: "include", body: "x"}).then(answer => answer.type, String);
  seen.fetch = posted;
  seen.read = await fetch(`https://${address}/proxy/3000/`, {credentials: "include"}).then(a => a.text(), String);
  seen.websocket = await new Promise(done => {
    const socket = new WebSocket(`wss://${address}/?reconnectionToken=x&reconnection=false`);
    socket.onopen = () => { socket.close(); done("open"); };
    socket.onerror = () => done("refused");
  });
  return seen;
}"""

FORM = """address => {
  const form = document.createElement("form");
  form.method = "post";
  form.action = `https://${address}/proxy/3000/by-form`;
  document.body.append(form);
  form.submit();
}"""


def test_a_page_on_alices_host_can_do_nothing_with_dans_cookie(product, server, browser, editor):
    address = "dan.code.example.test"
    # A page that alice's workspace serves, in the browser that is signed in at dan's: nothing of ours guards it.
    product.inside_sh(
        "alice", "cd /tmp; echo '<h1>bait</h1>' >index.html; (setsid python3 -m http.server 3001 >/dev/null 2>&1 &)"
    )
    page = editor.context.new_page()
    page.goto(browser.url("alice"))
    assert sign_in(page, product.passwords["alice"]).status == 303
    wait.until("the bait", lambda: page.goto(browser.url("alice", "/proxy/3001/")).status == 200)
    expect(page.locator("h1")).to_have_text("bait")

    before = posts(product)
    seen = page.evaluate(ATTACK, address)
    assert seen["websocket"] == "refused", seen
    assert "here is port 3000" not in seen["read"], seen
    with page.expect_response(lambda answer: "by-form" in answer.url) as answer:
        page.evaluate(FORM, address)
    assert answer.value.status == 403
    assert posts(product) == before

    # The same from dan's own page works, so it is the origin that was refused.
    page.goto(browser.url("dan", "/proxy/3000/"))
    seen = page.evaluate(ATTACK, address)
    assert seen["websocket"] == "open" and "here is port 3000" in seen["read"], seen
    assert "/by-fetch" in posts(product)
    page.close()


def test_signed_out_means_at_the_next_request(product, server, browser, visit):
    page = open_sign_in(browser)
    assert sign_in(page, product.passwords["dan"]).status == 303
    header = {"Cookie": "=".join(session_in({cookie["name"]: cookie["value"] for cookie in page.context.cookies()}))}
    dan = visit("dan")
    for path in ("/", "/healthz", "/proxy/3000/"):
        assert dan.get(path, headers=header).status_code in (200, 302), path
    dan.websocket("/?reconnectionToken=x", headers=header).close()

    page.goto(browser.url("dan", "/_csm/sign-out"))
    browser.picture(page, "7 sign out")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_contain_text("signed out")

    # A copy of the cookie is worth nothing either: the session has ended, not only the browser's memory of it.
    for path in ("/", "/healthz", "/proxy/3000/"):
        assert dan.get(path, headers=header).status_code == 401, path
    with pytest.raises(InvalidStatus) as refused:
        dan.websocket("/?reconnectionToken=x", headers=header)
    assert refused.value.response.status_code == 401
    page.goto(browser.url("dan"))
    expect(page.locator("h1")).to_have_text("Sign in to dan")


def test_a_new_password_ends_sessions_and_leaves_the_editor_alone(host, product, visit):
    pids = product.main_pids()
    old = visit("dan")
    assert product.sign_in(old).status_code == 303
    alice = visit("alice")
    assert product.sign_in(alice).status_code == 303
    assert old.get("/healthz").status_code == 200

    kept = product.passwords["dan"]
    product.set_password("dan", "another password entirely")
    begun = pace.clock()
    wait.until("dan's session is refused", lambda: old.get("/healthz").status_code == 401, NOTICED)
    print(json.dumps({"session refused after": round(pace.clock() - begun, 3)}))

    assert product.sign_in(visit("dan")).status_code == 401
    new = visit("dan")
    assert product.sign_in(new, password="another password entirely").status_code == 303
    assert alice.get("/healthz").status_code == 200
    assert product.main_pids() == pids
    product.set_password("dan", kept)
    wait.until("this session is refused too", lambda: new.get("/healthz").status_code == 401, 5)
    assert product.sign_in(visit("dan")).status_code == 303


def test_an_unknown_name_lists_nobody(browser, visit, product):
    answer = visit("mallory").get("/")
    assert answer.status_code == 404
    assert not [name for name in product.people if name in answer.text]
    page = browser.visitor().new_page()
    try:
        page.goto(browser.url("mallory"))
    except Error as error:
        pytest.fail(f"no page: {error}")
    browser.picture(page, "8 unknown name")
