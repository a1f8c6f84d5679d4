"""What others can do so that an owner can't sign in: a page on any site in somebody's browser behind the same address. Row A26."""

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
