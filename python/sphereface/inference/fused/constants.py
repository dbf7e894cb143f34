"""Numbers of a folded net's operations as the steps of csrc/cpu/forward_program.h read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.layers.convolution import Convolution
from sphereface.inference.fused.huge_pages import zeros
from sphereface.inference.fused.join import Heads, Pooled
from sphereface.inference.fused.operation import Operation

__all__ = ["Constants", "Offsets", "is_depthwise"]

_PANEL = 16  # kPanel


@dataclass(frozen=True)
class Offsets:
    """Where an operation's numbers begin in the constants; -1 is none."""

    weight: int = -1
    bias: int = -1
    slopes: int = -1
    kernel: tuple[int, int] = (1, 1)  # of an inner product: the picture that it was built for


class Constants:
    """Weights of all operations, folded and in the order that the steps read them.

    Parameters
    ----------
    operations : sequence of Operation
        Those for which `can_run` is true, the parts of joined ones among them.
    shapes : sequence of tuple
        Of all slots, as the net was built.
    """

    def __init__(self, operations: Sequence[Operation], shapes: Sequence[Shape]) -> None:
        self._size = 0
        self._offsets: dict[int, Offsets] = {}
        for operation in operations:
            if not isinstance(operation, Pooled):
                self._offsets[id(operation)] = self._planned(operation, shapes)
        self.values = zeros(self._size)
        for operation in operations:
            if isinstance(operation, Pooled):
                self._offsets[id(operation)] = self._offsets[id(operation.parts[0])]
            else:
                self._fill(operation, self._offsets[id(operation)])

    def of(self, operation: Operation) -> Offsets | None:
        """Return where the numbers of `operation` are, if they are here."""
        return self._offsets.get(id(operation))

    def _take(self, count: int) -> int:
        start = self._size
        self._size += -(-count // _PANEL) * _PANEL
        return start

    def _planned(self, operation: Operation, shapes: Sequence[Shape]) -> Offsets:
        layer, bottom = operation.layer, shapes[operation.bottoms[0]]
        if isinstance(operation, Heads):
            return Offsets(self._take(bottom[1] * _PANEL), self._take(_PANEL))
        outputs = shapes[operation.tops[0]][1]
        padded = -(-outputs // _PANEL) * _PANEL
        slopes = self._take(padded) if operation.slopes is not None else -1
        if not operation.product:
            if operation.after is None:
                return Offsets(slopes=slopes)
            return Offsets(self._take(outputs), self._take(padded), slopes)
        kernel = (bottom[2], bottom[3]) if len(bottom) == 4 else (1, 1)
        assert layer is not None
        if isinstance(layer, Convolution):
            kernel = (layer.kernel[0], layer.kernel[1])
        each = kernel[0] * kernel[1] * (1 if is_depthwise(layer) else bottom[1])
        weight = self._take(each * (outputs if is_depthwise(layer) else padded))
        has_bias = layer.bias is not None or operation.after or operation.before
        return Offsets(weight, self._take(padded) if has_bias else -1, slopes, kernel)

    def _fill(self, operation: Operation, at: Offsets) -> None:
        if operation.slopes is not None:
            self._write(at.slopes, operation.slopes)
        if isinstance(operation, Heads):
            self._fill_heads(operation, at)
        elif operation.product:
            self._fill_product(operation, at)
        elif operation.after is not None:
            self._write(at.weight, operation.after.scale)
            self._write(at.bias, operation.after.shift)

    def _fill_product(self, operation: Operation, at: Offsets) -> None:
        weight, bias = operation.weight(), operation.bias()
        if bias is not None:
            self._write(at.bias, bias)
        if is_depthwise(operation.layer):
            self._write(at.weight, weight.flatten(1).t())
            return
        outputs, taps = len(weight), at.kernel[0] * at.kernel[1]
        weight = weight.reshape(outputs, -1, taps)
        whole, panels = outputs // _PANEL, -(-outputs // _PANEL)
        count = panels * weight[0].numel() * _PANEL
        inputs, split = weight.shape[1], whole * _PANEL
        target = self.values[at.weight : at.weight + count].view(panels, taps, inputs, _PANEL)
        target[:whole] = weight[:split].view(whole, _PANEL, inputs, taps).permute(0, 3, 2, 1)
        if split < outputs:
            target[whole, :, :, : outputs - split] = weight[split:].permute(2, 1, 0)

    def _fill_heads(self, heads: Heads, at: Offsets) -> None:
        start = 0
        for head in heads.heads:
            weight, bias = head.product.weight().flatten(1), head.product.bias()
            outputs, inputs = weight.shape
            target = self.values[at.weight : at.weight + inputs * _PANEL].view(inputs, _PANEL)
            target[:, start : start + outputs] = weight.t()
            if bias is not None:
                self._write(at.bias + start, bias)
            start += outputs

    def _write(self, start: int, values: Tensor) -> None:
        self.values[start : start + values.numel()].view(values.shape).copy_(values)


def is_depthwise(layer: object) -> bool:
    """Tell whether it is a convolution of a kernel a channel, of those that there are steps for."""
    return isinstance(layer, Convolution) and layer.group > 1
