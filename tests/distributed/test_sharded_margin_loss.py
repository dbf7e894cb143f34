"""The loss over split classes against one process: values, gradients, statistics, checkpoints."""

import functools

import numpy as np
import pytest
import torch

import sharded_work as work
import sphereface
from sphereface import SphereFaceError
from sphereface.annealing import Annealing
from sphereface.distributed import ShardedMarginLoss
from sphereface.loss_options import LOSS_OPTIONS
from sphereface.margin_policy import (
    ArcFace,
    ASoftmax,
    CombinedMargin,
    CosFace,
    L2Softmax,
    LSoftmax,
    NormFace,
    SphereFace2,
    SphereFaceR,
    policy_of,
)
from sphereface.ops.margin_softmax import plain_logits

M, K, N = 12, 5, 23


@pytest.fixture
def problem(rng):
    label = rng.integers(N, size=M)
    label[3] = label[7]
    return rng.normal(size=(M, K)), rng.normal(size=(N, K)), label


def assert_equal_to_one_process(pool, ranks, problem, options, sizes=None, seed=None):
    x, weight, label = problem
    names = ("margin", "gradient", "ignore_index", *LOSS_OPTIONS)
    keywords = {name: options[name] for name in names if name in options}
    loss_of = functools.partial(sphereface.margin_softmax_loss, return_stats=True, **keywords)
    cotangent = None
    if options.get("reduction") == "none":
        cotangent = np.linspace(-1, 2, M)
    stats = []

    def value_of(*arguments):
        value, seen = loss_of(*arguments)
        stats.append(seen)
        return value

    value, dx, dweight = work.reference_step(x, weight, label, value_of, cotangent)
    results = pool.run(work.one_step, ranks, x, weight, label, options, sizes, cotangent)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
    if cotangent is None:
        for result in results:
            close(result["loss"], value)
    else:
        close(np.concatenate([result["loss"] for result in results]), value)
    assert np.abs(dx).max() > 1e-3
    assert np.abs(dweight).max() > 1e-3
    close(np.concatenate([result["dx"] for result in results]), dx)
    close(np.concatenate([result["dweight"] for result in results]), dweight)
    for index, field in enumerate(stats[0]):
        close(np.concatenate([result["stats"][index] for result in results]), field.numpy())


MEMBERS = {
    "plain": {"margin": 1},
    "caffe": {"margin": 4},
    "exact": {"margin": 3, "gradient": "exact"},
    "cosface": {"margin": CosFace(0.35, 16)},
    "arcface": {"margin": ArcFace(0.5, 16)},
    "easy": {"margin": ArcFace(0.5, 16, easy=True)},
    "normface": {"margin": NormFace(10)},
    "combined": {"margin": CombinedMargin(1.2, 0.3, 0.1, 10)},
    "real_m": {"margin": ASoftmax(2.5, 8.0)},
    "sphereface_r": {"margin": SphereFaceR(1.5, 12.0)},
    "l_softmax": {"margin": LSoftmax(2)},
    "l2_softmax": {"margin": L2Softmax(8.0)},
}


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("member", MEMBERS)
def test_equal_to_one_process(pool, ranks, member, problem):
    assert_equal_to_one_process(pool, ranks, problem, MEMBERS[member])


def test_a_learned_scale(pool, problem):
    x, weight, label = problem
    scale = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    work.reference_step(
        x, weight, label,
        lambda *tensors: sphereface.margin_softmax_loss(*tensors, margin=CosFace(0.35, scale)),
    )  # fmt: skip
    for result in pool.run(work.one_step, 3, x, weight, label, {}, None, None, 7.0):
        np.testing.assert_allclose(result["dscale"], scale.grad.numpy(), rtol=1e-10)


def test_bfloat16_is_summed_in_float32(pool, problem):
    x, weight, label = problem
    half = [torch.from_numpy(a).bfloat16().double().numpy() for a in (x, weight)]
    value, dx, dweight = work.reference_step(
        *half, label, lambda *t: sphereface.margin_softmax_loss(*t, margin=CosFace(0.35, 10))
    )
    results = pool.run(work.half_step, 3, x, weight, label)
    for index, expected in ((1, dx), (2, dweight)):
        got = np.concatenate([result[index] for result in results])
        assert np.linalg.norm(got - expected) < 0.02 * np.linalg.norm(expected)
    np.testing.assert_allclose([loss for loss, _, _ in results], value, rtol=0.01)


