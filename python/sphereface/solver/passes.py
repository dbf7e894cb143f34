"""Forward and backward of a net for a solver.

Source: Net::ForwardBackward, ClearParamDiffs and ShareTrainedLayersWith (net.cpp). A class of its
own because pycaffe runs its nets in another way, and other ways to compute (compiled, in half
precision, over ranks) change only this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sphereface.caffe import Layer, Net

__all__ = ["Pass", "Passes", "share_trained_layers"]


class Pass(NamedTuple):
    """The weighted loss of a pass, and the net's outputs; neither has a gradient."""

    loss: Tensor
    outputs: dict[str, Tensor]


class Passes:
    """Runs a net in torch.

    Attributes
    ----------
    net : Net
        What is trained.
    model : callable
        What is called for a forward; the net, or a wrapper of it.
    context : callable
        Returns the context manager that a forward runs in (``torch.autocast``).
    """

    def __init__(self, net: Net) -> None:
        self.net = net
        self.model: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = net
        self.context: Callable[[], contextlib.AbstractContextManager[object]] = (
            contextlib.nullcontext
        )

    def clear(self, parameters: Sequence[Tensor]) -> None:
        """Forget the gradients."""
        for parameter in parameters:
            parameter.grad = None

    def forward(self, batch: Mapping[str, Tensor]) -> Pass:
        """Run a forward without gradients; of a net without a loss, the loss is 0."""
        with torch.no_grad():
            return self._forward(batch)[0]

    def forward_backward(self, batch: Mapping[str, Tensor]) -> Pass:
        """Run a forward and a backward, which adds to the gradients."""
        result, loss = self._forward(batch)
        if loss.requires_grad:
            loss.backward()
        return result

    def gradients(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return a gradient for each of `parameters`; zeros where the loss does not reach."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in parameters if parameter.grad is not None]

    def share_with(self, trained: Passes) -> None:
        """Let this net, a test net, use the weights of `trained`."""
        share_trained_layers(self.net, trained.net)

    def state(self) -> dict[str, Any]:
        """Return what a snapshot should hold, in JSON's types."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> list[str]:
        """Go on where `state` was taken; return what of it could not be used, a line each."""
        return [f"{name} {value:g} is dropped" for name, value in state.items()]

    def _forward(self, batch: Mapping[str, Tensor]) -> tuple[Pass, Tensor]:
        with self.context():
            results = self.model(batch)
            if self.net.loss_weights or torch.is_grad_enabled():
                loss = self.net.loss(results)
            else:
                loss = torch.zeros(())
        outputs = {name: results[name].detach() for name in self.net.outputs}
        return Pass(loss.detach(), outputs), loss


def share_trained_layers(net: Net, trained: Net) -> None:
    """Let the layers of `net` use the blobs of the layers of the same names in `trained`.

    Layers without a partner run their fillers, once.

    Raises
    ------
    SphereFaceError
        A layer has other blobs there.
    """
    partners: dict[str, Layer] = {}
    for layer in trained.layers:
        partners.setdefault(layer.name, layer)
    for layer in net.layers:
        partner = partners.get(layer.name)
        if partner is None:
            layer.fill()
            continue
        here, there = ([tuple(blob.shape) for blob in side.blobs] for side in (layer, partner))
        if here != there:
            raise layer.error(
                f"blobs of shapes {here} in phase {net.phase}",
                expected=f"{there}, those of the layer in phase {trained.phase}",
            )
        layer.drop_fillers()
        layer._parameters.update(partner._parameters)
        # Of the buffers those that a state_dict holds: blobs, and the counters of margin layers.
        kept = partner._buffers.keys() - partner._non_persistent_buffers_set
        layer._buffers.update((name, partner._buffers[name]) for name in kept)
