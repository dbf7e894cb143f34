from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sphereface import pycaffe as caffe
from sphereface.errors import SphereFaceError
from sphereface.weights import read_caffemodel

GOLDEN = Path(__file__).parents[1] / "golden" / "train"
RUNS = ("sgd", "adam", "adadelta", "sgd_clip_iter2")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def digits():
    data = load_digits()
    return (data.images / 16)[:, None], data.target


def write(run, extra=""):
    Path("net.prototxt").write_text(str(run["net"]))
    Path("solver.prototxt").write_text(f"{run['solver']} {extra}")
    return "solver.prototxt"


def set_weights(net, run):
    for name, blobs in net.params.items():
        for index, blob in enumerate(blobs):
            blob.data[...] = run[f"init/{name}/{index}"]


def norm_error(ours, theirs):
    return np.linalg.norm(ours - theirs) / (np.linalg.norm(theirs) or 1)


@pytest.mark.parametrize("name", RUNS)
def test_recorded_trajectory_set_by_hand(name, digits):
    """The loop that recorded it, word for word."""
    run = np.load(GOLDEN / f"{name}.npz")
    solver = caffe.get_solver(write(run))
    assert type(solver).type.lower() == name.split("_")[0]
    set_weights(solver.net, run)
    images, labels = digits
    loss, lambda_ = [], []
    for rows in run["index"]:
        solver.net.blobs["data"].data[...] = images[rows]
        solver.net.blobs["label"].data[...] = labels[rows]
        solver.step(1)
        loss.append(float(solver.net.blobs["softmax_loss"].data))
        lambda_.append(float(solver.net.blobs["lambda"].data[0]))
    assert solver.iter == 80
    np.testing.assert_allclose(loss, run["loss"], rtol=1e-5)
    np.testing.assert_array_equal(lambda_, run["lam"])
    for name, blobs in solver.net.params.items():
        for index, blob in enumerate(blobs):
            assert norm_error(blob.data, run[f"final/{name}/{index}"]) < 1e-5
    assert Path("s_iter_40.solverstate").exists()
    assert Path("s_iter_80.caffemodel").exists()


def test_restore_and_snapshot(digits):
    run = np.load(GOLDEN / "sgd.npz")
    solver = caffe.SGDSolver(write(run))
    solver.restore(str(GOLDEN / "sgd_iter_40.solverstate"))
    assert solver.iter == 40
    images, labels = digits
    for rows in run["index"][40:]:
        solver.net.blobs["data"].data[...] = images[rows]
        solver.net.blobs["label"].data[...] = labels[rows]
        solver.step(1)
    for name, blobs in solver.net.params.items():
        for index, blob in enumerate(blobs):
            assert norm_error(blob.data, run[f"final/{name}/{index}"]) < 1e-5
    Path("s_iter_80.caffemodel").unlink()
    solver.snapshot()
    again = caffe.SGDSolver("solver.prototxt")
    again.restore("s_iter_80.solverstate")
    for name, blobs in solver.net.params.items():
        np.testing.assert_array_equal(again.net.params[name][0].data, blobs[0].data)


