"""The host that files with SHARED = True have in turn: what its borrowers leave is put away, and what they change is their fault."""

import pytest

from lab.shared import Shared


def test_what_is_left_is_put_away_and_what_is_changed_is_told(pki):
    # Beside the one that this worker may have.
    with Shared(pki, "another-shared") as shared:
        product = shared.lend()
        before, name = product.main_pids(), product.host.name
        product.put_inside("dan", "/home/coder/project/left", b"by the first")
        product.inside_sh("dan", "(setsid sleep 1000 >/dev/null 2>&1 &)")
        dan = product.visitor("dan")
        shared.take_back("first-file")

        product = shared.lend()
        assert product.host.name == name and product.main_pids("alice", "sam") == {one: before[one] for one in ("alice", "sam")}
        assert product.inside_sh("dan", "ls -A /home/coder/project; pgrep -x sleep || true") == ""
        assert dan.get("/healthz").status_code == 401
        dan.close()
        product.host.put("/etc/lab/left", "by the second")
        stray = product.host.start("sleep", "1000")
        product.host.wait_for("it runs", lambda: product.host.run("pgrep", "-x", "sleep").stdout, 10)
        with pytest.raises(AssertionError, match="second-file is SHARED, and left") as told:
            shared.take_back("second-file")
        stray.communicate(timeout=20)
        assert "files: new: /etc/lab/left " in str(told.value) and "processes: new: sleep 1000" in str(told.value)
        # Nobody gets that one again.
        assert shared.product is None
