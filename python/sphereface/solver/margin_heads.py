"""The heads of a net that put a margin between classes, and what a batch is to each without it.

Two forms: one layer with the weights (A-Softmax, L-Softmax), and a chain of layers over cosines
(CosFace, ArcFace and their kin). Source: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from sphereface.caffe import Layer, Net
from sphereface.caffe.graph import Node
from sphereface.caffe.layers.cosine_margin import AdaCosAddmScale, CombinedMargin, CosinAddm
from sphereface.caffe.layers.inner_product import InnerProduct
from sphereface.caffe.layers.label_specific import LabelSpecificAdd
from sphereface.caffe.layers.margin_inner_product import AnnealedProduct

__all__ = ["AnnealedHead", "CosineHead", "MarginHead", "margin_heads"]

_MARGINS = (LabelSpecificAdd, CosinAddm, CombinedMargin, AdaCosAddmScale)
_FACTORS = ("Scale", "Power")

Seen = Callable[[Tensor], None]


def _figures(logits: Tensor, rows: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Return the four means of `MarginHead.watch`, of rows that have a class."""
    known = (labels >= 0) & (labels < logits.shape[1])
    logits, rows, labels = logits[known].float(), rows[known].float(), labels[known]
    return torch.stack(
        [
            F.cross_entropy(logits, labels),
            (logits.argmax(dim=1) == labels).float().mean(),
            F.cosine_similarity(rows, weight[labels].float()).mean(),
            rows.norm(dim=1).mean(),
        ]
    )


class MarginHead:
    """A head with a margin.

    Attributes
    ----------
    name : str
        Of the layer that has the weights.
    classes : int
        N.
    """

    name: str
    classes: int

    def watch(self, seen: Seen) -> None:
        """Call `seen` at each forward, until `unwatch`.

        Its argument has shape (4,), float32, means over the rows whose label is a class: cross
        entropy without a margin; share of rows whose largest such logit is the label's; cosine of a
        row and its class; norm of a row. NaN if no row has a class. The forward is not changed.
        """
        raise NotImplementedError

    def unwatch(self) -> None:
        """Call nobody any more."""
        raise NotImplementedError

    def margin(self) -> str:
        """Return the margin of the present iteration, in words."""
        raise NotImplementedError


@dataclass
class AnnealedHead(MarginHead):
    """A MarginInnerProduct or a LargeMarginInnerProduct."""

    layer: AnnealedProduct

    def __post_init__(self) -> None:
        self.name, self.classes = self.layer.name, self.layer.num_output

    def watch(self, seen: Seen) -> None:
        """Call `seen` at each forward."""

        @torch.no_grad()
        def look(rows: Tensor, labels: Tensor) -> None:
            with torch.autocast(rows.device.type, enabled=False):
                logits = self.layer.plain_logits(rows.float())
                seen(_figures(logits, rows, self.layer.weight, labels))

        self.layer.on_rows = look

    def unwatch(self) -> None:
        """Call nobody any more."""
        self.layer.on_rows = None

    def margin(self) -> str:
        """Return lambda."""
        return f"lambda is {self.layer.annealing.at(int(self.layer.iteration)):g}"


@dataclass
class CosineHead(MarginHead):
    """Layers in a row: an InnerProduct, a margin on its top, factors, a SoftmaxWithLoss.

    Attributes
    ----------
    reader : Layer
        The first that reads the embedding: a Normalize, or the InnerProduct.
    product : InnerProduct
    layer : Layer
        The one with the margin.
    factors : list of Layer
        Scale and Power layers behind it.
    """

    reader: Layer
    product: InnerProduct
    layer: Layer
    factors: list[Layer]
    _handles: list[RemovableHandle] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name, self.classes = self.product.name, self.product.num_output

    def watch(self, seen: Seen) -> None:
        """Call `seen` at each forward."""
        found: list[Tensor] = []

        def embedding(layer: Layer, bottoms: tuple[Tensor, ...]) -> None:
            found[:] = [bottoms[0].detach().flatten(1)]

        @torch.no_grad()
        def look(layer: Layer, bottoms: tuple[Tensor, ...], top: object) -> None:
            scores, label = bottoms[0].detach(), bottoms[1].reshape(-1).long()
            with torch.autocast(scores.device.type, enabled=False):
                logits = scores.flatten(1).float()
                if isinstance(self.layer, AdaCosAddmScale):
                    logits = logits * self.layer.scale
                for factor in self.factors:
                    logits = factor.forward(logits)
                weight = self.product.weight.detach()
                weight = weight.t() if self.product.transpose else weight
                seen(_figures(logits, found[0], weight, label))

        self._handles = [
            self.reader.register_forward_pre_hook(embedding),
            self.layer.register_forward_hook(look),
        ]

    def unwatch(self) -> None:
        """Call nobody any more."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def margin(self) -> str:
        """Return the options that set it."""
        layer = self.layer
        if isinstance(layer, LabelSpecificAdd):
            return "its bias is annealed" if layer.annealing else f"its bias is {layer.added:g}"
        if isinstance(layer, CombinedMargin):
            return f"m1, m2 and m3 are {layer.m1:g}, {layer.m2:g} and {layer.m3:g}"
        assert isinstance(layer, CosinAddm | AdaCosAddmScale)
        return f"m is {layer.m:g}"


def margin_heads(net: Net) -> list[MarginHead]:
    """Return the heads with a margin, in file order."""
    found: list[MarginHead] = []
    for node, layer in zip(net.graph.nodes, net.layers, strict=True):
        if isinstance(layer, AnnealedProduct):
            found.append(AnnealedHead(layer))
        elif isinstance(layer, _MARGINS):
            found.extend(_cosine_head(net, node))
    return found


def _cosine_head(net: Net, node: Node) -> Iterator[CosineHead]:
    """Yield the head around a layer with a margin, if its neighbours are those of one."""
    nodes, layers = net.graph.nodes, net.layers
    makers = {slot: other for other in nodes for slot in other.tops}

    def maker(slot: int) -> Node | None:
        """Return what made a blob, factors left out."""
        made = makers.get(slot)
        while made is not None and made.type in _FACTORS and len(made.bottoms) == 1:
            made = makers.get(made.bottoms[0])
        return made

    made = maker(node.bottoms[0])
    if made is None or len(made.bottoms) != 1:
        return
    product = layers[made.index]
    if not isinstance(product, InnerProduct):
        return
    before = maker(made.bottoms[0])
    first = before if before is not None and before.type == "Normalize" else made
    factors: list[Layer] = []
    slot = node.tops[0]
    while True:
        readers = [other for other in nodes if other.bottoms and other.bottoms[0] == slot]
        if any(other.type == "SoftmaxWithLoss" for other in readers):
            yield CosineHead(layers[first.index], product, layers[node.index], factors)
            return
        scaled = [r for r in readers if r.type in _FACTORS and len(r.bottoms) == 1]
        if len(scaled) != 1:
            return
        factors.append(layers[scaled[0].index])
        slot = scaled[0].tops[0]