SMALL = """
name: "small"
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.1 momentum: 0.5 lr_policy: "fixed" random_seed: 1 '


@pytest.fixture
def small(rng):
    def build(extra="", cls=caffe.SGDSolver, net=SMALL, fill=True):
        Path("net.prototxt").write_text(net)
        Path("solver.prototxt").write_text(SOLVER + extra)
        solver = cls("solver.prototxt")
        if fill:
            for each in (solver.net, *solver.test_nets):
                each.blobs["data"].data[...] = rng.normal(size=(4, 3))
                each.blobs["label"].data[...] = rng.normal(size=(4, 2))
        return solver

    return build


def test_diffs_hold_the_update(small):
    solver = small()
    for _ in range(2):
        before = solver.net.params["fc"][0].data.copy()
        solver.step(1)
        update = solver.net.params["fc"][0].diff
        assert np.abs(update).max() > 1e-4
        np.testing.assert_allclose(before - solver.net.params["fc"][0].data, update, atol=1e-7)


def test_a_programs_own_passes(small):
    by_hand, by_step = small(), small()
    for name in ("data", "label"):
        by_hand.net.blobs[name].data[...] = by_step.net.blobs[name].data
    for _ in range(3):
        by_hand.net.clear_param_diffs()
        by_hand.net.forward()
        by_hand.net.backward()
        by_hand.apply_update()
    by_step.step(3)
    assert by_hand.iter == by_step.iter == 3
    for ours, theirs in zip(by_hand.net.params["fc"], by_step.net.params["fc"], strict=True):
        np.testing.assert_array_equal(ours.data, theirs.data)


def test_backward_after_a_step_is_no_error(small):
    solver = small()
    solver.step(1)
    solver.net.clear_param_diffs()
    solver.net.backward()
    assert np.abs(solver.net.params["fc"][0].diff).max() > 0


def test_test_nets_see_the_train_nets_weights(small, capfd):
    solver = small("test_iter: 2 test_interval: 2 max_iter: 4 snapshot_after_train: false")
    (test_net,) = solver.test_nets
    solver.solve()
    assert solver.iter == 4
    weight = solver.net.params["fc"][0].data
    np.testing.assert_array_equal(test_net.params["fc"][0].data, weight)
    weight[...] = 7
    assert (test_net.params["fc"][0].data == 7).all()
    err = capfd.readouterr().err
    assert re.search(r"solver\.cpp:\d+\] Solving small", err)
    told = re.findall(r"Test net output #0: loss = (\S+)", err)
    assert len(told) == 3
    x, y = (test_net.blobs[name].data for name in ("data", "label"))
    weight, bias = (blob.data for blob in caffe_weights(solver))
    expected = np.square(x @ weight.T + bias - y).sum() / 8
    test_net.forward()
    assert float(test_net.blobs["loss"].data) == pytest.approx(expected, rel=1e-5)


def caffe_weights(solver):
    return solver.net.params["fc"]


def test_log_is_as_quiet_as_glog(small, monkeypatch, capfd):
    monkeypatch.setenv("GLOG_minloglevel", "2")
    small("display: 1").step(2)
    assert capfd.readouterr().err == ""


def test_callbacks(small):
    solver, calls = small(), []
    solver.add_callback(lambda: calls.append("start"), lambda: calls.append("gradients"))
    solver.step(2)
    assert calls == ["start", "gradients"] * 2


def test_learning_rate(small):
    solver = small()
    solver.param.lr_policy, solver.param.gamma, solver.param.stepsize = "step", 0.1, 2
    rates = []
    for _ in range(5):
        rates.append(solver.lr)
        assert solver.lr == rates[-1]  # looking does not advance it
        solver.step(1)
    base = solver.param.base_lr
    np.testing.assert_allclose(rates, base * 0.1 ** np.array([0, 0, 1, 1, 2]), rtol=1e-6)
    solver.param.base_lr = 7
    assert solver.lr == pytest.approx(7 * 0.01)


def test_classes_and_types(small):
    names = ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"]
    for name in names:
        momentum = " momentum: 0" if name in ("AdaGrad", "RMSProp") else ""
        Path("net.prototxt").write_text(SMALL)
        Path("solver.prototxt").write_text(
            f'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" type: "{name}"{momentum}'
        )
        made = caffe.get_solver("solver.prototxt")
        assert type(made) is getattr(caffe, f"{name}Solver")
        assert made.param.type == name
    assert type(caffe.get_solver_from_file("solver.prototxt")) is caffe.AdamSolver
    # The class wins over the file.
    assert caffe.SGDSolver("solver.prototxt").param.type == "SGD"
    with pytest.raises(SphereFaceError, match="momentum 0.5 with AdaGrad"):
        small(cls=caffe.AdaGradSolver)


def test_a_lost_run_goes_on(small):
    solver = small()
    solver.net.blobs["data"].data[...] = np.nan
    solver.step(2)
    assert solver.iter == 2
    assert np.isnan(solver.net.blobs["loss"].data)


def test_snapshot_diff(small):
    solver = small('snapshot_diff: true snapshot_prefix: "d"')
    solver.step(2)
    solver.snapshot()
    (layer,) = [x for x in read_caffemodel("d_iter_2.caffemodel").layers if x.name == "fc"]
    np.testing.assert_array_equal(layer.blobs[0].diff, solver.net.params["fc"][0].diff)


def test_share_weights(small):
    solver = small()
    other = caffe.Net("net.prototxt", caffe.TEST)
    solver.share_weights(other)
    solver.step(1)
    np.testing.assert_array_equal(other.params["fc"][0].data, solver.net.params["fc"][0].data)


READING = """
name: "reading"
layer { name: "train" type: "ImageData" top: "data" top: "label" include { phase: TRAIN }
        image_data_param { source: "list.txt" batch_size: 3 shuffle: true } }