OPTIONS = {
    "lean": {"memory": "lean"},
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none"},
    "smoothing": {"label_smoothing": 0.2},
    "weights": {"class_weight": torch.linspace(0.5, 2, N, dtype=torch.float64)},
    "all": {
        "class_weight": torch.linspace(0.5, 2, N, dtype=torch.float64),
        "label_smoothing": 0.1,
    },
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options(pool, option, problem):
    assert_equal_to_one_process(pool, 3, problem, {"margin": 2, **OPTIONS[option]})


def test_ignored_labels(pool, problem):
    problem[2][[0, 5]] = -1
    options = {"margin": CosFace(0.35, 10), "ignore_index": -1}
    assert_equal_to_one_process(pool, 3, problem, options)


@pytest.mark.parametrize("sizes", [[7, 0, 5], [1, 2, 9]])
def test_uneven_batches(pool, sizes, problem):
    assert_equal_to_one_process(pool, 3, problem, {"margin": ArcFace(0.5, 10)}, sizes)


def test_a_rank_without_classes(pool, rng):
    x, weight = rng.normal(size=(M, K)), rng.normal(size=(5, K))
    label = rng.integers(5, size=M)
    assert_equal_to_one_process(pool, 4, (x, weight, label), {"margin": 4, "gradient": "exact"})


def test_equal_batches_need_not_tell(pool, problem):
    assert_equal_to_one_process(pool, 4, problem, {"margin": 4, "equal_batches": True})


def test_trains_a_data_parallel_net_as_one_process(pool, rng):
    x, weight, label = rng.normal(size=(M, 4)), rng.normal(size=(N, K)), rng.integers(N, size=M)
    first_layer = rng.normal(size=(K, 4))
    one = pool.run(work.train_with_ddp, 1, x, weight, label, first_layer, 4)[0]
    several = pool.run(work.train_with_ddp, 3, x, weight, label, first_layer, 4)
    for values, net, _ in several:
        np.testing.assert_allclose(values, one[0], rtol=1e-9)
        np.testing.assert_allclose(net, one[1], rtol=1e-9)
    parts = np.concatenate([part for _, _, part in several])
    np.testing.assert_allclose(parts, one[2], rtol=1e-9)
    assert one[0][-1] < one[0][0]


def test_the_single_process_is_the_fused_loss(problem):
    x, weight, label = (torch.from_numpy(a) for a in problem)
    loss = ShardedMarginLoss(K, N, 4, annealing=Annealing(100, 0.1, 1, 5), dtype=torch.float64)
    with torch.no_grad():
        loss.weight.copy_(weight)
    for count in (1, 2):
        expected = sphereface.margin_softmax_loss(x, weight, label, loss.annealing.at(count))
        torch.testing.assert_close(loss(x, label), expected)
    loss.eval()
    loss(x, label)
    assert int(loss.iteration) == 2


def test_the_start_does_not_depend_on_the_split(pool):
    whole = pool.run(work.started, 1, 3, 2500)[0]
    assert np.concatenate(pool.run(work.started, 3, 3, 2500)).tobytes() == whole.tobytes()
    assert -1 <= whole.min() < -0.99 < 0.99 < whole.max() <= 1  # sqrt(3 / 3)
    assert len(np.unique(whole)) > 7000


@pytest.mark.parametrize("margin", [4, CosFace(0.35, 10)], ids=["caffe", "cosface"])
def test_every_process_hears_of_a_weight_that_is_not_finite(pool, margin, problem):
    messages = pool.run(work.message_of, 3, *problem, {"margin": margin}, 1)
    assert "weight has a NaN or infinite value in row 0" in messages[1]
    for message in (messages[0], messages[2]):
        assert message.startswith("ShardedMarginLoss: another process met a value that is not")


def test_a_bad_label_is_told_by_every_process(pool, problem):
    problem[2][4] = N
    for message in pool.run(work.message_of, 2, *problem, {"margin": 4}, -1):
        assert f"is {N}; expected 0 to {N - 1}" in message


SEEN = {
    "annealed": ({"margin": 4, "annealing": Annealing(100, 0.1, 1, 5)}, [5, 0, 7]),
    "scaled": ({"margin": CosFace(0.35, 16), "ignore_index": -1}, [4, 4, 4]),
    "l2_softmax": ({"margin": L2Softmax(8.0), "sample_rate": 1.0}, [4, 4, 4]),
}


@pytest.mark.parametrize("member", SEEN)
def test_every_rank_notes_the_same_of_all_rows(pool, member, problem):
    x, weight, label = problem
    options, sizes = SEEN[member]
    if "ignore_index" in options:
        label[[0, 5]] = -1
    tensors = [torch.from_numpy(a) for a in (x, weight)]
    unit = [torch.nn.functional.normalize(t) for t in tensors]
    cosine = (unit[0] @ unit[1].T)[torch.arange(M), label][label >= 0].mean()
    lambda_ = 100 / 1.1 if "annealing" in options else 0
    expected = [lambda_, float(cosine), float(tensors[0].norm(dim=1).mean())]
    logits = plain_logits(*tensors, policy_of(options["margin"])).numpy()
    results = pool.run(work.seen_in_a_step, 3, x, weight, label, options, sizes)
    for seen, _ in results:
        np.testing.assert_allclose(seen, expected, rtol=1e-6)
        assert seen == results[0][0]
    rows, columns = np.split(np.arange(M), np.cumsum(sizes)[:-1]), np.array_split(np.arange(N), 3)
    for (_, given), own, classes in zip(results, rows, columns, strict=True):
        np.testing.assert_allclose(given, logits[np.ix_(own, classes)], rtol=1e-12, atol=1e-12)


def test_the_same_notes_as_the_module_of_one_process(problem):
    x, label = (torch.from_numpy(problem[i]).float() for i in (0, 2))
    sharded = ShardedMarginLoss(K, N, ArcFace(0.5, 16))
    module = sphereface.nn.ArcFaceLoss(K, N, 0.5, 16)
    with torch.no_grad():
        module.weight.copy_(sharded.weight)
    torch.testing.assert_close(sharded(x, label.long()), module(x, label.long()))
    for name in ("target_cosine", "x_norm"):
        torch.testing.assert_close(getattr(sharded, name), getattr(module, name))


def test_products_are_rounded(pool, problem):
    """As in one process, of which `margin_softmax_loss` has a test; the gradients stay wide."""
    x, weight, label = problem
    options = {"margin": 3, "gradient": "exact", "products": torch.bfloat16}
    rounded = [torch.from_numpy(a).bfloat16().double().numpy() for a in (x, weight)]
    value, dx, dweight = work.reference_step(
        *rounded, label, lambda *t: sphereface.margin_softmax_loss(*t, margin=3, gradient="exact")
    )
    results = pool.run(work.one_step, 2, x, weight, label, options)
    for result in results:
        np.testing.assert_allclose(result["loss"], value, rtol=0.01)
    for name, expected in (("dx", dx), ("dweight", dweight)):
        got = np.concatenate([result[name] for result in results])
        assert got.dtype == np.float64
        assert 0 < np.linalg.norm(got - expected) < 0.02 * np.linalg.norm(expected)


def test_without_a_label():
    loss = ShardedMarginLoss(K, N, CosFace())
    with pytest.raises(SphereFaceError, match="no label in training mode; expected x and label"):
        loss(torch.ones(2, K))
    loss.eval()
    assert loss(torch.ones(2, K)).shape == (2, N)
    with pytest.raises(SphereFaceError, match="no label with return_stats"):
        loss(torch.ones(2, K), return_stats=True)
    with pytest.raises(SphereFaceError, match=r"x has shape \(2, 3\); expected \(M, 5\)"):
        loss(torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="looks one-hot"):
        loss(torch.ones(2, K), torch.ones(2, N))
    with pytest.raises(RuntimeError, match="label has dtype float32"):
        loss(torch.ones(2, K), torch.ones(2))


def test_what_is_refused():
    for options, message in (
        ({"backbone": "max"}, "backbone is 'max'"),
        ({"margin": SphereFace2()}, "a softmax member without a bias"),
        ({"sample_rate": 0.0}, "rate 0.0"),
        ({"smoothing": 1}, "unknown option 'smoothing'"),
        ({"sample_rate": 0.5, "label_smoothing": 0.1}, "label_smoothing or"),
        ({"class_weight": torch.ones(3)}, r"class_weight has shape \(3,\)"),
    ):
        with pytest.raises(SphereFaceError, match=message):
            ShardedMarginLoss(K, N, **options)
    loss = ShardedMarginLoss(K, N, sample_rate=0.5)
    with pytest.raises(SphereFaceError, match="sampling of classes without an optimizer"):
        loss(torch.ones(2, K), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(SphereFaceError, match=r"x has shape \(2, 3\)"):
        loss(torch.ones(2, 3), torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_checkpoint_of_three_processes_loads_on_others(pool, ranks, tmp_path, rng):
    weight = rng.normal(size=(N, K))
    saved = pool.run(work.save_checkpoint, 3, weight, str(tmp_path))
    loaded = pool.run(work.load_checkpoint, ranks, weight, str(tmp_path))
    for index in range(2):  # the weight, and Adam's first moment
        whole = np.concatenate([part[index] for part in saved])
        assert len(np.unique(whole)) > N
        np.testing.assert_array_equal(np.concatenate([part[index] for part in loaded]), whole)
