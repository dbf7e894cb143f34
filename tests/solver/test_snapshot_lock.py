from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from sphereface.errors import SphereFaceError
from sphereface.solver.snapshot_lock import SnapshotLock

HOLD = """
import sys
from sphereface.solver.snapshot_lock import SnapshotLock
with SnapshotLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the prefix ``run``."""
    path = os.pathsep.join(sys.path)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.communicate()


def test_the_other_process_is_named(tmp_path, other):
    with pytest.raises(SphereFaceError, match=f"process {other.pid} on .*snapshot_prefix"):
        SnapshotLock(str(tmp_path / "run")).__enter__()
    with SnapshotLock(str(tmp_path / "run2")):
        pass
    other.communicate()
    with SnapshotLock(str(tmp_path / "run")):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_one_holds_nothing(tmp_path, other):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / ".run.lock").exists()
    with SnapshotLock(str(tmp_path / "run")):
        pass
    assert not (tmp_path / ".run.lock").exists()


def test_one_process_may_enter_twice_and_by_another_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with SnapshotLock("run"):
        with SnapshotLock(str(tmp_path / "run")):
            assert (tmp_path / ".run.lock").read_text().startswith(f"process {os.getpid()} ")
        assert (tmp_path / ".run.lock").exists()
    assert not (tmp_path / ".run.lock").exists()


def test_a_child_does_not_hold_its_parents(tmp_path):
    with SnapshotLock(str(tmp_path / "run")):
        child = os.fork()
        if child == 0:
            try:
                SnapshotLock(str(tmp_path / "run")).__enter__()
            except SphereFaceError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_missing_folder(tmp_path):
    with pytest.raises(SphereFaceError, match=r'snapshot_prefix ".*no/run": .*No such file'):
        SnapshotLock(str(tmp_path / "no" / "run")).__enter__()