layer { name: "test" type: "ImageData" top: "data" top: "label" include { phase: TEST }
        image_data_param { source: "list.txt" batch_size: 5 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.001 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def test_data_layers_are_read_and_resumed(small, rng):
    import cv2

    lines = []
    for index in range(10):
        cv2.imwrite(f"{index}.png", rng.integers(0, 255, (4, 5, 3), dtype=np.uint8))
        lines.append(f"{index}.png {index % 4}\n")
    Path("list.txt").write_text("".join(lines))
    extra = 'test_iter: 1 test_interval: 5 snapshot_prefix: "r"'
    straight = small(extra, net=READING, fill=False)
    straight.step(9)
    assert straight.net.blobs["data"].data.shape == (3, 3, 4, 5)
    assert straight.test_nets[0].blobs["data"].data.shape == (5, 3, 4, 5)
    first = small(extra, net=READING, fill=False)
    first.step(4)
    first.snapshot()
    second = small(extra, net=READING, fill=False)
    second.step(1)
    second.restore("r_iter_4.solverstate")
    second.step(5)
    np.testing.assert_array_equal(second.net.blobs["data"].data, straight.net.blobs["data"].data)
    for ours, theirs in zip(second.net.params["fc"], straight.net.params["fc"], strict=True):
        np.testing.assert_array_equal(ours.data, theirs.data)


def write_reading(rng, extra=""):
    """Write a net that reads ten images, and its solver."""
    import cv2

    for index in range(10):
        cv2.imwrite(f"{index}.png", rng.integers(0, 255, (4, 5, 3), dtype=np.uint8))
    Path("list.txt").write_text("".join(f"{index}.png {index % 4}\n" for index in range(10)))
    Path("net.prototxt").write_text(READING)
    Path("solver.prototxt").write_text(
        f"{SOLVER} test_iter: 1 test_interval: 5 solver_mode: CPU {extra}"
    )


def trained_by_pycaffe(until, resume=None):
    solver = caffe.SGDSolver("solver.prototxt")
    if resume:
        solver.restore(resume)
    solver.step(until - solver.iter)
    solver.snapshot()
    return {name: blobs[0].data.copy() for name, blobs in solver.net.params.items()}


def trained_by_command(until, resume=""):
    from sphereface.solver.training import TrainOptions, train

    text = Path("solver.prototxt").read_text()
    Path("solver.prototxt").write_text(
        re.sub(r"max_iter: \d+|$", f" max_iter: {until}", text, count=1)
    )
    train(TrainOptions("solver.prototxt", gpu="none", snapshot=resume or ""))
    net = caffe.Net("net.prototxt", f"r_iter_{until}.caffemodel", caffe.TRAIN)
    return {name: blobs[0].data.copy() for name, blobs in net.params.items()}


@pytest.mark.parametrize(
    ("first", "second"),
    [(trained_by_command, trained_by_pycaffe), (trained_by_pycaffe, trained_by_command)],
)
def test_snapshots_cross_between_train_and_pycaffe(first, second, rng, capfd):
    """What one left another goes on with, on the same samples: both orders give one model."""
    write_reading(rng, 'snapshot_prefix: "r"')
    first(4)
    expected = first(9, "r_iter_4.solverstate")
    Path("r_iter_9.caffemodel").unlink()
    capfd.readouterr()
    found = second(9, "r_iter_4.solverstate")
    told = capfd.readouterr().err
    assert "dropped" not in told
    assert "anew" not in told
    for name, blob in expected.items():
        np.testing.assert_allclose(found[name], blob, rtol=1e-5, atol=1e-9)
    # The order of the images decided: another one gives another model.
    state = Path("r_iter_4.solverstate.npz")
    state.unlink()
    other = second(9, "r_iter_4.solverstate")
    assert any(not np.allclose(other[n], b, rtol=1e-5, atol=1e-9) for n, b in expected.items())


def test_a_net_fed_by_hand_snapshots_without_its_data(small):
    solver = small('snapshot_prefix: "h"', net=READING.replace(
        "batch_size: 3", "batch_size: 3 new_height: 4 new_width: 5"
    ).replace("batch_size: 5", "batch_size: 5 new_height: 4 new_width: 5"), fill=False)  # fmt: skip
    solver.net.blobs["label"].data[...] = 1
    solver.net.forward(start="fc")
    solver.net.backward()
    solver.apply_update()
    solver.snapshot()
    again = caffe.SGDSolver("solver.prototxt")
    again.restore("h_iter_1.solverstate")
    assert again.iter == 1


def test_a_caffemodel_is_no_solverstate(small):
    solver = small('snapshot_prefix: "w"')
    solver.snapshot()
    with pytest.raises(SphereFaceError, match="w_iter_0.caffemodel: weights, which have no state"):
        solver.restore("w_iter_0.caffemodel")
