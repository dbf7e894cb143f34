"""A head of logits and the softmax loss that alone reads them, run as one: no logits are stored.

In TRAIN: a MarginInnerProduct or LargeMarginInnerProduct; or the layers of which Caffe's forks make
NormFace, AM-Softmax, ArcFace and L2-Softmax, which are an InnerProduct that normalises its weight,
or stands behind a Normalize or NormL2, or before a margin (LabelSpecificAdd, CosinAddm,
CombinedMargin), and single factors (Scale, Power). Nothing reads what they write but the next of
them and, in the end, a SoftmaxWithLoss of the same labels.

Where one of the blobs between is asked for by name, or a hook is on one of the layers, these run
alone. So they do where what they are is not known before the loss: behind a margin, a Scale that
learns or that has limits; an AdaCosAddmScale; a LabelSpecificAdd that is annealed.

Source: none, Caffe stores them. What differs: sums are rounded elsewhere, so that values and
gradients differ from the layers' in their last digits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sphereface.caffe.direct_call import is_watched
from sphereface.caffe.graph import NetGraph, Node
from sphereface.caffe.layer import Layer, Shape

__all__ = ["FusedHead", "find_heads"]


class FusedHead(NamedTuple):
    """The layers from a head to its loss, as indices of layers, and the slots between them."""

    places: tuple[int, ...]
    slots: tuple[int, ...]

    def take_over(self, layers: Sequence[Any], calls: list[Any]) -> None:
        """Put what runs them together in the places of the `layers` in `calls`.

        Not in TEST, and not where somebody looks at one of them through a hook.
        """
        head, *between, loss = (layers[place] for place in self.places)
        if any(is_watched(layer) for layer in (head, *between, loss)):
            return
        if not all(layer.training for layer in (head, *between)) or not _is_known(between):
            return
        calls[self.places[0]] = head.pending
        for place in self.places[1:]:
            calls[place] = layers[place].of_pending


def find_heads(
    graph: NetGraph, layers: Sequence[Layer], shapes: Sequence[Shape]
) -> list[FusedHead]:
    """Return the heads whose logits are read by nothing but a softmax loss of the same labels.

    `layers` share their blobs already.
    """
    readers: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for slot in node.bottoms:
            readers.setdefault(slot, []).append(node)
    users = Counter(id(blob) for layer in layers for blob in layer.blobs)
    found = []
    for node in graph.nodes:
        if not getattr(layers[node.index], "fuses", False):
            continue
        chain = list(_chain(node, readers, layers))
        # A layer between them that shares the weight must see its rows normalised.
        if any(users[id(blob)] > 1 for part in chain for blob in layers[part.index].blobs):
            continue
        if _is_head(chain, graph, layers, shapes):
            places = tuple(part.index for part in chain)
            found.append(FusedHead(places, tuple(part.tops[0] for part in chain[:-1])))
    return found


def _chain(node: Node, readers: dict[int, list[Node]], layers: Sequence[Layer]) -> Iterator[Node]:
    """Yield a head and the layers of which each alone reads what the one before it wrote."""
    while True:
        yield node
        following = readers.get(node.tops[0], ())
        if len(following) != 1 or following[0].bottoms[0] != node.tops[0]:
            return
        node = following[0]
        layer: Any = layers[node.index]
        if not getattr(layer, "takes_pending", False):
            return
        if node.type == "SoftmaxWithLoss":
            yield node
            return


def _is_head(
    chain: Sequence[Node], graph: NetGraph, layers: Sequence[Layer], shapes: Sequence[Shape]
) -> bool:
    """Tell whether the chain ends with a loss over classes and is a head of one set of labels."""
    first, last = chain[0], chain[-1]
    loss: Any = layers[last.index]
    if last.type != "SoftmaxWithLoss":
        return False
    labels = {part.bottoms[1] for part in chain if len(part.bottoms) > 1}
    axes = len(shapes[first.tops[0]])
    if len(labels) != 1 or loss.softmax_axis != axes - 1:
        return False
    product: Any = layers[first.index]
    if product.has_labels:
        return len(chain) == 2
    margins = sum(_has_margin(layers[part.index]) for part in chain[1:-1])
    if axes != 2 or margins > 1 or (margins and product.bias is not None):
        return False
    return bool(margins or product.normalize or _is_normalized(first, graph, layers))


def _is_normalized(node: Node, graph: NetGraph, layers: Sequence[Layer]) -> bool:
    """Tell whether a layer's bottom comes from a normalisation, factors left out."""
    makers = {slot: other for other in graph.nodes for slot in other.tops}
    made = makers.get(node.bottoms[0])
    while made is not None and made.type in ("Scale", "Power") and len(made.bottoms) == 1:
        made = makers.get(made.bottoms[0])
    return made is not None and made.type in ("Normalize", "NormL2")


def _has_margin(layer: Layer) -> bool:
    return hasattr(layer, "pending_margin")


def _is_known(between: Sequence[Any]) -> bool:
    """Tell whether the factors behind a margin are constants."""
    behind = False
    for layer in between:
        if _has_margin(layer):
            behind = True
        elif behind and layer.constant_factor() is None:
            return False
    return True
