"""``debug_info: true``: the mean absolute values of everything in an iteration.

Source: Net::ForwardDebugInfo, BackwardDebugInfo and UpdateDebugInfo (net.cpp). What differs: blobs
have no Split copies here, so a bottom carries the blob's own name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sphereface.caffe import Layer, Net

__all__ = ["DebugInfo"]


class DebugInfo:
    """Writes Caffe's lines about an iteration of a net.

    Parameters
    ----------
    net : Net
        The net.
    write : callable
        Takes a line.
    """

    def __init__(self, net: Net, write: Callable[[str], None]) -> None:
        self._net, self._write = net, write
        self._bottom_diffs: dict[tuple[int, int], float] = {}

    @contextlib.contextmanager
    def watch(self, batch: Mapping[str, Tensor]) -> Iterator[None]:
        """Tell about the forward and the backward in the ``with`` block, of inputs `batch`."""
        hooks: list[Any] = []
        self._bottom_diffs.clear()
        for index, layer in enumerate(self._net.layers):
            if layer.is_input:
                for name in layer.layer_param.top:
                    self._forward_line(layer, f"top blob {name}", batch[name])
                continue
            hooks.append(layer.register_forward_pre_hook(self._watch_bottoms(index)))
            hooks.append(layer.register_forward_hook(self._tell_forward))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        self._tell_backward()

    def update(self, key: str, weight: Tensor, update: Tensor) -> None:
        """Write the line of one parameter that is about to be updated."""
        module, _, name = key.rpartition(".")
        layer = self._net.get_submodule(module)
        assert isinstance(layer, Layer)
        self._write(
            f"    [Update] Layer {layer.name}, param {layer.blob_names.index(name)} "
            f"data: {_mean(weight):g}; diff: {_mean(update):g}"
        )

    def _watch_bottoms(self, index: int) -> Callable[[nn.Module, tuple[Tensor, ...]], Any]:
        def hook(layer: nn.Module, bottoms: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            # A view of its own: the gradient of this layer alone, where several read a blob.
            views = tuple(bottom.view_as(bottom) for bottom in bottoms)
            for position, view in enumerate(views):
                if view.requires_grad:
                    view.register_hook(self._keep(index, position))
            return views

        return hook

    def _keep(self, index: int, position: int) -> Callable[[Tensor], None]:
        def keep(grad: Tensor) -> None:
            self._bottom_diffs[index, position] = _mean(grad)

        return keep

    def _tell_forward(self, layer: nn.Module, bottoms: Any, result: Any) -> None:
        assert isinstance(layer, Layer)
        tops = result if isinstance(result, tuple) else (result,)
        names = [*layer.layer_param.top, *["(automatic)"] * len(tops)]
        for name, top in zip(names, tops, strict=False):
            self._forward_line(layer, f"top blob {name}", top)
        for index, blob in enumerate(layer.blobs):
            self._forward_line(layer, f"param blob {index}", blob)

    def _forward_line(self, layer: Layer, what: str, value: Tensor) -> None:
        self._write(f"    [Forward] Layer {layer.name}, {what} data: {_mean(value):g}")

    def _tell_backward(self) -> None:
        for index in reversed(range(len(self._net.layers))):
            layer = self._net.layers[index]
            for position, name in enumerate(layer.layer_param.bottom):
                if (index, position) in self._bottom_diffs:
                    self._backward_line(
                        layer, f"bottom blob {name}", self._bottom_diffs[index, position]
                    )
            for blob, tensor in enumerate(layer.blobs):
                if tensor.grad is not None:
                    self._backward_line(layer, f"param blob {blob}", _mean(tensor.grad))
        parameters = [blob.tensor.detach() for blob in self._net.learnable_blobs()]
        diffs = [b.tensor.grad for b in self._net.learnable_blobs() if b.tensor.grad is not None]
        norms = [[_norm(values, order) for values in (parameters, diffs)] for order in (1, 2)]
        told = [f"({data:g}, {diff:g})" for data, diff in norms]
        self._write(
            f"    [Backward] All net params (data, diff): L1 norm = {told[0]}; L2 norm = {told[1]}"
        )

    def _backward_line(self, layer: Layer, what: str, diff: float) -> None:
        self._write(f"    [Backward] Layer {layer.name}, {what} diff: {diff:g}")


def _mean(tensor: Tensor) -> float:
    return float(tensor.detach().abs().sum()) / max(tensor.numel(), 1)


def _norm(tensors: list[Tensor], order: int) -> float:
    if not tensors:
        return 0.0
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors, order)), order))
