"""LSTM, and LSTMUnit, its one timestep without weights.

Source: Caffe's lstm_layer.cpp and lstm_unit_layer.cpp (Hochreiter and Schmidhuber, 1997; Donahue et
al., 2014). The gates stand in the order input, forget, output, candidate. What differs: see
`Recurrent`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.layers.recurrent import Recurrent
from sphereface.caffe.registry import register_layer

__all__ = ["LSTM", "LSTMUnit", "lstm", "lstm_unit"]


def lstm_unit(c: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
    """Return cell and hidden state after the timestep."""
    i, f, o, g = gates.chunk(4, dim=-1)
    c = cont * f.sigmoid() * c + i.sigmoid() * g.tanh()
    return c, o.sigmoid() * c.tanh()


def lstm(
    inputs: Tensor, cont: Tensor, h: Tensor, c: Tensor, *, weight_hidden: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the hidden state of every timestep, and the last hidden and cell state.

    `inputs` (T, N, 4 D) hold what the gates get from outside, `cont` is (T, N, 1), h and c (N, D).
    """
    hidden = []
    for step, mark in zip(inputs.unbind(), cont.unbind(), strict=True):
        c, h = lstm_unit(c, step + F.linear(mark * h, weight_hidden), mark)
        hidden.append(h)
    return torch.stack(hidden), h, c


@register_layer("LSTM", param="recurrent_param")
class LSTM(Recurrent):
    """Outputs the hidden state h_t of every timestep.

    ``c_t = cont_t f c_(t-1) + i g`` and ``h_t = o tanh(c_t)`` with the gates i, f, o (sigmoid) and
    g (tanh) of ``W_hc cont_t h_(t-1) + W_xc x_t + b_c + W_xc_static x_static``. Blobs: ``weight``
    W_xc, ``bias`` b_c, ``weight_static``, ``weight_hidden`` W_hc. States: h, c. Bottoms and tops:
    see `Recurrent`.
    """

    states = ("h", "c")
    gates = 4

    def unroll(
        self, inputs: Tensor, cont: Tensor, before: Sequence[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Run the recurrence."""
        outputs, *after = lstm(inputs, cont, *before, weight_hidden=self.weight_hidden)
        return outputs, after


@register_layer("LSTMUnit")
class LSTMUnit(Layer):
    """Cell and hidden state after one timestep: ``c = cont f c_prev + i g``, ``h = o tanh(c)``.

    Bottoms: c_prev (1, N, D); gates (1, N, 4 D), before their sigmoids and tanh; cont (1, N), which
    gets no gradient. Tops: c and h.
    """

    bottoms = exactly(3)
    tops = exactly(2)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the bottoms and return c_prev's shape twice."""
        c, gates, cont = bottom_shapes
        if len(c) != 3 or c[0] != 1 or gates != (*c[:2], 4 * c[2]) or cont != c[:2]:
            raise self.error(
                f"bottoms of shapes {c}, {gates} and {cont}",
                expected="(1, N, D), (1, N, 4 D) and (1, N)",
            )
        return [c, c]

    def forward(self, c: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
        """Return c and h."""
        return lstm_unit(c, gates, cont.detach()[..., None].to(gates.dtype))
