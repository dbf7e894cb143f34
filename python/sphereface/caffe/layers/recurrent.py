"""What RNN and LSTM share: sequences, continuation marks, carried or exposed state.

Source: Caffe's recurrent_layer.cpp, which unrolls a net inside the layer. What differs: the input
of all timesteps goes through one product and only the recurrence runs in a loop; the number of
timesteps may change from call to call; a change of the number of streams starts from zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Layer, Shape

__all__ = ["Recurrent"]


class Recurrent(Layer):
    """Base of layers over T timesteps of N streams with D = num_output hidden units.

    Bottoms: x (T, N, ...); cont (T, N), 0 where a sequence starts and 1 where it goes on;
    optionally x_static (N, ...), an input of every timestep; with ``expose_hidden``, the state
    before the first timestep, each (1, N, D). Tops: the outputs (T, N, D); with ``expose_hidden``,
    the state after the last, each (1, N, D).

    Blobs: ``weight`` and ``bias`` of x, ``weight_static`` where there is x_static,
    ``weight_hidden``. Without ``expose_hidden`` a forward starts from the state in which the last
    one ended (buffers, not saved), wherever cont at the first timestep is 1; `reset` makes it zero.
    As in Caffe, no gradient passes through states from before or to after the timesteps, exposed
    ones included, nor to cont.
    """

    bottoms = Arity(2, 5)
    tops = Arity(1, 3)
    #: Names of the states; their buffers are ``h_carried`` and so on.
    states: ClassVar[tuple[str, ...]] = ("h",)
    #: Rows of the weights, in units of num_output.
    gates: ClassVar[int] = 1

    bias: Tensor
    weight_static: Tensor
    weight_hidden: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create the blobs, and the carried state where it is not exposed."""
        options = self.options
        self.num_output = options.num_output
        self.expose_hidden = options.expose_hidden
        if self.num_output < 1:
            raise self.error(f"num_output {self.num_output}", expected="at least 1")
        exposed = len(self.states) if self.expose_hidden else 0
        if len(bottom_shapes) - 2 - exposed not in (0, 1) or self.top_count != 1 + exposed:
            raise self.error(
                f"{len(bottom_shapes)} bottoms and {self.top_count} tops with expose_hidden: "
                f"{str(self.expose_hidden).lower()}",
                expected=f"{2 + exposed} (or {3 + exposed} with x_static) and {1 + exposed}",
            )
        self.has_static = len(bottom_shapes) == 3 + exposed
        self.reshape(bottom_shapes)
        rows = self.gates * self.num_output
        self.in_features = prod(bottom_shapes[0][2:])
        self.add_blob("weight", (rows, self.in_features), options.weight_filler)
        self.add_blob("bias", (rows,), options.bias_filler)
        if self.has_static:
            self.static_features = prod(bottom_shapes[2][1:])
            self.add_blob("weight_static", (rows, self.static_features), options.weight_filler)
        self.add_blob("weight_hidden", (rows, self.num_output), options.weight_filler)
        if not self.expose_hidden:
            for name in self.states:
                state = torch.zeros(bottom_shapes[0][1], self.num_output)
                self.register_buffer(f"{name}_carried", state, persistent=False)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the bottoms; return (T, N, D), and (1, N, D) for each exposed state."""
        x, cont = bottom_shapes[:2]
        if len(x) < 2 or x[:2] != cont:
            raise self.error(
                f"x of shape {x}, cont of shape {cont}", expected="(T, N, ...) and (T, N)"
            )
        state = (1, x[1], self.num_output)
        if self.has_static and bottom_shapes[2][:1] != x[1:2]:
            raise self.error(
                f"x_static of shape {bottom_shapes[2]}", expected=f"{x[1]} streams on axis 0"
            )
        hidden = bottom_shapes[2 + self.has_static :]
        for name, shape in zip(self.states, hidden, strict=False):
            if shape != state:
                raise self.error(f"{name} of shape {shape}", expected=f"{state}")
        self._check_features(bottom_shapes)
        return [(*x[:2], self.num_output), *[state] * len(hidden)]

    def _check_features(self, bottom_shapes: Sequence[Shape]) -> None:
        known = {"weight": bottom_shapes[0][2:]}
        if self.has_static:
            known["weight_static"] = bottom_shapes[2][1:]
        for name, features in known.items():
            if name in self.blob_names and prod(features) != getattr(self, name).shape[1]:
                raise self.error(
                    f"{prod(features)} features for {name}",
                    expected=f"{getattr(self, name).shape[1]}, for which it was made",
                )

    def forward(self, x: Tensor, cont: Tensor, *others: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the outputs, and the last states where they are exposed."""
        steps, streams = x.shape[:2]
        inputs = F.linear(x.reshape(steps, streams, self.in_features), self.weight, self.bias)
        if self.has_static:
            static = others[0].reshape(streams, self.static_features)
            inputs = inputs + F.linear(static, self.weight_static)
        exposed = others[self.has_static :]
        before = [state.detach()[0] for state in exposed] or self._carried(streams)
        marks = cont.detach().to(inputs.dtype)[..., None]  # (T, N, 1)
        outputs, after = self.unroll(inputs, marks, before)
        after = [state.detach() for state in after]
        if self.expose_hidden:
            return (outputs, *[state[None] for state in after])
        for name, state in zip(self.states, after, strict=True):
            getattr(self, f"{name}_carried").copy_(state)
        return outputs

    def unroll(
        self, inputs: Tensor, cont: Tensor, before: Sequence[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the outputs (T, N, D) and the states after the last timestep.

        `inputs` (T, N, gates D) hold what x and x_static give to the gates, bias included; `cont`
        is (T, N, 1); states are (N, D).
        """
        raise NotImplementedError

    def reset(self) -> None:
        """Make the carried state zero."""
        for name in self.states:
            if not self.expose_hidden:
                getattr(self, f"{name}_carried").zero_()

    def _carried(self, streams: int) -> list[Tensor]:
        states = []
        for name in self.states:
            carried = getattr(self, f"{name}_carried")
            if carried.shape[0] != streams:
                carried = carried.new_zeros(streams, self.num_output)
                setattr(self, f"{name}_carried", carried)
            # A copy, because autograd keeps it while the buffer gets its next value.
            states.append(carried.clone())
        return states
