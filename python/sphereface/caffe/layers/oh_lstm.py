"""Lstm: the recurrence of CTPN and of recognisers of text, without marks of where sequences start.

Source: lstm_layer.cpp of Junhyuk Oh's Caffe fork, in whose blobs and gates the weights come; the
form with three axes is CTPN's (Tian et al., ECCV 2016). What differs: a second bottom of marks,
with which the original goes on from the last pass, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.layers.lstm import lstm_unit
from sphereface.caffe.registry import register_layer

__all__ = ["Lstm", "clipped", "lstm_from_zero"]


def clipped(x: Tensor, threshold: float) -> Tensor:
    """Return x, whose gradient is moved into -threshold to threshold if that is positive."""
    if threshold > 0 and x.requires_grad:
        x.register_hook(lambda gradient: gradient.clamp(-threshold, threshold))
    return x


def lstm_from_zero(
    x: Tensor,
    *,
    weight: Tensor,
    weight_hidden: Tensor,
    bias: Tensor,
    batch: int,
    clipping: float,
) -> Tensor:
    """Return the hidden states of the timesteps; x is (T, N, I), or (T batch, ...) with a batch."""
    steps = x.reshape(-1, batch, weight.shape[1]) if batch else x
    inputs = F.linear(steps, weight, bias)
    h = c = x.new_zeros(())
    mark = x.new_zeros(())
    hidden: list[Tensor] = []
    for step in inputs.unbind():
        gates = step + F.linear(h, weight_hidden) if hidden else step
        c, h = lstm_unit(c, clipped(gates, clipping), mark)
        mark = torch.ones_like(mark)
        hidden.append(h)
    found = torch.stack(hidden)
    return found.flatten(0, 1) if batch else found


@register_layer("Lstm", param="lstm_param")
class Lstm(Layer):
    """``c_t = f c_(t-1) + i g`` and ``h_t = o tanh(c_t)``, from zero, with the gates i, f, o, g.

    Bottom (T, N, I), top (T, N, ``num_output``). Bottoms of another number of axes hold the
    ``batch_size`` sequences of a timestep side by side: (T N, ...), top (T N, num_output). Blobs:
    ``weight`` (4 D, I), ``weight_hidden`` (4 D, D), ``bias``. The gradient before the gates is
    moved into +-``clipping_threshold``.
    """

    weight_hidden: Tensor
    bias: Tensor
    function = staticmethod(lstm_from_zero)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create the blobs."""
        options, shape = self.options, bottom_shapes[0]
        if options.num_output < 1 or options.batch_size < 1:
            raise self.error(
                f"num_output {options.num_output}, batch_size {options.batch_size}",
                expected="at least 1",
            )
        if len(shape) < 2:
            raise self.error(f"a bottom of shape {shape}", expected="(T, N, I), or (T N, I)")
        self.clipping: float = options.clipping_threshold
        self.batch: int = 0 if len(shape) == 3 else options.batch_size
        size, inputs = 4 * options.num_output, shape[2] if len(shape) == 3 else prod(shape[1:])
        self.add_blob("weight", (size, inputs), options.weight_filler)
        self.add_blob("weight_hidden", (size, options.num_output), options.weight_filler)
        self.add_blob("bias", (size,), options.bias_filler)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the number of values of a timestep."""
        shape, inputs = bottom_shapes[0], self.weight.shape[1]
        if (len(shape) == 3) != (self.batch == 0) or not shape[0]:
            raise self.error(f"a bottom of shape {shape}", expected="as many axes as before")
        given = prod(shape[1:]) if self.batch else shape[2]
        if given != inputs or (self.batch and shape[0] % self.batch):
            raise self.error(
                f"a bottom of shape {shape}",
                expected=f"{inputs} values a timestep, and sequences side by side {self.batch}"
                if self.batch
                else f"(T, N, {inputs})",
            )
        return [(*shape[: 1 if self.batch else 2], self.weight_hidden.shape[1])]
