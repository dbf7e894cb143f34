"""Scale: multiplies by a blob, or a second bottom, that spans some axes; then adds a bias.

Source: Caffe's scale_layer.cpp; ``min_value`` and ``max_value`` are NormFace's. As there, training
overwrites the factors beyond them and their gradient passes; what differs: evaluation leaves the
blob as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.layers.bias import Bias, spread
from sphereface.caffe.pending_logits import PendingProduct
from sphereface.caffe.registry import register_layer
from sphereface.proto import schema

__all__ = ["Scale", "scale"]


def scale(
    x: Tensor,
    factor: Tensor | None = None,
    *,
    weight: Tensor,
    bias: Tensor | None,
    axis: int,
    min_value: float | None,
    max_value: float | None,
    training: bool,
) -> Tensor:
    """Return x * the second bottom, or the blob, within its limits, + bias if there is one."""
    limited = min_value is not None or max_value is not None
    if factor is None:
        factor = weight
        if limited and training:
            with torch.no_grad():
                factor.clamp_(min_value, max_value)
    if limited:
        factor = factor + (factor.clamp(min_value, max_value) - factor).detach()
    y = x * spread(factor, x, axis)
    # Not addcmul, which is slow where a factor is repeated along the last axis.
    return y if bias is None else y.add_(spread(bias, x, axis))


@register_layer("Scale", param="scale_param")
class Scale(Bias):
    """x * factor (+ bias), the factor (d_axis, ..., d_(axis + num_axes - 1)) repeated.

    Bottoms: x; optionally the factor, whose axes are then those from ``axis`` on. Otherwise it is
    the blob ``weight`` of ``num_axes`` axes: -1 all from ``axis`` on, 0 a single number. Ones
    unless ``filler`` says otherwise. With ``bias_term: true`` there is a blob ``bias`` of the
    factor's shape (zeros, or ``bias_filler``). ``min_value`` and ``max_value`` limit the factor.
    """

    function = staticmethod(scale)
    _read: tuple[tuple[int, int], float] | None = None

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create the factor, unless the second bottom is it, and the bias."""
        options = self.options
        self.min_value = options.min_value if options.HasField("min_value") else None
        self.max_value = options.max_value if options.HasField("max_value") else None
        self.axis = options.axis
        if len(bottom_shapes) == 2:
            shape = bottom_shapes[1]
            self.weight = None  # type: ignore[assignment] # a bottom is it
        else:
            shape = self.blob_shape(bottom_shapes[0])
            filler = options.filler
            if not options.HasField("filler"):
                filler = schema.message("FillerParameter")(type="constant", value=1)
            self.add_blob("weight", shape, filler)
        if options.bias_term:
            self.add_blob("bias", shape, options.bias_filler)
        else:
            self.bias = None  # type: ignore[assignment]

    @property
    def takes_pending(self) -> bool:
        """Whether it multiplies by one number, of its own."""
        return self.weight is not None and self.weight.dim() == 0 and self.bias is None

    def of_pending(self, logits: PendingProduct) -> PendingProduct:
        """Return logits whose layer left them to their loss (`sphereface.caffe.fused_loss`)."""
        return logits.times(self)

    def constant_factor(self) -> float | None:
        """Return the number, finite and not 0; None if it is none, or one that may change."""
        limited = self.min_value is not None or self.max_value is not None
        learns = self.weight.requires_grad and torch.is_grad_enabled()
        if limited or learns or torch.compiler.is_compiling():
            return None
        # Read once, not in each pass: a GPU would be waited for.
        state = (self.weight.data_ptr(), self.weight._version)
        if self._read is None or self._read[0] != state:
            self._read = state, float(self.weight)
        value = self._read[1]
        return value if value and math.isfinite(value) else None
