"""A net's layers in TEST as fewer operations that compute the same.

Source: the algebra of y = W x + b under scale and shift of its input and output channels. Folding
is in float64 and rounds once. What is folded is exact: an affine layer before a convolution with
padding is folded only if it shifts nothing (padding is zero after the layer, not before it).
Blobs that are wanted, or read by several layers, are computed as they are in the net.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.layers.convolution import Convolution, DepthwiseConvolution
from sphereface.caffe.layers.dropout import Dropout
from sphereface.caffe.layers.eltwise import Eltwise
from sphereface.caffe.layers.flatten import Flatten
from sphereface.caffe.layers.inner_product import InnerProduct
from sphereface.caffe.layers.pooling import Pooling
from sphereface.caffe.layers.reshape import Reshape
from sphereface.caffe.layers.silence import Silence
from sphereface.caffe.layers.split import Split
from sphereface.caffe.net import Net
from sphereface.inference.fused.affine import affine_of, slopes_of
from sphereface.inference.fused.join import joined
from sphereface.inference.fused.operation import Operation, is_hooked

__all__ = ["Folded", "fold"]


@dataclass
class Folded:
    """A folded net.

    Attributes
    ----------
    operations : list of Operation
        In an order that can be run.
    source : list of int
        For each slot of the net's graph, the slot whose value it has.
    dropped : list of str
        Names of layers that do nothing in TEST.
    added : list of int
        Slots behind those of the net's graph; each has the shape of the slot named here.
    """

    operations: list[Operation] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    added: list[int] = field(default_factory=list)


def fold(net: Net, wanted: Collection[int]) -> Folded:
    """Return the operations of `net`, which is in the TEST phase.

    Parameters
    ----------
    net : Net
        It is only read; the operations refer to its layers.
    wanted : collection of int
        Slots whose values are needed.
    """
    result = _Folding(net, wanted).result
    images = net.graph.inputs.values()
    kept = {result.source[slot] for slot in wanted}
    result.operations = joined(result.operations, images, kept)
    return result


class _Folding:
    def __init__(self, net: Net, wanted: Collection[int]) -> None:
        self.shapes = list(net.infer_shapes({}))
        self.result = Folded(source=list(range(len(self.shapes))))
        self._made: dict[int, Operation] = {}  # what makes a slot
        source = self.result.source
        flattened = self._flattened(net, wanted)
        pairs = []
        for node, layer in zip(net.graph.nodes, net.layers, strict=True):
            if node.layer_class.is_input:
                continue
            bottoms = tuple(source[slot] for slot in node.bottoms)
            nothing = layer.name in flattened or _does_nothing(
                layer, [self.shapes[s] for s in bottoms]
            )
            if nothing and not is_hooked(layer):
                self.result.dropped.append(layer.name)
                for slot in node.tops:
                    source[slot] = bottoms[0]
            else:
                pairs.append((layer, bottoms, node.tops))
        self._kept = {source[slot] for slot in wanted}
        self._readers = Counter(slot for _, bottoms, _ in pairs for slot in bottoms)
        for layer, bottoms, tops in pairs:
            self._add(layer, bottoms, tops)

    def _flattened(self, net: Net, wanted: Collection[int]) -> set[str]:
        """Return the names of layers that flatten for inner products, which do so themselves."""
        found, readers = set(), Counter(slot for node in net.graph.nodes for slot in node.bottoms)
        products = Counter(
            node.bottoms[0]
            for node, layer in zip(net.graph.nodes, net.layers, strict=True)
            if isinstance(layer, InnerProduct) and _is_product(layer) and not is_hooked(layer)
        )
        for node, layer in zip(net.graph.nodes, net.layers, strict=True):
            if isinstance(layer, (Flatten, Reshape)) and _flattens(layer):
                (top,) = node.tops
                if top not in wanted and readers[top] == products[top]:
                    found.add(layer.name)
        return found

    def _add(self, layer: Layer, bottoms: tuple[int, ...], tops: tuple[int, ...]) -> None:
        one = len(tops) == 1 and len(bottoms) > 0
        if one and not is_hooked(layer) and self._folds(layer, bottoms, tops):
            return
        self._place(Operation(layer, False, bottoms, tops, [layer.name]))

    def _folds(self, layer: Layer, bottoms: tuple[int, ...], tops: tuple[int, ...]) -> bool:
        if len(bottoms) > 1:
            return self._sum(layer, bottoms, tops)
        return (
            self._affine(layer, bottoms[0], tops)
            or self._rectifier(layer, bottoms[0], tops)
            or self._product(layer, bottoms[0], tops)
            or self._average(layer, bottoms[0], tops)
        )

    def _place(self, operation: Operation) -> None:
        self.result.operations.append(operation)
        self._made.update((slot, operation) for slot in operation.tops)

    def _extend(self, operation: Operation, layer: Layer, tops: tuple[int, ...]) -> None:
        """Let `operation` make `tops`, where `layer` stood, in the place of its only reader."""
        self.result.operations.remove(operation)
        operation.tops = tops
        operation.names.append(layer.name)
        self._place(operation)

    def _maker(self, slot: int) -> Operation | None:
        """Return the operation of `slot`, if nothing else needs what it makes."""
        operation = self._made.get(slot)
        if operation is None or operation.is_layer or slot in self._kept:
            return None
        return operation if self._readers[slot] == 1 else None

    def _affine(self, layer: Layer, bottom: int, tops: tuple[int, ...]) -> bool:
        affine = affine_of(layer, self.shapes[bottom])
        if affine is None:
            return False
        maker = self._maker(bottom)
        if maker is not None and maker.is_open:
            maker.follow(affine)
            self._extend(maker, layer, tops)
        else:
            self._place(Operation(None, False, (bottom,), tops, [layer.name], after=affine))
        return True

    def _rectifier(self, layer: Layer, bottom: int, tops: tuple[int, ...]) -> bool:
        slopes = slopes_of(layer, self.shapes[bottom])
        if slopes is None:
            return False
        maker = self._maker(bottom)
        if maker is not None and maker.slopes is None:
            maker.slopes, maker.residual_first = slopes, maker.residual
            self._extend(maker, layer, tops)
        else:
            self._place(Operation(None, False, (bottom,), tops, [layer.name], slopes=slopes))
        return True

    def _product(self, layer: Layer, bottom: int, tops: tuple[int, ...]) -> bool:
        if not _is_product(layer):
            return False
        operation = Operation(layer, True, (bottom,), tops, [layer.name])
        maker = self._maker(bottom)
        if maker is not None and maker.is_open and not maker.product and maker.after is not None:
            padded = isinstance(layer, Convolution) and any(layer.pad)
            if not padded or not maker.after.shift.any():
                self.result.operations.remove(maker)
                operation.before, operation.bottoms = maker.after, maker.bottoms
                operation.names = [*maker.names, layer.name]
        self._place(operation)
        return True

    def _average(self, layer: Layer, bottom: int, tops: tuple[int, ...]) -> bool:
        """Let an affine step before an average come after it, where it may be folded further."""
        if type(layer) is not Pooling or layer.method != "AVE" or any(layer.pad):
            return False
        maker = self._maker(bottom)
        if maker is None or maker.product or not maker.is_open:
            return False
        between = len(self.shapes)
        self.shapes.append(self.shapes[tops[0]])
        self.result.added.append(tops[0])
        self._readers[between] = 1
        self.result.operations.remove(maker)
        self._place(Operation(layer, False, maker.bottoms, (between,), [layer.name]))
        maker.bottoms, maker.tops = (between,), tops
        self._place(maker)
        return True

    def _sum(self, layer: Layer, bottoms: tuple[int, ...], tops: tuple[int, ...]) -> bool:
        if type(layer) is not Eltwise or layer.operation != "SUM" or layer.coeff:
            return False
        if len(bottoms) != 2 or bottoms[0] == bottoms[1] or len(self.shapes[bottoms[0]]) < 2:
            return False
        makers = [self._maker(slot) for slot in bottoms]
        fit = [m for m in makers if m is not None and not m.residual]
        if not fit:
            self._place(
                Operation(None, False, bottoms, tops, [layer.name], residual=True,
                          residual_first=True)
            )  # fmt: skip
            return True
        # The one made last, so that the other is not kept while it is computed.
        maker = max(fit, key=self.result.operations.index)
        other = bottoms[1] if maker is makers[0] else bottoms[0]
        maker.bottoms = (*maker.bottoms, other)
        maker.residual, maker.residual_first = True, maker.slopes is None
        self._extend(maker, layer, tops)
        return True


def _is_product(layer: Layer) -> bool:
    if isinstance(layer, Convolution):
        return type(layer) in (Convolution, DepthwiseConvolution) and layer.axis == 1
    if not isinstance(layer, InnerProduct) or type(layer) is not InnerProduct:
        return False
    return layer.weight is not None and layer.axis == 1 and not layer.normalize


def _flattens(layer: Flatten | Reshape) -> bool:
    """Tell whether all axes but the first become one."""
    if isinstance(layer, Flatten):
        return layer.axis == 1 and layer.end_axis == -1
    return list(layer.dims) == [0, -1] and layer.axis == 0 and layer.num_axes == -1


def _does_nothing(layer: Layer, shapes: list[Shape]) -> bool:
    if isinstance(layer, (Split, Silence)):
        return True
    if isinstance(layer, Dropout):
        return not layer.training and layer.scale_train and not layer.sample_test
    if isinstance(layer, Flatten):
        return len(shapes[0]) == 2 and layer.axis % 2 == 1 and layer.end_axis % 2 == 1
    if isinstance(layer, Reshape):
        every = len(layer.dims) == len(shapes[0]) and layer.num_axes == -1
        return every and layer.axis == 0 and not any(layer.dims)
    return False
