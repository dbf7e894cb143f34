"""The margin layer and its fused loss on numpy arrays: the torch operators' core, without torch.

Source: margin_inner_product_layer of SphereFace's Caffe fork. The products run on numpy's BLAS; the
GIL is released around everything else. See `sphereface.ops.margin_inner_product` for the formulas.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sphereface import _numpy_ops
from sphereface.errors import NonFiniteError, SphereFaceError
from sphereface.loss_options import check_loss_options, kept_buffers
from sphereface.margin_policy import MarginPolicy, policy_of
from sphereface.margin_type import is_exact, margin_of

__all__ = [
    "MarginSoftmax",
    "annealed_lambda",
    "backward",
    "forward",
    "margin_softmax_loss",
    "normalize",
]

Floats = NDArray[np.floating[Any]]


def annealed_lambda(
    iteration: int,
    base: float = 1.0,
    gamma: float = 0.0,
    power: float = 1.0,
    lambda_min: float = 0.0,
) -> float:
    """Return max(lambda_min, base (1 + gamma iteration)^-power), computed in float32.

    Parameters
    ----------
    iteration : int
        How many forwards there have been, the current one included.
    base, gamma, power, lambda_min : float
        As in ``margin_inner_product_param``.

    Examples
    --------
    >>> round(annealed_lambda(501, base=1000, gamma=0.12, lambda_min=5), 4)
    16.3613
    """
    return _numpy_ops.annealed_lambda(iteration, base, gamma, power, lambda_min)


def normalize(weight: Floats) -> None:
    """Divide every row of `weight` by its L2 norm, in place.

    Rows that have unit norm up to rounding are not written; a zero row stays zero.

    Parameters
    ----------
    weight : ndarray of shape (N, K), float32 or float64
        Writable and C-contiguous.

    Raises
    ------
    SphereFaceError
        `weight` is not as above.
    NonFiniteError
        A row holds a NaN or an infinity.
    """
    _check_float("weight", weight)
    if not (weight.flags.c_contiguous and weight.flags.writeable):
        raise SphereFaceError(
            "weight is read-only or not C-contiguous",
            where="normalize",
            expected="an array that can be normalised in place",
            fix="pass a copy: numpy.array(weight, order='C')",
        )
    _check_finite_row("weight", _numpy_ops.normalize(weight))


def forward(
    x: Floats,
    weight: Floats,
    label: NDArray[np.integer[Any]],
    lambda_: float,
    margin: float | str = 4,
    gradient: str = "caffe",
    ignore_index: int | None = None,
) -> Floats:
    """Return the logits of A-Softmax.

    Parameters
    ----------
    x : ndarray of shape (M, K), float32 or float64
        Embeddings.
    weight : ndarray of shape (N, K), dtype of `x`
        One row a class. ``gradient="caffe"`` normalises its rows **in place**, as the original
        layer does; ``"exact"`` leaves them as they are.
    label : ndarray of shape (M,), any integer dtype
        Classes, counted from 0.
    lambda_ : float
        Annealing weight, >= 0.
    margin : float or str
        m >= 1, or SINGLE, DOUBLE, TRIPLE, QUADRUPLE for 1 to 4.
    gradient : {"caffe", "exact"}
        Which backward will follow.
    ignore_index : int, optional
        Rows with this label get no margin.

    Returns
    -------
    ndarray of shape (M, N), dtype of `x`

    Raises
    ------
    SphereFaceError
        A shape, dtype, label or option does not fit, or x or weight is not finite.
    """
    exact = is_exact(gradient)
    arguments = _checked(x, weight, label, lambda_, margin, exact, ignore_index)
    if not exact:
        normalize(weight)
    return _numpy_ops.forward(*arguments)


def backward(
    grad: Floats,
    x: Floats,
    weight: Floats,
    label: NDArray[np.integer[Any]],
    lambda_: float,
    margin: float | str = 4,
    gradient: str = "caffe",
    ignore_index: int | None = None,
) -> tuple[Floats, Floats]:
    """Return the gradients of `forward`.

    Parameters
    ----------
    grad : ndarray of shape (M, N), dtype of `x`
        Gradient of the loss with respect to the logits (the top's diff).
    x, weight, label, lambda_, margin, gradient, ignore_index
        As in `forward`, with the same values.

    Returns
    -------
    dx : ndarray of shape (M, K)
    dweight : ndarray of shape (N, K)
        ``"caffe"``: the original layer's diffs, which are not the gradient. ``"exact"``: the
        gradient with respect to x and the raw weight.

    Raises
    ------
    SphereFaceError
        As `forward`.
    """
    exact = is_exact(gradient)
    arguments = _checked(x, weight, label, lambda_, margin, exact, ignore_index)
    if not exact:
        normalize(weight)
    _check_float("grad", grad)
    expected = (x.shape[0], weight.shape[0])
    if grad.shape != expected or grad.dtype != x.dtype:
        raise SphereFaceError(
            f"grad has shape {grad.shape} and dtype {grad.dtype}",
            where="MarginInnerProduct",
            expected=f"{expected} and {x.dtype}",
        )
    grad = np.ascontiguousarray(grad)
    return (
        _numpy_ops.input_gradient(grad, *arguments),
        _numpy_ops.weight_gradient(grad, *arguments),
    )


class MarginSoftmax(NamedTuple):
    """The fused loss, its gradients, and what it has seen of each row."""

    #: a number, or (M,) with ``reduction="none"``
    loss: Any
    #: (M, K) and (N, K), as the arrays; empty without gradients
    dx: Floats
    dweight: Floats
    #: of the policy's scale and bias, where it has them
    dscale: float | None
    dbias: Floats | None
    #: (M,) each, as `sphereface.ops.margin_softmax.MarginSoftmaxStats`
    log_probability: Floats
    prediction: NDArray[np.int64]
    plain_prediction: NDArray[np.int64]
    cosine: Floats


def margin_softmax_loss(
    x: Floats,
    weight: Floats,
    label: NDArray[np.integer[Any]],
    lambda_: float | None = None,
    margin: float | str | MarginPolicy = 4,
    gradient: str = "caffe",
    ignore_index: int | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    class_weight: Floats | None = None,
    memory: str | int | None = None,
    gradients: bool = True,
) -> MarginSoftmax:
    """Return `sphereface.margin_softmax_loss` and its gradients.

    Parameters
    ----------
    x, weight : ndarray of shape (M, K) and (N, K), float32 or float64
        Embeddings; one row a class, normalised **in place** where ``gradient="caffe"`` asks for it.
    label : ndarray of shape (M,), any integer dtype
        Classes, counted from 0.
    lambda_, margin, gradient, ignore_index, label_smoothing, memory
        As `sphereface.margin_softmax_loss`. A policy's bias is an array here.
    reduction : {"mean", "sum", "none"}
        With ``"none"`` the gradients are those of the sum.
    class_weight : ndarray of shape (N,), dtype of `x`, optional
        Weight of each class.
    gradients : bool
        Compute them.

    Returns
    -------
    MarginSoftmax

    Raises
    ------
    SphereFaceError
        A shape, dtype, label or option does not fit, or x or weight is not finite.
    """
    policy = policy_of(margin)
    exact = policy.is_exact(gradient)
    check_loss_options(reduction, label_smoothing, memory, class_weight, policy.binary)
    x, weight, labels, lam, ignored = _checked_arrays(
        x, weight, label, 0.0 if lambda_ is None else lambda_, ignore_index, copies_weight=exact
    )
    if not exact:
        normalize(weight)
    rows, classes = len(x), len(weight)
    bias: Floats | None = None
    if policy.bias is not None:
        values = np.asarray(policy.bias, x.dtype)
        bias = np.ascontiguousarray(np.broadcast_to(values, (classes,)))
    (keep,) = kept_buffers(memory, rows * classes * x.itemsize)
    counts = np.ones(rows, x.dtype)
    sum_weight = label_weight = None
    if class_weight is not None:
        class_weight = _class_weight(class_weight, x, classes)
        sum_weight = class_weight.sum(keepdims=True)
        label_weight = counts = class_weight[np.where(labels == ignored, 0, labels)]
    counts = np.where(labels == ignored, 0, counts)
    total = counts.sum() if reduction == "mean" else x.dtype.type(1)
    with np.errstate(divide="ignore", invalid="ignore"):  # no row counts: NaN, as torch
        share = x.dtype.type(1) / total
        grad = np.full(rows, share, x.dtype) if gradients else None
        scale, length = policy.scale, np.linalg.norm(x, axis=1, keepdims=True)
        unit = x / np.where(length == 0, 1, length)
        scaled = x if scale is None else x.dtype.type(float(scale)) * unit
        family, numbers = policy.core()
        losses, lse, target, cosine, prediction, plain, dx, dweight, dbias = (
            _numpy_ops.margin_softmax(
                scaled, weight, labels, lam, family, np.array(numbers), exact,
                policy.free_weight or not exact, ignored, label_smoothing, class_weight,
                sum_weight, label_weight, bias, grad, keep,
            )
        )  # fmt: skip
        loss = losses if reduction == "none" else losses.sum() * share
    dscale = None
    if gradients and scale is not None:
        radial = (unit * dx).sum(1, keepdims=True)
        dscale = float(radial.sum())
        dx = float(scale) * np.where(length == 0, 0, dx - unit * radial)
        dx = (dx / np.where(length == 0, 1, length)).astype(x.dtype)
    log_probability = (target - lse).astype(x.dtype)
    return MarginSoftmax(
        loss, dx, dweight, dscale, dbias if gradients and bias is not None else None,
        log_probability, prediction, plain, cosine,
    )  # fmt: skip


def _class_weight(class_weight: Any, x: Floats, classes: int) -> Floats:
    if getattr(class_weight, "shape", None) != (classes,) or class_weight.dtype != x.dtype:
        raise SphereFaceError(
            f"class_weight is {_kind(class_weight)}",
            where="margin_softmax_loss",
            expected=f"({classes},) and {x.dtype}",
        )
    return np.ascontiguousarray(class_weight)


def _checked(
    x: Floats,
    weight: Floats,
    label: NDArray[np.integer[Any]],
    lambda_: float,
    margin: float | str,
    exact: bool,
    ignore_index: int | None,
) -> tuple[Floats, Floats, NDArray[np.int64], float, float, bool, int]:
    """Return the arguments as the native functions take them."""
    m = margin_of(margin)
    arrays = _checked_arrays(x, weight, label, lambda_, ignore_index, copies_weight=exact)
    x, weight, labels, lambda_, ignored = arrays
    return x, weight, labels, lambda_, m, exact, ignored


def _checked_arrays(
    x: Floats,
    weight: Floats,
    label: NDArray[np.integer[Any]],
    lambda_: float,
    ignore_index: int | None,
    *,
    copies_weight: bool,
) -> tuple[Floats, Floats, NDArray[np.int64], float, int]:
    _check_float("x", x)
    _check_float("weight", weight)
    if weight.shape[1] != x.shape[1] or weight.dtype != x.dtype:
        raise SphereFaceError(
            f"weight has shape {weight.shape} and dtype {weight.dtype}",
            where="MarginInnerProduct",
            expected=f"(N, {x.shape[1]}) and {x.dtype}, for x of shape {x.shape}",
        )
    if not isinstance(label, np.ndarray) or not np.issubdtype(label.dtype, np.integer):
        raise SphereFaceError(
            f"label is {_kind(label)}",
            where="MarginInnerProduct",
            expected="an array of integers",
            fix="convert it: label.astype(numpy.int64)",
        )
    if label.shape != (x.shape[0],):
        raise SphereFaceError(
            f"label has shape {label.shape}",
            where="MarginInnerProduct",
            expected=f"({x.shape[0]},), one for each row of x",
        )
    labels = np.ascontiguousarray(label, dtype=np.int64)
    if not 0 <= lambda_ <= np.finfo(x.dtype).max:
        raise SphereFaceError(
            f"lambda_ is {lambda_}", where="MarginInnerProduct", expected="a finite number >= 0"
        )
    ignored = _numpy_ops.NO_IGNORE_INDEX if ignore_index is None else operator.index(ignore_index)
    bad = _numpy_ops.first_bad_label(labels, weight.shape[0], ignored)
    if bad >= 0:
        raise SphereFaceError(
            f"label[{bad}] is {labels[bad]}",
            where="MarginInnerProduct",
            expected=f"0 to {weight.shape[0] - 1} ({weight.shape[0]} classes, counted from 0)",
            fix="pass ignore_index for rows without a label" if ignore_index is None else "",
        )
    x = np.ascontiguousarray(x)
    _check_finite_row("x", _numpy_ops.first_non_finite_row(x))
    if copies_weight:
        weight = np.ascontiguousarray(weight)
        _check_finite_row("weight", _numpy_ops.first_non_finite_row(weight))
    return x, weight, labels, float(lambda_), ignored


def _check_float(name: str, array: Any) -> None:
    is_float = isinstance(array, np.ndarray) and array.dtype in (np.float32, np.float64)
    if not (is_float and array.ndim == 2):
        raise SphereFaceError(
            f"{name} is {_kind(array)}",
            where="MarginInnerProduct",
            expected="a float32 or float64 array of 2 dimensions",
        )


def _check_finite_row(name: str, row: int) -> None:
    if row >= 0:
        raise NonFiniteError(
            f"{name} has a NaN or infinite value in row {row}",
            where="MarginInnerProduct",
            expected="finite values",
            fix="training diverged before this layer (lower the learning rate, raise lambda_min) "
            "or the data is bad",
        )


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"a {type(value).__name__}"
