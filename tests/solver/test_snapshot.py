from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.solver.sidecar import Sidecar, read_sidecar
from sphereface.solver.snapshot import (
    newest_snapshot,
    read_snapshot,
    snapshot_files,
    write_snapshot,
)
from sphereface.weights import SolverState, load_weights, write_caffemodel


def write(prefix: str, iteration: int, value: float = 1.0, hdf5: bool = False):
    files = snapshot_files(prefix, iteration, hdf5)
    state = SolverState(iteration, str(files.model), [np.full(3, value, np.float32)])

    def model(path: Path) -> None:
        write_caffemodel(path, "net", [(b"\x0a\x01a", [np.full(3, value, np.float32)])])

    sidecar = Sidecar(iteration, buffers={"0/a.iteration": np.array(iteration)}, sources=[None])
    write_snapshot(files, model, state, sidecar)
    return files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_names_are_caffes(folder):
    write("out", 20)
    assert names(folder) == [
        "out_iter_20.caffemodel", "out_iter_20.solverstate", "out_iter_20.solverstate.npz",
    ]  # fmt: skip
    files = snapshot_files("a/b", 3, hdf5=True)
    assert files.model == Path("a/b_iter_3.caffemodel.h5")
    assert files.state == Path("a/b_iter_3.solverstate.h5")


def test_written_and_read(folder):
    files = write("out", 20, 2.5)
    loaded = read_snapshot(files.state)
    assert loaded.files == files
    assert loaded.state.iter == loaded.sidecar.iteration == 20
    assert loaded.state.history[0].tolist() == [2.5] * 3
    assert loaded.sidecar.buffers["0/a.iteration"] == 20


def test_newest_is_by_number(folder):
    assert newest_snapshot("out") is None
    for iteration in (9, 100, 20):
        write("out", iteration)
    write("out_b", 500)
    (folder / "out_iter_900.caffemodel").touch()
    assert newest_snapshot("out") == Path("out_iter_100.solverstate")
    assert newest_snapshot("nowhere/out") is None


# The steps of write_snapshot at which a process may end, as the operation that does not happen.
STEPS = ["write_solverstate", "write_sidecar", "unlink", "replace 1", "replace 2", "replace 3"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("iteration", [10, 5])
def test_ending_anywhere_leaves_a_whole_snapshot(step, iteration, folder, monkeypatch):
    """Of 5 there is an older set of the same name, as a run that is repeated meets it."""
    write("out", 5, 1.0)
    write("out", 4, 1.0)

    class Killed(BaseException):
        pass

    calls = {"replace": 0}

    def killed(*args, **kwargs):
        raise Killed

    def replace(path, target):
        if path.parent.name == ".out.partial" != Path(target).parent.name:
            calls["replace"] += 1
            if step == f"replace {calls['replace']}":
                raise Killed
        return path.rename(target)

    monkeypatch.setattr(Path, "replace", replace)
    if not step.startswith("replace"):
        where = Path if step == "unlink" else "sphereface.solver.snapshot"
        target = (where, "unlink") if step == "unlink" else (f"{where}.{step}",)
        monkeypatch.setattr(*target, killed)
    monkeypatch.setattr("shutil.rmtree", lambda *args, **kwargs: None)  # a kill cleans nothing up
    with pytest.raises(Killed):
        write("out", iteration, 2.0)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    newest = newest_snapshot("out")
    loaded = read_snapshot(newest)
    model = load_weights(loaded.files.model)["a"][0]
    assert model.tolist() == loaded.state.history[0].tolist()
    assert loaded.sidecar is not None
    write("out", 11, 3.0)  # what was left behind is not in the way
    assert read_snapshot("out_iter_11.solverstate").state.iter == 11
    assert ".out.partial" not in names(folder)


def test_files_of_different_snapshots_are_refused(folder):
    older = write("out", 5, 1.0)
    kept = older.model.read_bytes()
    write("out", 5, 2.0)
    older.model.write_bytes(kept)
    with pytest.raises(SphereFaceError, match=r"out_iter_5.caffemodel: not the file that was sav"):
        read_snapshot(older.state)
    older.sidecar.unlink()
    assert read_snapshot(older.state).sidecar is None


def test_missing_state(folder):
    with pytest.raises(SphereFaceError, match="no such file"):
        read_snapshot("x_iter_1.solverstate")


def test_full_disk_is_told_and_leaves_nothing(folder, monkeypatch):
    def full(path, state):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("sphereface.solver.snapshot.write_solverstate", full)
    with pytest.raises(SphereFaceError, match="No space left on device"):
        write("out", 1)
    assert names(folder) == []


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "pickle"])
def test_damaged_sidecar(damage, folder):
    files = write("out", 5)
    if damage == "cut":
        files.sidecar.write_bytes(files.sidecar.read_bytes()[:-100])
    elif damage == "pickle":
        np.savez(files.sidecar, meta=np.array({"iteration": 5}, dtype=object))
    else:
        files.sidecar.write_text("hello" * (damage == "text"))
    with pytest.raises(SphereFaceError, match=r"not a readable sidecar .*remove the file"):
        read_snapshot(files.state)


def test_sidecar_of_another_version(folder, monkeypatch):
    monkeypatch.setattr("sphereface.solver.sidecar._VERSION", 99)
    files = write("out", 5)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    with pytest.raises(SphereFaceError, match="version 99; expected 2"):
        read_sidecar(files.sidecar)
