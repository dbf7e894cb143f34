from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sphereface.caffe import Net
from sphereface.errors import SphereFaceError
from sphereface.solver import Action, Solver
from sphereface.weights import read_solverstate

RUNS = ("sgd", "adam", "adadelta", "sgd_clip_iter2")


def start(run, recording) -> Solver:
    """Return a solver of a recorded run with its initial weights."""
    Path("net.prototxt").write_text(run.net)
    solver = Solver(run.solver, callbacks=[recording])
    solver.copy_from(run.init)
    return solver


def weights(net: Net) -> dict[str, list[np.ndarray]]:
    return {
        layer.name: [blob.detach().numpy().copy() for blob in layer.blobs]
        for layer in net.layers
        if layer.blobs
    }


def assert_weights(found, expected, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, blobs in expected.items():
        for ours, theirs in zip(found[name], blobs, strict=True):
            assert np.linalg.norm(ours - theirs) <= tolerance * np.linalg.norm(theirs), name


def feed(run):
    """Yield a batch for every pass: the recording used each for all passes of an iteration."""
    passes = 2 if "iter_size: 2" in run.solver else 1
    return (batch for batch in run.batches for _ in range(passes))


# ---- recordings of the original


@pytest.mark.parametrize("name", RUNS)
def test_recorded_trajectory(name, recorded_run, folder, recording):
    run = recorded_run(name)
    solver = start(run, recording)
    solver.solve(feed(run))
    loss = [record.outputs["softmax_loss"].item() for record in recording.records]
    lambda_ = [record.outputs["lambda"].item() for record in recording.records]
    assert np.ptp(run.loss) > 0.5  # the run goes somewhere
    np.testing.assert_allclose(loss, run.loss, rtol=1e-5)
    np.testing.assert_array_equal(np.float32(lambda_), np.float32(run.lam))
    assert_weights(weights(solver.net), run.final, 1e-5)
    assert solver.iter == 80


@pytest.mark.parametrize("iteration", [40, 80])
def test_snapshot_equals_the_recorded_one(iteration, recorded_run, folder, recording, golden):
    run = recorded_run("sgd")
    solver = start(run, recording)
    solver.solve(feed(run))
    ours = read_solverstate(f"s_iter_{iteration}.solverstate")
    theirs = read_solverstate(golden / f"sgd_iter_{iteration}.solverstate")
    assert (ours.iter, ours.current_step) == (theirs.iter, theirs.current_step)
    assert [a.shape for a in ours.history] == [a.shape for a in theirs.history]
    for mine, recorded in zip(ours.history, theirs.history, strict=True):
        assert np.linalg.norm(mine - recorded) <= 1e-4 * np.linalg.norm(recorded)
    again = start(run, recording)
    again.net.copy_from(f"s_iter_{iteration}.caffemodel", strict=True)
    mine = weights(again.net)
    again.net.copy_from(golden / f"sgd_iter_{iteration}.caffemodel", strict=True)
    assert_weights(mine, weights(again.net), 1e-5)


def test_caffes_snapshot_is_resumed(recorded_run, folder, recording, golden):
    run = recorded_run("sgd")
    solver = start(run, recording)
    solver.restore(golden / "sgd_iter_40.solverstate")
    assert (solver.iter, solver.current_step) == (40, 0)
    solver.step(40, run.batches[40:])
    loss = [record.outputs["softmax_loss"].item() for record in recording.records]
    np.testing.assert_allclose(loss, run.loss[40:], rtol=1e-5)
    lambda_ = [record.outputs["lambda"].item() for record in recording.records]
    np.testing.assert_array_equal(np.float32(lambda_), np.float32(run.lam[40:]))
    assert_weights(weights(solver.net), run.final, 1e-5)
    assert any("fc6 40" in message for message in recording.messages)


def test_the_policys_step_is_resumed(recorded_run, folder, recording, golden):
    run = recorded_run("sgd")
    solver = start(run, recording)
    solver.restore(golden / "sgd_iter_80.solverstate")
    assert (solver.iter, solver.current_step) == (80, 2)
    solver.step(1, run.batches)
    assert recording.records[-1].rate == pytest.approx(0.05 * 0.01)


def test_counters_follow_iter_size(recorded_run, folder, recording, golden):
    run = recorded_run("sgd_clip_iter2")
    solver = start(run, recording)
    solver.restore(golden / "sgd_iter_40.solverstate")
    assert int(solver.net.layer("fc6").iteration) == 80


def test_caffes_hdf5_snapshot_is_resumed(recorded_run, folder, recording, golden):
    run = recorded_run("sgd")
    for name in ("sgd_h5.caffemodel.h5", "sgd_h5.solverstate.h5"):
        (folder / name).write_bytes((golden / name).read_bytes())
    solver = start(run, recording)
    solver.restore("sgd_h5.solverstate.h5")
    arrays = np.load(golden / "sgd_h5_params.npz")
    expected: dict[str, list[np.ndarray]] = {}
    for key in arrays.files:
        expected.setdefault(key.split("/")[0], []).append(arrays[key])
    assert_weights(weights(solver.net), expected, 0)
    state = read_solverstate("sgd_h5.solverstate.h5")
    for ours, theirs in zip(solver.updater.history, state.history, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)
    solver.step(1, run.batches[5])
    assert solver.iter == 6


def test_hdf5_snapshots(recorded_run, folder, recording):
    run = recorded_run("sgd")
    run.solver += " snapshot_format: HDF5"
    solver = start(run, recording)
    solver.step(40, run.batches)
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith("s_")) == [
        "s_iter_40.caffemodel.h5", "s_iter_40.solverstate.h5", "s_iter_40.solverstate.h5.npz",
    ]  # fmt: skip
    solver.step(40, run.batches[40:])
    final = weights(solver.net)
    again = start(run, recording)
    again.restore("s_iter_40.solverstate.h5")
    again.step(40, run.batches[40:])
    assert_weights(weights(again.net), final, 0)


