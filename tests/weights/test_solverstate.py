from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto import schema
from sphereface.weights import SolverState, load_weights, read_solverstate, write_solverstate

TRAIN = Path(__file__).parent.parent / "golden" / "train"


@pytest.mark.parametrize(("iteration", "step"), [(40, 0), (80, 2)])
def test_recorded_snapshot(iteration: int, step: int, tmp_path: Path) -> None:
    path = TRAIN / f"sgd_iter_{iteration}.solverstate"
    state = read_solverstate(path)
    expected = schema.message("SolverState").FromString(path.read_bytes())
    assert (state.iter, state.current_step) == (iteration, step)
    assert state.learned_net == f"sgd_iter_{iteration}.caffemodel"
    shapes = [a.shape for blobs in load_weights(TRAIN / state.learned_net).values() for a in blobs]
    assert [array.shape for array in state.history] == shapes
    for array, proto in zip(state.history, expected.history, strict=True):
        np.testing.assert_array_equal(array.ravel(), np.array(proto.data, "f4"))
    write_solverstate(tmp_path / "out.solverstate", state)
    assert (tmp_path / "out.solverstate").read_bytes() == path.read_bytes()


def test_recorded_hdf5_snapshot(tmp_path: Path) -> None:
    path = TRAIN / "sgd_h5.solverstate.h5"
    state = read_solverstate(path)
    assert (state.iter, state.current_step, state.learned_net) == (5, 0, "sgd_h5.caffemodel.h5")
    params = np.load(TRAIN / "sgd_h5_params.npz")
    assert [a.shape for a in state.history] == [params[key].shape for key in params.files]
    out = tmp_path / "out.solverstate.h5"
    write_solverstate(out, state)
    with h5py.File(path) as theirs, h5py.File(out) as ours:
        assert sorted(ours) == sorted(theirs)
        for name in ("iter", "current_step"):
            assert ours[name].dtype == theirs[name].dtype
            assert ours[name].shape == theirs[name].shape == (1,)
            assert ours[name][0] == theirs[name][0]
        for index in range(9):
            before, after = theirs[f"history/{index}"], ours[f"history/{index}"]
            assert after.dtype == before.dtype
            assert after[()].tobytes() == before[()].tobytes()
        # Caffe reads into a buffer of the type's size and needs the closing zero there.
        kind = ours["learned_net"].id.get_type()
        assert kind.get_size() == len("sgd_h5.caffemodel.h5") + 1
        assert kind.get_strpad() == h5py.h5t.STR_NULLTERM
        assert not kind.is_variable_str()
    again = read_solverstate(out)
    assert (again.iter, again.learned_net) == (5, "sgd_h5.caffemodel.h5")


@pytest.mark.parametrize("suffix", ["", ".h5"])
def test_more_than_ten_histories_keep_their_order(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"s.solverstate{suffix}"
    history = [np.full((2, i % 3 + 1), i, np.float32) for i in range(23)]
    write_solverstate(path, SolverState(2**31 - 1, "net_ü", history, 7))
    state = read_solverstate(path)
    assert (state.iter, state.learned_net, state.current_step) == (2**31 - 1, "net_ü", 7)
    for array, expected in zip(state.history, history, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_content_and_not_the_name_tells_the_format(tmp_path: Path) -> None:
    path = tmp_path / "s.solverstate.h5"
    write_solverstate(tmp_path / "s", SolverState(3))
    (tmp_path / "s").rename(path)
    assert read_solverstate(path) == SolverState(3)


def test_damaged_states(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for data, problem in (
        (b"\x12\x01a", "no iter"),
        (b"\x08" + b"\xff" * 9 + b"\x01", "iter is -1; expected a count"),
        (b"\x08\x01\x20\xff\xff\xff\xff\x7f", "byte 2: current_step is 34359738367"),
        (b"\x08\x01\x18\x01", r"field 3 \(history\) is a varint"),
    ):
        path.write_bytes(data)
        with pytest.raises(SphereFaceError, match=problem):
            read_solverstate(path)
    for state in (SolverState(-1), SolverState(1, current_step=2**31)):
        with pytest.raises(SphereFaceError, match="expected a count"):
            write_solverstate(tmp_path / "t", state)


def test_damaged_hdf5_states(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    changes = {
        "iter: missing": lambda f: f.pop("iter"),
        "history/1: missing|a gap in the numbering": lambda f: f["history"].pop("1"),
        "iter: a dataset of float64; expected one integer": lambda f: replace(f, "iter", [1.0]),
        "iter: a dataset of int64": lambda f: replace(f, "iter", [1, 2]),
        "iter: -1; expected a count": lambda f: replace(f, "iter", [-1]),
        "learned_net: a dataset of int64": lambda f: replace(f, "learned_net", 3),
        "learned_net: a group": lambda f: (f.pop("learned_net"), f.create_group("learned_net")),
        "history: a dataset": lambda f: replace(f, "history", [1.0]),
    }
    for problem, change in changes.items():
        write_solverstate(path, SolverState(1, "n", [np.ones(2, "f4")] * 3))
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(SphereFaceError, match=problem) as caught:
            read_solverstate(path)
        assert str(path) in str(caught.value)


def replace(file: h5py.File, name: str, value: object) -> None:
    del file[name]
    file[name] = value
