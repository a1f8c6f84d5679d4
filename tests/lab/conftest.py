"""A fresh disposable host for each story file, what is worth seeing after a failure, and nothing left behind.

A story file may set NEEDS (see lab/needs.py), PRODUCT (False: a bare host without csm in it), INSTALLED (False: it installs csm
itself), SHARED (True: it changes nothing, and shares a host with others; see lab/shared.py), ALONE (True: nothing else is
played meanwhile, see lab/workers.py) and DRAWN (True: a run of all files plays one of those that say so). A file is played by
one worker."""

import contextlib
import os
import re
import subprocess

import pytest

from lab import browser as browsers, dice, durations, env, host as hosts, layer, needs, pace, snapshot, wait, workers
from lab.browser import Browser
from lab.client import Client
from lab.pki import Pki
from lab.product import Product
from lab.shared import Shared


@pytest.fixture(scope="session", autouse=True)
def nothing_left():
    """Of this worker, or of the only process that there is."""
    yield
    browsers.stop()
    try:
        wait.until("nothing is left", lambda: not hosts.left_behind(), 10)
    except wait.TimedOut:
        pytest.fail(f"{env.RUN} left behind:\n" + "\n".join(hosts.left_behind()), pytrace=False)


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def host(request):
    module = request.module
    kind = needs.kind_for(getattr(module, "NEEDS", set()))
    if workers.is_shared(module.__file__):
        assert not {"NEEDS", "CONFIGURE", "ALONE"} & vars(module).keys(), "a host that is shared is like all others"
        yield from _lent(request, request.getfixturevalue("shared"))
        return
    name, store = _story(module).removeprefix("test_"), None
    if getattr(module, "PRODUCT", True):
        store = env.product("STORE")
    with hosts.Host(name, kind, store, _installed(module)) as host:
        request.config.stash[_open].append(host)
        yield host
        request.config.stash[_open].remove(host)


def _installed(module):
    """What the hosts of a file begin with, made if need be; nothing of those that install the product themselves, or have none."""
    if not getattr(module, "PRODUCT", True) or not getattr(module, "INSTALLED", True):
        return None
    return layer.place() if needs.kind_for(getattr(module, "NEEDS", set())) == "ns" else snapshot.place()


@pytest.fixture(scope="session")
def shared(request, pki):
    with Shared(pki) as shared:
        request.config.stash[_shared] = shared
        yield shared


def _lent(request, shared):
    request.config.stash[_open].append(shared)
    try:
        yield shared.lend().host
        shared.take_back(_story(request.module))
    finally:
        request.config.stash[_open].remove(shared)


@pytest.fixture(scope="module")
def product(request, host, pki):
    """csm installed and all workspaces ready. A story file may set CONFIGURE, a function that gets the Product
    before the configuration is written."""
    if workers.is_shared(request.module.__file__):
        return request.getfixturevalue("shared").product
    product = Product(host, pki)
    getattr(request.module, "CONFIGURE", lambda product: None)(product)
    product.install()
    product.wait_ready()
    return product


@pytest.fixture(scope="module")
def browser(request, host, pki, tmp_path_factory):
    pictures = env.artifacts() / _story(request.module)
    with Browser(host, pki, tmp_path_factory.mktemp("browser"), pictures) as browser:
        request.config.stash[_open].append(browser)
        yield browser
        request.config.stash[_open].remove(browser)


@pytest.fixture
def visit(host, pki):
    """visit("dan") is a client without cookies at dan's address."""
    made = []

    def client(name, **options):
        made.append(Client(host, pki, name, **options))
        return made[-1]

    yield client
    for one in made:
        one.close()


_open = pytest.StashKey[list]()
_shared = pytest.StashKey[Shared]()
_phase = pytest.StashKey[float]()
_turn = workers.Turn()


def _story(module):
    """The name of a story's file; pytest puts its directory in front."""
    return module.__name__.split(".")[-1]


def pytest_configure(config):
    config.stash[_open] = []
    if env.WORKER:
        return
    # What workers keep goes into one directory.
    os.environ["CSM_ARTIFACTS"] = str(env.artifacts())
    config.pluginmanager.register(durations.Durations(config))
    if os.environ.get("CSM_LAB_STORE"):
        os.environ[workers.MADE] = "yes" if snapshot.exists() else ""
    hosts.of_runs_that_died()


def pytest_report_header():
    return f"seed: {dice.SEED} (CSM_LAB_SEED={dice.SEED} repeats what is drawn)"


def pytest_xdist_auto_num_workers(config):
    """No more than there are files, where files are named."""
    named = [one for one in config.args if one.split("::")[0].endswith(".py")]
    return min(workers.count(), len(named)) if len(named) == len(config.args) else workers.count()


def pytest_xdist_make_scheduler(config, log):
    return workers.Scheduling(config, log)


def pytest_collection_modifyitems(config, items):
    # Who names stories or files gets them.
    whole = not config.option.keyword and not any(".py" in one for one in config.args)
    played = workers.drawn(items) if whole else items
    if dropped := [item for item in items if item not in played]:
        config.hook.pytest_deselected(items=dropped)
    items[:] = workers.in_order(played)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    _turn.take(item.module)
    # Made once for all, which may take minutes or wait for another worker: no story's time either. What fails here fails again
    # in the story, which tells it.
    with contextlib.suppress(Exception):
        _installed(item.module)
    item.stash[_phase] = pace.clock()
    try:
        return (yield)
    finally:
        if _turn.ends_before(nextitem and nextitem.module):
            # Whoever is alone next, in any run, is so without it too. If it doesn't come down, `nothing_left` says so.
            if shared := item.config.stash.get(_shared, None):
                with contextlib.suppress(Exception):
                    shared.end()
            _turn.leave()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    now = pace.clock()
    # Beside `duration`, which is what it took with everything else that went on.
    report.paced, item.stash[_phase] = now - item.stash[_phase], now
    if report.failed:
        place = env.artifacts() / re.sub("[^A-Za-z0-9_.-]+", "-", item.nodeid.split("/")[-1]) / call.when
        for one in item.config.stash[_open]:
            one.collect(place / type(one).__name__.lower())
        report.sections.append(("collected", str(place)))
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """By whoever outlives the workers: what one of them left that was killed, and what all hosts share."""
    if env.WORKER:
        return
    found = hosts.left_behind()
    store = os.environ.get("CSM_LAB_STORE")
    if store and subprocess.run([env.LAB / "fill-store", "--check", os.path.dirname(store)]).returncode:
        found.append(f"a change of the image store that all hosts share: {store}")
    if changed := layer.changed():
        found.append(f"a change of the installed product that all hosts share: {changed}")
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.pluginmanager.get_plugin("terminalreporter").write_line("this run left behind:\n" + "\n".join(found), red=True)
