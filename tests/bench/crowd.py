"""Many workspaces that are known and stopped, beside the three that run: what daemon and nginx make of them."""

from lab.product import PEOPLE

from .parts import spread

CROWD = "inside_crowd.py"
KNOWN = (10, 100, 1000)
# nginx at so many files; and where one more is added.
SNIPPETS = (10, 100)
ONE_MORE_AT = 100
# So many are stopped, with their mounts ready; those beyond are disabled: three mounts for each of a thousand are minutes.
STOPPED = 97


def crowd(place, options):
    found = {}
    pattern = a_password(place)
    names = place.inside("crowd", KNOWN[-1], pattern, script=CROWD, timeout=120)
    for known in KNOWN:
        found[str(known)] = at(place, options, known, names[: known - len(PEOPLE)])
    return {"rounds": options.crowd, "known": found}


def summed(found):
    return {what: spread(values) if isinstance(values, list) else values for what, values in found.items()}


def a_password(place):
    """The file in which a string that `csm password` made is kept."""
    product = place.product
    product.config["workspaces"]["eve"] = {"enabled": False}
    product.reload()
    product.csm("password", "eve", "--generate")
    return "/var/lib/code-server-multi/passwords/eve.argon2"


def at(place, options, known, names):
    product = place.product
    running = {name: product.workspace_table(name) for name in PEOPLE}
    others = {name: {} if number < STOPPED else {"enabled": False} for number, name in enumerate(names)}
    product.config["workspaces"] = running | others
    product.reload()
    ask = lambda *words, timeout=600: place.inside(*words, script=CROWD, timeout=timeout)
    ask("settled")
    product.wait_settled(deadline=300)
    found = {"starts": summed(ask("starts", options.crowd))}
    found["memory"] = ask("services", product.domain)
    found["bus"] = ask("bus")
    found["trips"] = summed(ask("trips", options.crowd * 2))
    if known in SNIPPETS:
        found["nginx"] = summed(ask("nginx", options.crowd))
    if known == ONE_MORE_AT:
        found["one more"] = spread(ask("one-more", options.crowd, product.domain, *names))
    return found