# ---- step and solve


def test_loss_is_averaged_over_average_loss(regression, rows, recording):
    solver = regression('base_lr: 0.1 lr_policy: "fixed" average_loss: 3 display: 2')
    batches = rows(6)
    solver.step(6, batches)
    losses = [record.loss for record in recording.records]
    smoothed = [np.mean(losses[max(0, i - 2) : i + 1]) for i in range(6)]
    np.testing.assert_allclose([r.smoothed_loss for r in recording.records], smoothed, rtol=1e-6)
    assert [record.display for record in recording.records] == [True, False] * 3
    assert [record.samples for record in recording.records] == [4] * 6


def test_iter_size_is_a_bigger_batch(regression, rows):
    small = regression('base_lr: 0.1 momentum: 0.9 lr_policy: "fixed" iter_size: 2')
    big = regression('base_lr: 0.1 momentum: 0.9 lr_policy: "fixed"')
    batches = rows(8)
    small.step(4, batches)
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        big.step(1, {k: np.concatenate([first[k], second[k]]) for k in first})
    for ours, theirs in zip(small.net.parameters(), big.net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_frozen_blobs_stay_and_have_a_history(recorded_run, folder, recording):
    run = recorded_run("sgd")
    solver = start(run, recording)
    frozen = solver.net.layer("conv2").bias
    frozen.data.fill_(0.5)
    solver.step(2, run.batches)
    assert frozen.grad is None
    assert (frozen == 0.5).all()
    assert len(solver.updater.history) == 9
    assert solver.updater.history[4].shape == frozen.shape
    assert not solver.updater.history[4].any()


def test_random_seed_repeats_the_fillers(regression, rows):
    text = 'base_lr: 0.1 lr_policy: "fixed"'
    first, second = regression(text), regression(text)
    assert torch.equal(first.net.layer("fc").weight, second.net.layer("fc").weight)
    other = regression(text, rank=1)
    assert not torch.equal(first.net.layer("fc").weight, other.net.layer("fc").weight)


def test_solve_snapshots_and_tells(regression, rows, recording, folder):
    text = 'base_lr: 0.1 lr_policy: "fixed" max_iter: 5 snapshot: 2 snapshot_prefix: "r" display: 5'
    regression(text).solve(rows(6))
    states = sorted(path.name for path in folder.glob("*.solverstate"))
    assert states == ["r_iter_2.solverstate", "r_iter_4.solverstate", "r_iter_5.solverstate"]
    assert recording.messages[-2].startswith("Iteration 5, loss = ")
    assert recording.messages[-1] == "Optimization Done."


def test_no_snapshot_after_train(regression, rows, folder):
    text = 'base_lr: 0.1 lr_policy: "fixed" max_iter: 3 snapshot_after_train: false'
    regression(text).solve(rows(3))
    assert [path.name for path in folder.iterdir()] == ["net.prototxt"]


def test_solve_without_a_prefix_is_refused_before_it_trains(regression, rows):
    solver = regression('base_lr: 0.1 lr_policy: "fixed" max_iter: 3')
    with pytest.raises(SphereFaceError, match="snapshot_prefix"):
        solver.solve(rows(3))
    assert solver.iter == 0


def test_stop_and_snapshot_actions(regression, rows, recording, folder):
    asked = iter([Action.NONE, Action.SNAPSHOT, Action.STOP])
    solver = regression(
        'base_lr: 0.1 lr_policy: "fixed" max_iter: 9 snapshot_prefix: "r"',
        action=lambda: next(asked),
    )
    solver.solve(rows(9))
    assert solver.iter == 3
    assert solver.stopped
    assert sorted(p.name for p in folder.glob("*.solverstate")) == [
        "r_iter_2.solverstate", "r_iter_3.solverstate",
    ]  # fmt: skip
    assert recording.messages[-1] == "Optimization stopped early."


def test_only_rank_0_snapshots(regression, rows, folder):
    text = 'base_lr: 0.1 lr_policy: "fixed" max_iter: 2 snapshot: 1 snapshot_prefix: "r"'
    regression(text, rank=1).solve(rows(2))
    assert not list(folder.glob("r_*"))


def test_net_without_a_feed_names_its_inputs(regression):
    with pytest.raises(SphereFaceError, match=r"data, label.*source of batches"):
        regression('base_lr: 0.1 lr_policy: "fixed"').step(1)


def test_the_end_of_the_data_is_told(regression, rows):
    with pytest.raises(SphereFaceError, match="data ended at iteration 2"):
        regression('base_lr: 0.1 lr_policy: "fixed"').step(3, rows(2))


def test_weights_of_the_solver_and_of_files(regression, rows, folder):
    text = 'base_lr: 0.1 lr_policy: "fixed" snapshot_prefix: "r"'
    trained = regression(text)
    trained.step(3, rows(3))
    trained.snapshot()
    other = regression(text + ' weights: "r_iter_3.caffemodel"')
    assert torch.equal(other.net.layer("fc").weight, trained.net.layer("fc").weight)
    assert other.iter == 0
    third = regression(text)
    third.copy_from("r_iter_3.caffemodel,r_iter_3.caffemodel")
    assert torch.equal(third.net.layer("fc").bias, trained.net.layer("fc").bias)


def test_layers_that_the_weights_lack_are_told(regression, recording):
    solver = regression('base_lr: 0.1 lr_policy: "fixed"')
    solver.copy_from({"other": [np.zeros((2, 3), np.float32)]})
    assert recording.messages[-2] == "Ignoring source layer other"
    assert "nothing was copied" in recording.messages[-1]


def test_apply_update_uses_gradients_of_the_caller(regression, rows):
    text = 'base_lr: 0.1 momentum: 0.9 lr_policy: "step" stepsize: 1 gamma: 0.5'
    by_hand, by_step = regression(text), regression(text)
    for batch in rows(3):
        by_hand.passes.clear(by_hand.updater.parameters)
        by_hand.net.loss(by_hand.net({k: torch.from_numpy(v) for k, v in batch.items()})).backward()
        by_hand.apply_update()
        by_step.step(1, batch)
    assert by_hand.iter == 3
    for ours, theirs in zip(by_hand.net.parameters(), by_step.net.parameters(), strict=True):
        assert torch.equal(ours, theirs)
