from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.tiny_training import write_training
from sphereface.errors import SphereFaceError
from sphereface.solver import DivergedError, Solver, SolverCallback, newest_snapshot
from sphereface.solver.training import TrainOptions, train
from sphereface.weights import load_weights

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 1 bias_term: false
    weight_filler { type: "constant" value: 0.5 } } }
layer { name: "loss" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1
  reduction_param { operation: SUMSQ } }
"""


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_solver(folder, more="", **options):
    (folder / "net.prototxt").write_text(NET)
    text = f"""net: "{folder}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 20
        snapshot_prefix: "{folder}/run" {more}"""
    return Solver(text, **options)


class FailsAt(SolverCallback):
    """Raises in the call of a name, at an iteration."""

    def __init__(self, name: str, iteration: int, error: Exception) -> None:
        self.iteration, self.error = iteration, error
        setattr(self, name, self.called)

    def called(self, told) -> None:
        iteration = told.iter if isinstance(told, Solver) else told.iteration
        if iteration == self.iteration:
            raise self.error


def batches(count):
    return [{"x": np.ones((2, 3), np.float32)}] * count


@pytest.mark.usefixtures("one_thread")
def test_a_lost_image_costs_nothing(tmp_path, capsys):
    """The run that resumes with the image back is, bit for bit, the one that never lost it."""
    for name in ("lost", "whole"):
        (tmp_path / name).mkdir()
        write_training(tmp_path / name, "max_iter: 30 display: 1")
    folder = tmp_path / "lost"

    lost = folder / "2_3.png"
    solver = str(folder / "solver.prototxt")
    hidden = lost.with_suffix(".hidden")

    class Loses(SolverCallback):
        def on_iteration(self, record):
            if record.iteration == 6:
                lost.rename(hidden)

    from sphereface.solver import training

    listeners = training._listeners
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_listeners", lambda *given: [*listeners(*given), Loses()])
        with pytest.raises(SphereFaceError, match=r"2_3\.png"):
            train(TrainOptions(solver, gpu="none"))
    assert "saved before this training ends" in capsys.readouterr().err
    state = newest_snapshot(str(folder / "tiny"))
    assert 7 <= int(state.stem.split("_")[-1]) < 30
    hidden.rename(lost)
    train(TrainOptions(solver, gpu="none", snapshot=str(state)))
    train(TrainOptions(str(tmp_path / "whole" / "solver.prototxt"), gpu="none"))
    resumed, whole = (
        load_weights(tmp_path / name / "tiny_iter_30.caffemodel") for name in ("lost", "whole")
    )
    for layer, blobs in whole.items():
        for one, two in zip(blobs, resumed[layer], strict=True):
            np.testing.assert_array_equal(one, two)


def test_data_that_end_are_no_loss(tmp_path):
    with pytest.raises(SphereFaceError, match="the data ended at iteration 5"):
        make_solver(tmp_path).solve(batches(5))
    assert newest_snapshot(f"{tmp_path}/run").name == "run_iter_5.solverstate"


def test_a_reader_that_leaves_is_no_loss(tmp_path):
    """Neither is the one whose log cannot be told of the snapshot either."""

    class Left(FailsAt):
        def on_message(self, text):
            raise BrokenPipeError

        on_snapshot = on_message

    solver = make_solver(tmp_path, callbacks=[Left("on_iteration", 3, BrokenPipeError())])
    with pytest.raises(BrokenPipeError):
        solver.solve(batches(20))
    solver = make_solver(tmp_path)
    solver.restore(newest_snapshot(f"{tmp_path}/run"))
    # y = 3 w of a row of ones, loss = 2 y^2, so w goes down by lr * 2 * 2 * y each time.
    expected = 0.5
    for _ in range(4):
        expected -= 0.01 * 4 * 3 * expected
    weight = next(iter(solver.net.parameters()))
    assert solver.iter == 4
    np.testing.assert_allclose(weight.detach().numpy(), [[expected] * 3], rtol=1e-6)


@pytest.mark.parametrize(
    ("callback", "more"),
    [
        (FailsAt("on_gradients", 4, DivergedError("nan", where="", fix="")), ""),
        (FailsAt("on_forward", 0, OSError("at once")), ""),
        (FailsAt("on_gradients", 4, OSError("a")), "snapshot_after_train: false"),
    ],
    ids=["no number", "nothing learned", "no snapshots wanted"],
)
def test_no_snapshot(tmp_path, callback, more):
    with pytest.raises(type(callback.error)):
        make_solver(tmp_path, more, callbacks=[callback]).solve(batches(20))
    assert newest_snapshot(f"{tmp_path}/run") is None


def test_no_snapshot_of_half_an_update(tmp_path):
    solver = make_solver(tmp_path)
    apply = solver.updater.apply

    def fails(grads, rate, iteration, tell):
        if iteration == 4:
            raise RuntimeError("half")
        return apply(grads, rate, iteration, tell)

    solver.updater.apply = fails
    with pytest.raises(RuntimeError, match="half"):
        solver.solve(batches(20))
    assert newest_snapshot(f"{tmp_path}/run") is None


def test_no_second_snapshot_of_the_same(tmp_path):
    heard = []

    class Hears(SolverCallback):
        def on_snapshot(self, files):
            heard.append(files.state.name)

    with pytest.raises(SphereFaceError, match="the data ended"):
        make_solver(tmp_path, "snapshot: 5", callbacks=[Hears()]).solve(batches(5))
    assert heard == ["run_iter_5.solverstate"]


def test_the_error_stays_when_the_disk_is_full(tmp_path, monkeypatch):
    told = []

    class Hears(SolverCallback):
        def on_message(self, text):
            told.append(text)

    def full(*given):
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr("sphereface.solver.snapshot.write_solverstate", full)
    with pytest.raises(SphereFaceError, match="the data ended"):
        make_solver(tmp_path, callbacks=[Hears()]).solve(batches(5))
    assert told[-1].startswith("no snapshot of iteration 5: ")
    assert "No space left" in told[-1]
