"""A-Softmax logits: the MarginInnerProduct layer of SphereFace's Caffe as torch operators.

Source: Liu et al., "SphereFace", CVPR 2017, eq. 7, and margin_inner_product_layer of the authors'
Caffe fork. What differs from the layer: the backward can also be the true gradient
(``gradient="exact"``); a zero row of x or of the weight, labels out of range and `ignore_index`
have defined results; only the label's column is ever touched besides the matrix products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sphereface.loss_options import check_memory, kept_buffers
from sphereface.margin_type import is_exact, margin_of
from sphereface.ops._library import call
from sphereface.ops.labels import check_tensors, class_numbers
from sphereface.ops.products import product_dtype, rounded_operands
from sphereface.ops.transforms import refuse_forward_mode

__all__ = ["margin_inner_product", "margin_logits", "normalize_rows_"]

_OPS = torch.ops.sphereface


def normalize_rows_(weight: Tensor) -> Tensor:
    """Divide every row of `weight` by its L2 norm, in place, outside of autograd.

    Rows that have unit norm up to rounding are not written, so that a second call changes nothing;
    a zero row stays zero. The first call after a change of `weight` counts as a change itself, for
    graphs that hold the raw values; further calls do not, so that the graphs of several forwards
    between two updates stay valid together.

    Parameters
    ----------
    weight : Tensor of shape (N, K)
        float32, float64, bfloat16 or, on CUDA, float16, with contiguous rows.

    Returns
    -------
    Tensor of shape (N, K)
        `weight`.

    Raises
    ------
    NonFiniteError
        On the CPU, a row holds a NaN or an infinity.
    RuntimeError
        Shape, strides or dtype are not as above, or rows share memory.
    """
    if not torch.compiler.is_compiling() and weight.dim() == 2:
        rows, columns = weight.shape
        if rows > 1 and columns > 0 and weight.stride(1) == 1 and weight.stride(0) < columns:
            raise RuntimeError(
                f"weight has rows that share memory (strides {weight.stride()}), and cannot be "
                'normalised in place; pass weight.contiguous(), or gradient="exact"'
            )
    with torch.no_grad():
        call(_OPS.normalize_rows_, weight)
    # Traced graphs and inference tensors keep no version counter.
    counts = not (torch.compiler.is_compiling() or weight.is_inference())
    if counts and getattr(weight, "_unit_rows_version", None) != weight._version:
        torch.autograd.graph.increment_version(weight)
        weight._unit_rows_version = weight._version  # type: ignore[attr-defined]
    return weight


def margin_inner_product(
    x: Tensor,
    weight: Tensor,
    label: Tensor,
    lambda_: Tensor | float,
    margin: float | str = 4,
    gradient: str = "caffe",
    ignore_index: int | None = None,
    memory: str | int | None = None,
    products: torch.dtype | str | None = None,
) -> Tensor:
    r"""Return the logits of A-Softmax.

    .. math:: y_{ij} = x_i \cdot w_j / |w_j|, \qquad
        y_{i,label_i} = (|x_i| \psi(\theta) + \lambda\, x_i \cdot w / |w|) / (1 + \lambda)

    Parameters
    ----------
    x : Tensor of shape (M, K)
        Embeddings: float32, float64, bfloat16 or, on CUDA, float16. The label's column is computed
        in float64, the rest in float32 (float64 for float64). Under autocast the operator runs in
        float32, unless `products` says otherwise.
    weight : Tensor of shape (N, K)
        One row a class. As ``F.embedding(max_norm=...)`` does, ``gradient="caffe"`` normalises the
        rows **in place**, because the original layer does; ``"exact"`` leaves them as they are, and
        so does ``"caffe"`` with a weight that other operations computed (not a leaf).
    label : Tensor of shape (M,) of integers
        Classes, counted from 0.
    lambda_ : float or Tensor of shape ()
        Annealing weight, >= 0: 0 is the full margin, large values approach a plain product.
    margin : float or str
        m >= 1, or SINGLE, DOUBLE, TRIPLE, QUADRUPLE for 1 to 4. m = 1 is the plain product.
    gradient : {"caffe", "exact"}
        ``"caffe"`` is the original's backward, which is not the gradient: the weight gets
        ``grad.T @ x``, and the label column's direction in dx is normalised. ``"exact"`` is the
        gradient of the forward for x and the raw weight, through the normalisation.
    ignore_index : int, optional
        Rows with this label get no margin (a plain product).
    memory : {"fast", "lean"} or int, optional
        Whether the unit copies of raw rows of `weight` (N x K, if they are not normalised in place)
        are kept for the backward, or made again, a piece at a time. A number is how many bytes they
        may have; None is 1 GiB on CUDA and 0 on the CPU, where pieces that stay in cache are as
        fast.
    products : torch.dtype or "autocast", optional
        Round x and W to this dtype for the products, and so the logits: see
        `sphereface.margin_softmax_loss`.

    Returns
    -------
    Tensor of shape (M, N)
        Logits, in the dtype of `x` or `products`.

    Raises
    ------
    SphereFaceError
        `margin`, `gradient`, `memory` or `products` is unknown; on the CPU, a label is outside
        [0, N) or `lambda_` is negative or not finite.
    NonFiniteError
        On the CPU, a row of x or weight is not finite.
    torch.OutOfMemoryError
        There is no memory for the logits or for the unit copies of the weight.
    RuntimeError
        Shapes, dtypes or devices do not fit.

    CUDA would have to wait for the device to check values: there, a row with a label out of range
    is a plain product and NaNs show in the result. In a graph of torch.compile all are
    RuntimeErrors.

    Notes
    -----
    A zero row of x or of `weight` has no angle; its label column is the plain product, 0.

    Examples
    --------
    >>> x, weight = torch.eye(2), 3 * torch.eye(2)
    >>> margin_inner_product(x, weight, torch.tensor([0, 0]), 0.0)
    tensor([[ 1.,  0.],
            [-3.,  1.]])
    """
    check_tensors("margin_inner_product", x=x, weight=weight, label=label)
    # Writing into a computed weight would corrupt the backward of what computed it.
    in_place = not is_exact(gradient) and (weight.is_leaf or not weight.requires_grad)
    if in_place:
        normalize_rows_(weight)
    return margin_logits(
        x, weight, label, lambda_, margin, gradient, ignore_index, memory, products,
        unit_rows=in_place,
    )  # fmt: skip


def margin_logits(
    x: Tensor,
    weight: Tensor,
    label: Tensor,
    lambda_: Tensor | float,
    margin: float | str = 4,
    gradient: str = "caffe",
    ignore_index: int | None = None,
    memory: str | int | None = None,
    products: torch.dtype | str | None = None,
    *,
    unit_rows: bool = False,
) -> Tensor:
    """Return what `margin_inner_product` returns without ever writing to `weight`.

    `unit_rows` says that the rows of `weight` have unit norm already, which saves a pass over them.
    """
    refuse_forward_mode("margin_inner_product", x, weight)
    check_memory(memory, "margin_inner_product")
    x, weight, precision = rounded_operands(product_dtype(products, x), x, weight)
    if not isinstance(lambda_, Tensor):
        lambda_ = torch.full(
            (), lambda_, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device
        )
    if weight.dim() == 2:
        label = class_numbers(label, x, weight.shape[0])
    keep_unit = torch.is_grad_enabled() and x.requires_grad and not unit_rows
    if keep_unit:
        budget = 0 if memory is None and x.device.type == "cpu" else memory
        (keep_unit,) = kept_buffers(budget, weight.numel() * weight.element_size())
    options = (margin_of(margin), is_exact(gradient), unit_rows, ignore_index, keep_unit)
    with precision:
        y, _ = call(_OPS.margin_inner_product, x, weight, label, lambda_, *options)
    return y


def _check(x: Tensor, weight: Tensor, label: Tensor, lambda_: Tensor) -> None:
    """Check what traced tensors tell; the kernels check the same and the values."""
    for name, tensor in (("weight", weight), ("label", label), ("lambda_", lambda_)):
        torch._check(
            tensor.device == x.device,
            lambda name=name, tensor=tensor: (
                f"{name} is on {tensor.device} and x on {x.device}; move them to one device"
            ),
        )
    torch._check(x.dim() == 2, lambda: f"x has shape {tuple(x.shape)}; expected (M, K)")
    torch._check(
        weight.dim() == 2 and weight.shape[1] == x.shape[1],
        lambda: f"weight has shape {tuple(weight.shape)}; expected (N, {x.shape[1]})",
    )
    torch._check(
        label.dim() == 1 and label.shape[0] == x.shape[0],
        lambda: f"label has shape {tuple(label.shape)}; expected ({x.shape[0]},)",
    )


@torch.library.register_fake("sphereface::margin_inner_product")
def _(
    x: Tensor,
    weight: Tensor,
    label: Tensor,
    lambda_: Tensor,
    margin: float,
    exact: bool,
    unit_rows: bool,
    ignore_index: int | None,
    keep_unit: bool,
) -> tuple[Tensor, Tensor]:
    _check(x, weight, label, lambda_)
    copies = weight.shape[0] if keep_unit and not unit_rows else 0
    return x.new_empty(x.shape[0], weight.shape[0]), x.new_empty(copies, x.shape[1])


@torch.library.register_fake("sphereface::margin_inner_product_input_gradient")
def _(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    unit: Tensor,
    label: Tensor,
    lambda_: Tensor,
    *options: Any,
) -> Tensor:
    _check(x, weight, label, lambda_)
    return x.new_empty(x.shape)


@torch.library.register_fake("sphereface::margin_inner_product_weight_gradient")
def _(
    grad: Tensor, x: Tensor, weight: Tensor, label: Tensor, lambda_: Tensor, *options: Any
) -> Tensor:
    _check(x, weight, label, lambda_)
    return weight.new_empty(weight.shape)


@torch.library.register_fake("sphereface::normalize_rows_")
def _(weight: Tensor) -> None:
    return None


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, label, lambda_, *options, _ = inputs
    _, unit = output
    ctx.save_for_backward(x, weight, unit, label, lambda_)
    ctx.options = options
    ctx.mark_non_differentiable(unit)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    x, weight, unit, label, lambda_ = ctx.saved_tensors
    rest = (label, lambda_, *ctx.options)
    dx = dweight = None
    if ctx.needs_input_grad[0] and grad is not None:
        dx = call(_OPS.margin_inner_product_input_gradient, grad, x, weight, unit, *rest)
    if ctx.needs_input_grad[1] and grad is not None:
        dweight = call(_OPS.margin_inner_product_weight_gradient, grad, x, weight, *rest)
    return (dx, dweight, *[None] * 7)


def _no_second_backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
    raise RuntimeError(
        "margin_inner_product cannot be differentiated twice; its backward is not itself "
        "differentiable (drop create_graph=True)"
    )


torch.library.register_autograd(
    "sphereface::margin_inner_product", _backward, setup_context=_setup_context
)
for _name in ("input_gradient", "weight_gradient"):
    torch.library.register_autograd(
        f"sphereface::margin_inner_product_{_name}", _no_second_backward
    )
for _device in ("cpu", "cuda"):
    torch.library.register_autocast("sphereface::margin_inner_product", _device, torch.float32)
