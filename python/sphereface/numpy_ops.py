"""MarginInnerProduct on numpy arrays: the same native core as the torch operators, without torch.

Source: margin_inner_product_layer of SphereFace's Caffe fork. The products run on numpy's BLAS; the
GIL is released around everything else. See `sphereface.ops.margin_inner_product` for the formulas.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface import _numpy_ops
from sphereface.errors import NonFiniteError, SphereFaceError
from sphereface.margin_type import is_exact, margin_of

__all__ = ["annealed_lambda", "backward", "forward", "normalize"]

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
    if exact:
        weight = np.ascontiguousarray(weight)
        _check_finite_row("weight", _numpy_ops.first_non_finite_row(weight))
    return x, weight, labels, float(lambda_), margin_of(margin), exact, ignored


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
