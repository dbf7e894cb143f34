"""Linear, margin and softmax cross entropy as one operator that need not store the logits.

Source: Liu et al., "SphereFace", CVPR 2017, eq. 7, and the papers of `sphereface.margin_policy`.
What differs from the layers in sequence: the logits (M, N) are kept once and turned into their
gradient in place, or not at all; the classes are walked in pieces, and each row of the weight's
gradient is written by one of them, so that results repeat bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.errors import SphereFaceError
from sphereface.loss_options import check_class_weight, check_loss_options, kept_buffers
from sphereface.margin_policy import MarginPolicy, SphereFace2, policy_of
from sphereface.ops._library import call
from sphereface.ops.labels import check_tensors, class_numbers
from sphereface.ops.margin_inner_product import margin_logits, normalize_rows_
from sphereface.ops.products import product_dtype, rounded_operands
from sphereface.ops.transforms import refuse_forward_mode

__all__ = ["MarginSoftmaxStats", "margin_softmax_loss", "plain_logits", "scaled_rows"]

_OPS = torch.ops.sphereface
_SCALE, _BIAS = 4, 14  # the arguments of these names


class MarginSoftmaxStats(NamedTuple):
    """What the loss has seen of each row; no gradient flows through it."""

    #: log of the label's probability, (M,); NaN without a label
    log_probability: Tensor
    #: class with the largest logit, (M,) int64
    prediction: Tensor
    #: the same without the margin
    plain_prediction: Tensor
    #: cosine between the row and its label's weight, (M,); NaN without a label
    cosine: Tensor


def margin_softmax_loss(
    x: Tensor,
    weight: Tensor,
    label: Tensor,
    lambda_: Tensor | float | None = None,
    margin: float | str | MarginPolicy = 4,
    gradient: str = "caffe",
    ignore_index: int | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    class_weight: Tensor | None = None,
    memory: str | int | None = None,
    return_stats: bool = False,
    products: torch.dtype | str | None = None,
) -> Tensor | tuple[Tensor, MarginSoftmaxStats]:
    """Return the softmax cross entropy of margin logits.

    Equal to ``F.cross_entropy(margin_inner_product(x, weight, label, ...), label, ...)`` in value
    and in all gradients, without the memory of the logits.

    Parameters
    ----------
    x : Tensor of shape (M, K)
        Embeddings: float32, float64, bfloat16 or, on CUDA, float16. Sums are in float32 or wider,
        the label's logit is in float64. Under autocast the operator runs in float32, unless
        `products` says otherwise.
    weight : Tensor of shape (N, K)
        One row a class. A-Softmax, SphereFace-R and SphereFace2 with ``gradient="caffe"`` normalise
        its rows **in place**, as `margin_inner_product` does.
    label : Tensor of shape (M,) of integers
        Classes, counted from 0.
    lambda_ : float or Tensor of shape (), optional
        Annealing weight >= 0, read on the device: the label's logit is (with margin + lambda
        without) / (1 + lambda). None is 0, the full margin.
    margin : float, str or policy
        m >= 1 of A-Softmax or its name in Caffe, or a member of the family from
        `sphereface.margin_policy`: ``ASoftmax()``, ``LSoftmax()``, ``CosFace()``, ``ArcFace()``,
        ``CombinedMargin()``, ``NormFace()``, ``COCO()``, ``L2Softmax()``, ``SphereFaceR()``,
        ``SphereFace2()``. Its scale and bias get their gradients where they are tensors.
    gradient : {"caffe", "exact"}
        ``"caffe"`` is that of the authors' code: for A-Softmax see `margin_inner_product`; for
        SphereFace-R and SphereFace2 the gradient leaves the normalisation of W out. ``"exact"``
        goes through it. The other members have the exact gradient only.
    ignore_index : int, optional
        Rows with this label have loss and gradient 0 and do not count in the mean.
    reduction : {"mean", "sum", "none"}
        As `torch.nn.functional.cross_entropy`, also with `class_weight`.
    label_smoothing : float
        0 to 1. Not with SphereFace2.
    class_weight : Tensor of shape (N,), optional
        Constant weight of each class. Not with SphereFace2.
    memory : {"fast", "lean"} or int, optional
        ``"fast"`` keeps M x N logits between forward and backward (three products), ``"lean"`` a
        few columns of them (four). A number is how many bytes may be kept; None is 1 GiB. On CUDA
        the unit copies of raw rows of W are kept as well, if they fit beside the logits.
    return_stats : bool
        Return a `MarginSoftmaxStats` as well, at no extra pass.
    products : torch.dtype or "autocast", optional
        Round x and W to this dtype (bfloat16 or, on CUDA, float16) for the matrix products and the
        logits, as ``F.linear`` under autocast; norms, margin, softmax and sums stay in float32 or
        wider, and the gradients come in the dtypes of x and W. ``"autocast"`` is autocast's dtype
        where it is on. W is still normalised in place in its own dtype.

    Returns
    -------
    Tensor
        The loss, of shape () or, with ``reduction="none"``, (M,); float32 (float64 for float64).

    Raises
    ------
    SphereFaceError
        An option is unknown; on the CPU, a label is not in [0, N) or `lambda_` is no finite number
        >= 0.
    NonFiniteError
        On the CPU, a row of x or weight is not finite.
    torch.OutOfMemoryError
        There is no memory for the buffers.
    RuntimeError
        Shapes, dtypes or devices do not fit; the loss is differentiated twice.

    Notes
    -----
    On CUDA a label that is no class gives its row a NaN loss and reads and writes nothing out of
    bounds. A second backward through a kept graph computes the logits anew.

    Examples
    --------
    >>> x, weight, label = torch.eye(2), torch.eye(2), torch.tensor([0, 1])
    >>> margin_softmax_loss(x, weight, label, margin=1)
    tensor(0.3133)
    """
    check_tensors("margin_softmax_loss", x=x, weight=weight, label=label)
    policy = policy_of(margin, "margin_softmax_loss")
    learned = [t for t in (policy.scale, policy.bias) if isinstance(t, Tensor)]
    refuse_forward_mode("margin_softmax_loss", x, weight, *learned)
    exact = policy.is_exact(gradient)
    check_loss_options(reduction, label_smoothing, memory, class_weight, policy.binary)
    in_place = not exact and (weight.is_leaf or not weight.requires_grad)
    if in_place:
        normalize_rows_(weight)
    if weight.dim() == 2:
        label = class_numbers(label, x, weight.shape[0])
    x, weight, precision = rounded_operands(product_dtype(products, x), x, weight)
    if not isinstance(lambda_, Tensor):
        value = 0.0 if lambda_ is None else lambda_
        lambda_ = torch.full(
            (), value, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device
        )
    weights = _weights(class_weight, label, weight, x)
    bias, scale = _bias(policy, weight, x), _scale(policy, x)
    grows = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (x, weight, scale, bias)
    )
    unit_rows = in_place or policy.free_weight
    keeps = [False, False]
    if grows:
        sizes = (x.shape[0] * weight.shape[0], 0 if unit_rows else weight.numel())
        keeps = kept_buffers(memory, *(x.element_size() * size for size in sizes))
    with precision:
        loss, lse, target, cosine, prediction, plain, *_ = call(
            _OPS.margin_softmax, x, weight, label, lambda_, scale, *policy.core(), exact,
            unit_rows, ignore_index, label_smoothing, *weights, bias, 0, 0, *keeps
        )  # fmt: skip
    reduced = _reduce(loss, label, ignore_index, reduction, weights[2])
    if not return_stats:
        return reduced
    log_probability = (target.double() - lse).to(target.dtype)
    return reduced, MarginSoftmaxStats(log_probability, prediction, plain, cosine)


def scaled_rows(x: Tensor, policy: MarginPolicy) -> Tensor:
    """Return x at the length that the policy asks for; zero rows stay zero."""
    if policy.scale is None:
        return x
    return policy.scale * F.normalize(x, eps=torch.finfo(x.dtype).tiny)


def plain_logits(x: Tensor, weight: Tensor, policy: MarginPolicy) -> Tensor:
    """Return the logits (M, N) that the member gives without its margin; `weight` stays as it is.

    Parameters
    ----------
    x : Tensor of shape (M, K)
        Embeddings.
    weight : Tensor of shape (N, K)
        One row a class.
    policy : MarginPolicy
        The member.
    """
    rows = scaled_rows(x, policy).to(x.dtype)
    if policy.free_weight:
        return F.linear(rows, weight, None if policy.bias is None else policy.bias.to(x.dtype))
    no_label = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
    logits = margin_logits(rows, weight, no_label, 0.0, 1, "exact")
    if isinstance(policy, SphereFace2):
        bent = 2 * ((logits / policy.scale + 1) / 2).clamp_min(0) ** policy.t - 1
        logits = policy.scale * bent
        return logits if policy.bias is None else logits + policy.bias.to(x.dtype)
    return logits


def _weights(
    class_weight: Tensor | None, label: Tensor, weight: Tensor, x: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the classes' weights, their sum, and those of the labels (0 for no class)."""
    if class_weight is None:
        return None, None, None
    check_class_weight(class_weight, weight.shape[0])
    values = class_weight.detach().to(torch.promote_types(x.dtype, torch.float32)).contiguous()
    valid = (label >= 0) & (label < len(values))
    of_label = values[label.where(valid, 0)].where(valid, 0)
    return values, values.sum(), of_label


