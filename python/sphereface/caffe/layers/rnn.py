"""RNN: the plain recurrent layer.

Source: Caffe's rnn_layer.cpp. What differs: see `Recurrent`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.layers.recurrent import Recurrent
from sphereface.caffe.registry import register_layer

__all__ = ["RNN", "rnn"]


def rnn(
    inputs: Tensor,
    cont: Tensor,
    h: Tensor,
    *,
    weight_hidden: Tensor,
    weight_output: Tensor,
    bias_output: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the output of every timestep and the last hidden state.

    `inputs` (T, N, D) hold what the hidden units get from outside, `cont` is (T, N, 1), h (N, D).
    """
    hidden = []
    for step, mark in zip(inputs.unbind(), cont.unbind(), strict=True):
        h = (step + F.linear(mark * h, weight_hidden)).tanh()
        hidden.append(h)
    return F.linear(torch.stack(hidden), weight_output, bias_output).tanh(), h


@register_layer("RNN", param="recurrent_param")
class RNN(Recurrent):
    """Outputs ``o_t = tanh(W_ho h_t + b_o)`` of the hidden state h_t.

    ``h_t = tanh(W_hh cont_t h_(t-1) + W_xh x_t + b_h + W_xh_static x_static)``. Blobs: ``weight``
    W_xh, ``bias`` b_h, ``weight_static``, ``weight_hidden`` W_hh, ``weight_output`` W_ho,
    ``bias_output`` b_o. State: h. Bottoms and tops: see `Recurrent`.
    """

    weight_output: Tensor
    bias_output: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create the blobs."""
        super().setup(bottom_shapes)
        size, options = self.num_output, self.options
        self.add_blob("weight_output", (size, size), options.weight_filler)
        self.add_blob("bias_output", (size,), options.bias_filler)

    def unroll(
        self, inputs: Tensor, cont: Tensor, before: Sequence[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Run the recurrence, then the output of all timesteps at once."""
        outputs, *after = rnn(
            inputs,
            cont,
            *before,
            weight_hidden=self.weight_hidden,
            weight_output=self.weight_output,
            bias_output=self.bias_output,
        )
        return outputs, after
