"""What runs of the lab that go on at a time have in common: the machine, what is made once, and what is kept."""

import concurrent.futures
import fcntl
import os
import types

import pytest

from lab import durations, env, wait, workers
from lab.once import once

PRODUCT = False


def module(directory, name, text=""):
    file = directory / f"test_{name}.py"
    file.write_text(text)
    return types.SimpleNamespace(__file__=str(file), ALONE="ALONE = True" in text)


@pytest.fixture
def turns(monkeypatch, tmp_path):
    """Apart from the one that this very file has."""
    monkeypatch.setattr(workers.Turn, "PLACE", tmp_path / "turn")


def is_locked(place):
    with open(place, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_whoever_waits_to_be_alone_is_next(turns, tmp_path):
    """Not after all those who come later, as they would be who may play beside others; and these come right after it."""
    others, alone, order = module(tmp_path, "others"), module(tmp_path, "alone", "ALONE = True\n"), []

    def take(which):
        turn = workers.Turn()
        turn.take(which)
        order.append("alone" if which is alone else "others")
        return turn

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        present = [take(others), take(others)]
        try:
            waits = pool.submit(take, alone)
            wait.until("it waits", lambda: is_locked(tmp_path / "turn.gate"), 10)
            late = pool.submit(take, others)
            with pytest.raises(TimeoutError):
                late.result(0.3)
        finally:
            for one in present:
                one.leave()
        by_itself = waits.result(30)
        try:
            with pytest.raises(TimeoutError):
                late.result(0.3)
        finally:
            by_itself.leave()
        late.result(30).leave()
    assert order == ["others", "others", "alone", "others"]


def test_a_turn_lasts_as_long_as_its_host(turns, tmp_path):
    """Files that share one are not interrupted: whoever is alone in between could use up what its workspaces need."""
    shared = [module(tmp_path, name, "SHARED = True  # it only looks\n") for name in ("one", "two")]
    turn = workers.Turn()
    turn.take(shared[0])
    assert is_locked(workers.Turn.PLACE)
    assert not turn.ends_before(shared[1])
    assert turn.ends_before(None) and turn.ends_before(module(tmp_path, "three"))
    turn.leave()
    assert not is_locked(workers.Turn.PLACE)


def test_what_a_run_still_writes_to_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(env, "CACHE", tmp_path)
    monkeypatch.delenv("CSM_ARTIFACTS", raising=False)
    living = tmp_path / "artifacts" / f"20200101-000000-r{env.process(os.getppid())}"
    ended = [tmp_path / "artifacts" / f"20200101-0000{second}-r{os.getppid()}x1" for second in range(10, 22)]
    for one in (living, *ended):
        one.mkdir(parents=True)
    own = env.artifacts.__wrapped__()
    assert set(own.parent.iterdir()) == {own, living, *ended[-9:]}


def test_only_what_is_complete_is_there(tmp_path):
    place = tmp_path / "made"

    def half(new):
        new.write_text("half")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        once(place, half)
    assert not place.exists()
    assert once(place, lambda new: new.write_text("whole")) and place.read_text() == "whole"
    assert not once(place, half) and place.read_text() == "whole"


def played(monkeypatch, tmp_path, exitstatus=pytest.ExitCode.OK, args=("tests/lab",), **options):
    """What is known after a run of two files, of which one failed."""
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir(exist_ok=True)
    monkeypatch.setattr(env, "CACHE", tmp_path)
    monkeypatch.setattr(env, "artifacts", lambda: artifacts)
    (tmp_path / "durations.json").write_text('{"right": 100, "wrong": 100}')
    options = {"keyword": "", "deselect": None, "maxfail": 0, "collectonly": False, "markexpr": "not long"} | options
    said = durations.Durations(types.SimpleNamespace(option=types.SimpleNamespace(**options), args=args))
    for file, failed in (("right", False), ("wrong", True)):
        said.pytest_runtest_logreport(types.SimpleNamespace(nodeid=f"{file}::test", failed=failed, duration=3, when="call", longreprtext=""))
    said.pytest_sessionfinish(exitstatus)
    return durations.known()


def test_only_files_that_were_played_whole_say_how_long_they_take(monkeypatch, tmp_path):
    for part in ({"keyword": "some"}, {"args": ("tests/lab/test_x.py::test_y",)}, {"markexpr": "long"}, {"maxfail": 1}, {"exitstatus": pytest.ExitCode.INTERRUPTED}):
        assert played(monkeypatch, tmp_path, **part) == {"right": 100, "wrong": 100}, part
    assert played(monkeypatch, tmp_path, pytest.ExitCode.TESTS_FAILED) == {"right": 3, "wrong": 100}


def test_of_the_files_that_are_drawn_a_run_plays_one():
    items = [types.SimpleNamespace(nodeid=f"{file}::test_{n}", module=types.SimpleNamespace(**said)) for file, said in FILES.items() for n in (1, 2)]
    drawn = {one.nodeid.split("::")[0] for one in workers.drawn(items)}
    assert {"a.py", "b.py"} < drawn and len(drawn) == 3
    assert workers.drawn(items[:4]) == items[:4]


FILES = {"a.py": {}, "b.py": {"DRAWN": False}, "c.py": {"DRAWN": True}, "d.py": {"DRAWN": True}, "e.py": {"DRAWN": True}}
