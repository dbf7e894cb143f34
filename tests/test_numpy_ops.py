import multiprocessing
import sys
import threading
import warnings

import numpy as np
import pytest
import torch

import sphereface
from reference import a_softmax
from reference.margin_goldens import FILES, read
from sphereface import SphereFaceError, numpy_ops


def sample(rng, rows=9, features=13, classes=17, dtype=np.float64):
    x, weight, grad = (
        rng.normal(size=shape).astype(dtype)
        for shape in ((rows, features), (classes, features), (rows, classes))
    )
    label = rng.integers(classes, size=rows)
    label[-1] = label[0]
    return x, weight, label, grad


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_recording_of_the_original(path, norm_error):
    g = read(path)
    weight = g.weight.copy()
    lambda_ = numpy_ops.annealed_lambda(g.iteration + 1, **g.annealing)
    assert abs(lambda_ - g.lambda_[0]) <= 2e-6 * g.lambda_[0]
    y = numpy_ops.forward(g.x, weight, g.label, lambda_, g.type)
    dx, dweight = numpy_ops.backward(g.grad, g.x, weight, g.label, lambda_, g.type)
    assert y.dtype == dx.dtype == dweight.dtype == np.float32
    for ours, expected in ((y, g.y), (weight, g.weight_after), (dx, g.dx), (dweight, g.dweight)):
        assert norm_error(ours, expected) < 2e-6


@pytest.mark.parametrize("gradient", ["caffe", "exact"])
@pytest.mark.parametrize("margin", [1, 2, 3, 4])
def test_float64_reference_and_torch(margin, gradient, rng, norm_error):
    x, weight, label, grad = sample(rng, rows=40)
    expected = a_softmax.forward(x, weight, label, 0.75, margin)
    backward = a_softmax.caffe_backward if gradient == "caffe" else a_softmax.exact_backward
    dx_expected, dweight_expected = backward(grad, x, weight, label, 0.75, margin)

    tensors = [torch.tensor(a, requires_grad=True) for a in (x, weight)]
    y_torch = sphereface.margin_inner_product(*tensors, torch.tensor(label), 0.75, margin, gradient)
    y_torch.backward(torch.tensor(grad))

    y = numpy_ops.forward(x, weight, label, 0.75, margin, gradient)
    dx, dweight = numpy_ops.backward(grad, x, weight, label, 0.75, margin, gradient)
    for ours, reference, torchs in (
        (y, expected, y_torch.detach()),
        (dx, dx_expected, tensors[0].grad),
        (dweight, dweight_expected, tensors[1].grad),
    ):
        assert norm_error(ours, reference) < 1e-11
        assert norm_error(ours, torchs) < 1e-13


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normalize_in_place_once(dtype, rng):
    weight = sample(rng, features=301, dtype=dtype)[1]
    weight[3] = 0
    numpy_ops.normalize(weight)
    norms = np.linalg.norm(weight.astype(np.float64), axis=1)
    assert norms[3] == 0
    np.testing.assert_allclose(np.delete(norms, 3), 1, rtol=4 * np.finfo(dtype).eps)
    once = weight.copy()
    numpy_ops.normalize(weight)
    np.testing.assert_array_equal(weight, once)


def test_layout_and_label_dtype_do_not_matter(rng, norm_error):
    x, weight, label, grad = sample(rng)
    expected = numpy_ops.backward(grad, x, weight.copy(), label, 5.0)
    got = numpy_ops.backward(
        np.asfortranarray(grad), np.asfortranarray(x), weight, label.astype(np.uint8), 5.0
    )
    for ours, reference in zip(got, expected, strict=True):
        assert norm_error(ours, reference) < 1e-15


def test_ignored_rows_are_plain_products(rng, norm_error):
    x, weight, label, _ = sample(rng)
    label[2] = -1
    y = numpy_ops.forward(x, weight, label, 0.5, ignore_index=-1)
    assert norm_error(y[2], x[2] @ a_softmax.unit_rows(weight).T) < 1e-14


def test_other_threads_run_meanwhile(rng):
    """With threads never switched by the interpreter, another runs only if the kernel lets it."""
    weight = rng.normal(size=(100_000, 64)).astype(np.float32)
    start, ran = threading.Event(), []

    def work():
        start.wait()
        ran.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        start.set()
        for _ in range(200):  # on a busy machine the thread may come late
            numpy_ops.normalize(weight)
            if ran:
                break
        seen = list(ran)
    finally:
        sys.setswitchinterval(interval)
        thread.join()
    assert seen


def test_works_after_fork(rng):
    # A forked child has none of the parent's OpenMP threads.
    weight = rng.normal(size=(20_000, 64)).astype(np.float32)
    numpy_ops.normalize(weight.copy())
    context = multiprocessing.get_context("fork")
    child = context.Process(target=numpy_ops.normalize, args=(weight.copy(),))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        child.start()
    child.join(60)
    code = child.exitcode
    child.kill()
    assert code == 0


BAD = {
    "label above": ({"label": np.full(9, 17)}, r"label\[0\] is 17; expected 0 to 16"),
    "label below": ({"label": np.full(9, -2)}, r"label\[0\] is -2"),
    "label count": ({"label": np.zeros(3, int)}, r"label has shape \(3,\); expected \(9,\)"),
    "label dtype": ({"label": np.zeros(9)}, r"label is .*float64; expected an array of integers"),
    "x dtype": ({"x": np.zeros((9, 13), np.float16)}, "x is .*float16; expected a float32 or"),
    "x shape": ({"x": np.zeros(13)}, r"x is .*\(13,\).*2 dimensions"),
    "x list": ({"x": [[1.0]]}, "x is a list; expected a float32"),
    "mixed dtype": (
        {"x": np.zeros((9, 13), np.float32)},
        r"weight has .*float64; expected .*float32",
    ),
    "features": ({"x": np.zeros((9, 5))}, r"weight has shape \(17, 13\).*\(N, 5\)"),
    "x nan": ({"x": np.full((9, 13), np.nan)}, "x has a NaN or infinite value in row 0"),
    "weight inf": ({"weight": np.full((17, 13), np.inf)}, "weight has a NaN .* in row 0"),
    "lambda": ({"lambda_": -0.5}, "lambda_ is -0.5; expected a finite number >= 0"),
    "margin": ({"margin": 0.5}, "margin is 0.5"),
    "gradient": ({"gradient": "x"}, "gradient is 'x'"),
}


@pytest.mark.parametrize("gradient", ["caffe", "exact"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case, gradient, rng):
    change, message = BAD[case]
    x, weight, label, _ = sample(rng)
    arguments = {
        "x": x, "weight": weight, "label": label, "lambda_": 5.0, "gradient": gradient, **change
    }  # fmt: skip
    with pytest.raises(SphereFaceError, match=message):
        numpy_ops.forward(**arguments)


def test_bad_grad_is_named(rng):
    x, weight, label, grad = sample(rng)
    with pytest.raises(SphereFaceError, match=r"grad has shape \(9, 16\).*expected \(9, 17\)"):
        numpy_ops.backward(grad[:, :16], x, weight, label, 5.0)


def test_read_only_weight_is_named(rng):
    x, weight, label, _ = sample(rng)
    weight.flags.writeable = False
    with pytest.raises(SphereFaceError, match="weight is read-only.*pass a copy"):
        numpy_ops.forward(x, weight, label, 5.0)
    numpy_ops.forward(x, weight, label, 5.0, gradient="exact")
