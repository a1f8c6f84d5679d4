"""What others can do so that an owner can't sign in: a page on any site in somebody's browser behind the same address, and a
neighbour there who guesses. Rows A26 and A27."""

import pytest

from lab.workbench import open_sign_in, sign_in

SHARED = True

# More than nginx and the gateway ever allowed one source.
MANY = 60

POSTS = """async ([address, many]) => {
  const answers = [];
  for (let number = 0; number < many; number++)
    answers.push(await fetch(`https://${address}/_csm/sign-in`, {
      method: "POST", mode: "no-cors", credentials: "include", body: new URLSearchParams({password: "wrong", next: "/"}),
    }).then(answer => answer.type, String));
  return [...new Set(answers)];
}"""


def test_a_page_on_another_site_locks_nobody_out(product, browser):
    """A26. In a browser whose user signs in afterwards, from the same address: what was refused for where it came from counts for
    nothing. The other site is one of the same domain here: Chromium keeps those of the Internet from this network by itself."""
    page = browser.visitor().new_page()
    assert page.goto(browser.url("mallory")).status == 404
    assert page.evaluate(POSTS, ["dan.code.example.test", MANY]) == ["opaque"]
    person = open_sign_in(browser)
    assert sign_in(person, product.passwords["dan"]).status == 303


@pytest.mark.parametrize("claims", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}, {}], ids=["cross-site", "of no origin", "unsaid"])
def test_what_is_refused_for_its_origin_is_not_counted(product, visit, claims):
    """A26. Whatever a browser sends along."""
    with visit("dan") as client:
        found = [client.post("/_csm/sign-in", data={"password": "wrong"}, headers=claims).status_code for _ in range(MANY)]
    assert set(found) == {403}
    with visit("dan") as client:
        assert product.sign_in(client).status_code == 303


def guess(product, visit, name, times=40):
    """Wrong passwords, from the address that all visitors here have."""
    with visit(name) as client:
        return [product.sign_in(client, password=f"guess {number}").status_code for number in range(times)]


def test_a_neighbours_guesses_do_not_lock_the_owner_out(host, product, visit):
    """A27. From the very address that the owner has. A browser in which signing in has worked is known, and has guesses of its
    own; the right password from elsewhere waits like any other, so that guesses stay few."""
    try:
        with visit("dan") as owner:
            assert product.sign_in(owner).status_code == 303
            assert owner.post("/_csm/sign-out", headers={"Origin": f"https://{owner.visited}"}).status_code == 303
            assert owner.get("/healthz").status_code == 401
            for name in ("alice", "dan"):
                found = guess(product, visit, name)
                assert set(found) <= {401, 429} and found.count(401) <= 10, found
            with visit("dan") as stranger:
                assert product.sign_in(stranger).status_code == 429
            assert product.sign_in(owner).status_code == 303
            assert owner.get("/healthz").status_code == 200
    finally:
        # It forgets what was guessed, for whoever comes next.
        host.run("systemctl", "restart", "code-server-multi-gateway.service")


def test_a_known_browser_is_known_at_its_own_workspace_alone(host, product, visit):
    """A27. And it has no more guesses than anybody."""
    try:
        with visit("dan") as owner:
            assert product.sign_in(owner).status_code == 303
            guess(product, visit, "dan")
            with visit("alice") as other:
                other.headers["Cookie"] = owner.cookie_header()
                assert product.sign_in(other).status_code == 429
            found = [product.sign_in(owner, password="wrong").status_code for _ in range(20)]
            assert found == [401] * 10 + [429] * 10
            # Its session goes on.
            assert owner.get("/healthz").status_code == 200
    finally:
        host.run("systemctl", "restart", "code-server-multi-gateway.service")