def _scale(policy: MarginPolicy, x: Tensor) -> Tensor | None:
    """Return the length that x is to have, in the dtype of the sums."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    if isinstance(policy.scale, (int, float)):
        return torch.full((), policy.scale, dtype=dtype, device=x.device)
    return None if policy.scale is None else policy.scale.to(dtype)


def _bias(policy: MarginPolicy, weight: Tensor, x: Tensor) -> Tensor | None:
    """Return the bias as one value a class, in the dtype of the sums."""
    if policy.bias is None:
        return None
    classes = weight.shape[0]
    if policy.bias.shape not in ((), (1,), (classes,)):
        raise SphereFaceError(
            f"bias has shape {tuple(policy.bias.shape)}",
            where="margin_softmax_loss",
            expected=f"one value or ({classes},)",
        )
    values = policy.bias.to(torch.promote_types(x.dtype, torch.float32))
    return values.expand(classes).contiguous()


def _reduce(
    loss: Tensor,
    label: Tensor,
    ignore_index: int | None,
    reduction: str,
    of_label: Tensor | None,
) -> Tensor:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if ignore_index is None and of_label is None:
        return loss.mean()
    count = torch.ones_like(loss) if of_label is None else of_label
    if ignore_index is not None:
        count = count.where(label != ignore_index, 0)
    return loss.sum() / count.sum()


def _padded(columns: Any) -> Any:
    return (columns + 7) // 8 * 8


def _kept(x: Tensor, weight: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    """Return the logits and the unit rows that are kept; the latter exist on CUDA alone."""
    _, _, _, _, _, _, unit_rows, *_, keep_logits, keep_unit = options
    shape = (x.shape[0], _padded(weight.shape[0])) if keep_logits else (0, 0)
    copies = keep_unit and not unit_rows and x.device.type != "cpu"
    return x.new_empty(shape), x.new_empty(weight.shape[0] if copies else 0, x.shape[1])


@torch.library.register_fake("sphereface::margin_softmax")
def _(x: Tensor, weight: Tensor, *options: Any) -> tuple[Tensor, ...]:
    rows = x.shape[0]
    values = x.new_empty(rows, dtype=torch.promote_types(x.dtype, torch.float32))
    index = x.new_empty(rows, dtype=torch.int64)
    return (
        values,
        x.new_empty(rows, dtype=torch.float64),
        torch.empty_like(values),
        torch.empty_like(values),
        index,
        torch.empty_like(index),
        *_kept(x, weight, *options),
    )


@torch.library.register_fake("sphereface::margin_softmax_rows")
def _(x: Tensor, weight: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape[0], 8, dtype=torch.float64), *_kept(x, weight, *options)


@torch.library.register_fake("sphereface::margin_softmax_backward")
def _(
    grad: Tensor,
    lse: Tensor,
    logits: Tensor,
    unit: Tensor,
    x: Tensor,
    weight: Tensor,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _, _, scale, *_, need_x, need_weight, need_bias = options
    classes = weight.shape[0]
    dx = x.new_empty(x.shape[0] if need_x else 0, x.shape[1])
    dweight = weight.new_empty(classes if need_weight else 0, weight.shape[1])
    rows = x.shape[0] if need_x and scale is not None else 0
    dscale = x.new_empty(rows, dtype=torch.float64)
    return dx, dweight, grad.new_empty(classes if need_bias else 0), dscale


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, label, lambda_, scale, *options = inputs
    _, lse, *rest, logits, unit = output
    before, weights, after = options[:6], options[6:10], options[10:12]
    ctx.save_for_backward(x, weight, label, lambda_, scale, lse, unit, *weights)
    ctx.options = before, after
    # Not a saved tensor: the backward turns it into the gradient and lets it go.
    ctx.logits = logits
    ctx.mark_non_differentiable(lse, *rest, logits, unit)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    nothing = (None,) * 19
    if torch.is_grad_enabled():
        raise RuntimeError(
            "margin_softmax_loss cannot be differentiated twice; its backward is not itself "
            "differentiable (drop create_graph=True)"
        )
    if grad is None:
        return nothing
    x, weight, label, lambda_, scale, lse, unit, *weights = ctx.saved_tensors
    logits, ctx.logits = ctx.logits, None
    if logits is None:
        logits = x.new_empty(0, 0)
    before, after = ctx.options
    options = (scale, *before, *weights, *after)
    needs_x, needs_weight, needs_scale, needs_bias = (
        ctx.needs_input_grad[i] for i in (0, 1, _SCALE, _BIAS)
    )
    needs = (needs_x or needs_scale, needs_weight, needs_bias)
    dx, dweight, dbias, dscale = call(
        _OPS.margin_softmax_backward, grad, lse, logits, unit, x, weight, label, lambda_, *options,
        *needs
    )  # fmt: skip
    gradients: list[Tensor | None] = list(nothing)
    gradients[0] = dx if needs_x else None
    gradients[1] = dweight if needs_weight else None
    gradients[_SCALE] = dscale.sum().to(scale.dtype).reshape(scale.shape) if needs_scale else None
    gradients[_BIAS] = dbias if needs_bias else None
    return tuple(gradients)


torch.library.register_autograd(
    "sphereface::margin_softmax", _backward, setup_context=_setup_context
)
for _device in ("cpu", "cuda"):
    torch.library.register_autocast("sphereface::margin_softmax", _device, torch.float32)
