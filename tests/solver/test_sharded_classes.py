"""Training with split classes: as one process, resumed bit for bit, one caffemodel, refusals."""

import re

import numpy as np
import pytest
import torch

from reference.tiny_training import write_training
from sphereface.class_range import ClassRange
from sphereface.distributed.ranks import Ranks
from sphereface.errors import SphereFaceError
from sphereface.solver.modes import Mode
from sphereface.solver.sharded_classes import Sharing
from sphereface.solver.sidecar import read_sidecar
from sphereface.solver.training import TrainOptions, train
from sphereface.weights import load_weights, read_solverstate

SPLIT = Mode(shard_classes=True)


def assert_close(one, two):
    assert one.keys() == two.keys()
    for name, blobs in one.items():
        for ours, theirs in zip(blobs, two[name], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_three_ranks_are_one_process_with_the_whole_batch(tmp_path, capfd):
    """4 classes over 3 ranks are 2, 2 and 0; clipping looks at the norm over all ranks."""
    models, states, told = [], [], []
    for ranks, batch, mode in ((1, 12, Mode()), (3, 4, SPLIT)):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        # Test nets read as many images, whatever the batch.
        tests = f"test_iter: {24 // batch} test_interval: 5"
        more = f"max_iter: 8 display: 4 clip_gradients: 0.5 {tests}"
        solver = write_training(folder, more, batch)
        train(TrainOptions(str(solver), gpu="none", ranks=ranks, mode=mode))
        models.append(load_weights(folder / "tiny_iter_8.caffemodel"))
        states.append(read_solverstate(folder / "tiny_iter_8.solverstate"))
        log = capfd.readouterr().err
        told.append([float(v) for v in re.findall(r"(?:loss|accuracy|lambda) = (\S+)", log)])
    assert models[0]["fc6"][0].shape == (4, 6)
    assert_close(models[1], models[0])
    assert len(states[0].history) == len(states[1].history)
    for ours, theirs in zip(states[1].history, states[0].history, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert len(told[0]) > 8
    np.testing.assert_allclose(told[1], told[0], rtol=1e-4)


@pytest.mark.slow
def test_a_snapshot_resumes_bit_for_bit(tmp_path):
    solver = str(write_training(tmp_path, "max_iter: 8 snapshot: 5"))
    end, state = tmp_path / "tiny_iter_8.caffemodel", str(tmp_path / "tiny_iter_5.solverstate")
    train(TrainOptions(solver, gpu="none", ranks=2, mode=SPLIT))
    whole = load_weights(end)
    end.unlink()
    train(TrainOptions(solver, gpu="none", ranks=2, mode=SPLIT, snapshot=state))
    for name, blobs in load_weights(end).items():
        for one, two in zip(blobs, whole[name], strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_a_sample_that_has_all_classes_is_all(tmp_path):
    """Each batch has every class, so that half of them at random and the batch's are all."""
    models = []
    for name, rate in (("all", 1.0), ("half", 0.5)):
        folder = tmp_path / name
        folder.mkdir()
        solver = write_training(folder, "max_iter: 6 clip_gradients: 0.5 iter_size: 2", 24)
        train(
            TrainOptions(
                str(solver), gpu="none", mode=Mode(shard_classes=True, sample_classes=rate)
            )
        )
        models.append(load_weights(folder / "tiny_iter_6.caffemodel"))
    assert_close(models[1], models[0])


@pytest.mark.slow
def test_sampled_classes_resume_bit_for_bit(tmp_path):
    mode = Mode(shard_classes=True, sample_classes=0.3)
    written = write_training(tmp_path, "max_iter: 6 snapshot: 3", 2)
    # Each run has a seed of its own; a resumed one has that of the run it goes on with.
    written.write_text(written.read_text().replace("random_seed: 3", ""))
    solver = str(written)
    end, state = tmp_path / "tiny_iter_6.caffemodel", str(tmp_path / "tiny_iter_3.solverstate")
    train(TrainOptions(solver, gpu="none", mode=mode))
    whole = load_weights(end)
    sidecar = read_sidecar(tmp_path / "tiny_iter_3.solverstate.npz")
    assert sidecar.passes["draws of classes for fc6"] == 3
    assert sidecar.passes.keys() == {"draws of classes for fc6", "seed of the draws for fc6"}
    end.unlink()
    train(TrainOptions(solver, gpu="none", mode=mode, snapshot=state))
    for name, blobs in load_weights(end).items():
        for one, two in zip(blobs, whole[name], strict=True):
            np.testing.assert_array_equal(one, two)


def test_draws_follow_random_seed_layer_and_classes():
    ranks = Ranks()

    def draws(seed, name, rank):
        sampler = Sharing(ranks, ranks, 0.1, seed).sampler(name)
        return sampler.draw(torch.tensor([0]), ClassRange.of(rank, 2, 2000)).tolist()

    first = draws(7, "fc6", 0)
    assert draws(7, "fc6", 0) == first
    for other in ((8, "fc6", 0), (7, "fc7", 0), (7, "fc6", 1), (1 << 40, "fc6", 0)):
        assert draws(*other) != first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_classes": 0.0, "shard_classes": True}, "--sample-classes: 0; expected above 0"),
        ({"sample_classes": 0.5}, "--sample-classes; expected with --shard-classes"),
        ({"sample_classes": 0.5, "shard_classes": True, "amp": "fp16"}, "with --amp fp16"),
    ],
)
def test_what_sampling_needs(options, message):
    with pytest.raises(SphereFaceError, match=message):
        Mode(**options)


@pytest.mark.parametrize(
    ("more", "change", "message"),
    [
        ("debug_info: true", str, "debug_info: true; expected a solver without it"),
        ("snapshot_diff: true", str, "snapshot_diff: true"),
        ("", lambda net: net.replace('"accuracy" type: "Accuracy"', '"a" type: "Softmax"')
            .replace('bottom: "fc6" bottom: "label" top: "accuracy"', 'bottom: "fc6" top: "p"')
            .replace("include { phase: TEST }", ""),
         r'layer "a" \(Softmax\).*a reader of the logits of "fc6"'),
        ("", lambda net: net.replace('weight_filler { type: "xavier" }\n    base',
                                     'weight_filler { type: "bilinear" }\n    base'),
         r'layer "fc6".*weight_filler bilinear'),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, more, change, message):
    solver = write_training(tmp_path, f"max_iter: 1 {more}")
    net = tmp_path / "net.prototxt"
    net.write_text(change(net.read_text()))
    with pytest.raises(SphereFaceError, match=message):
        train(TrainOptions(str(solver), gpu="none", mode=SPLIT))


def test_a_net_without_a_margin_layer(tmp_path):
    solver = write_training(tmp_path, "max_iter: 1")
    text = (tmp_path / "net.prototxt").read_text()
    text = text.replace("MarginInnerProduct", "InnerProduct").replace(' top: "lambda"', "")
    options = "inner_product_param { num_output: 4 }"
    text = re.sub(r"margin_inner_product_param \{.*?lambda_min: 5 \}", options, text, flags=re.S)
    text = text.replace('bottom: "fc5" bottom: "label"\n', 'bottom: "fc5"\n')
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(SphereFaceError, match="--shard-classes: net .* has no MarginInnerProduct"):
        train(TrainOptions(str(solver), gpu="none", mode=SPLIT))


def test_compile_is_refused():
    with pytest.raises(SphereFaceError, match="--compile with --shard-classes"):
        Mode(compile=True, shard_classes=True)
