"""axe-core on a page or a frame: what keeps people out who don't see, or don't use a mouse."""

import functools
import importlib.util
from pathlib import Path

# WCAG 2.2 A and AA, and what axe-core's authors hold to be good practice.
RUN = """async () => {
  const found = await axe.run(document, {resultTypes: ["violations"]});
  return found.violations.map(({id, impact, help, nodes}) => ({id, impact, help, where: nodes.map(node =>
    `${node.target.join(" ")}: ${node.failureSummary.replace(/\\s+/g, " ")}`)}));
}"""


@functools.cache
def _axe():
    """The script that the Python package carries; its own code is not used."""
    package = importlib.util.find_spec("axe_playwright_python")
    return (Path(package.origin).parent / "axe.min.js").read_text()


def findings(frame):
    """By severity: {"serious": ["what: where"], ...}."""
    frame.evaluate(_axe())
    found = {}
    for one in frame.evaluate(RUN):
        found.setdefault(one["impact"], []).append(f"{one['id']}: {one['help']}: {'; '.join(one['where'])}")
    return found


def assert_accessible(frame):
    found = findings(frame)
    assert not found.keys() & {"serious", "critical"}, found
    return found
