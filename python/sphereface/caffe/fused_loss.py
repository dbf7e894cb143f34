"""A head of logits and the softmax loss that alone reads them, run as one: no logits are stored.

In TRAIN, a MarginInnerProduct or LargeMarginInnerProduct whose logits nothing reads but a
SoftmaxWithLoss of the same labels.
Where the logits are asked for by name, or a hook is on one of the two layers, these run alone.

Source: none, Caffe stores them. What differs: sums are rounded elsewhere, so that values and
gradients differ from the two layers' in their last digits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from sphereface.caffe.graph import NetGraph
from sphereface.caffe.layer import Layer, Shape

__all__ = ["FusedHead", "PendingLogits", "find_heads"]


class PendingLogits(NamedTuple):
    """What stands in the logits' slot: all that makes their loss.

    Attributes
    ----------
    losses : callable
        ``losses(ignore_label)`` returns the cross entropy of each row, (M,), 0 where it is ignored.
    """

    losses: Callable[[int | None], Tensor]


class FusedHead(NamedTuple):
    """A head, its loss, and the slot of the logits between them; a place is an index of layers."""

    head: int
    loss: int
    logits: int

    def take_over(self, calls: list[Any]) -> None:
        """Put what runs them together in the places of the two layers in `calls`.

        Not in TEST, and not where somebody looks at one of them through a hook.
        """
        head, loss = calls[self.head], calls[self.loss]
        if head.training and not (_is_watched(head) or _is_watched(loss)):
            calls[self.head], calls[self.loss] = head.pending, loss.of_pending


def find_heads(
    graph: NetGraph, layers: Sequence[Layer], shapes: Sequence[Shape]
) -> list[FusedHead]:
    """Return the heads whose logits are read by nothing but a softmax loss of the same labels.

    `layers` share their blobs already.
    """
    readers: dict[int, list[int]] = {}
    for node in graph.nodes:
        for slot in node.bottoms:
            readers.setdefault(slot, []).append(node.index)
    users = Counter(id(blob) for layer in layers for blob in layer.blobs)
    found = []
    for node in graph.nodes:
        if not getattr(layers[node.index], "fuses", False):
            continue
        # A layer between them that shares the weight must see its rows normalised.
        if any(users[id(blob)] > 1 for blob in layers[node.index].blobs):
            continue
        slot = node.tops[0]
        if len(readers.get(slot, ())) != 1:
            continue
        place = readers[slot][0]
        loss: Any = layers[place]
        if not getattr(loss, "takes_pending", False):
            continue
        same_labels = graph.nodes[place].bottoms == (slot, node.bottoms[1])
        if same_labels and loss.softmax_axis == len(shapes[slot]) - 1:
            found.append(FusedHead(node.index, place, slot))
    return found


def _is_watched(layer: Layer) -> bool:
    return bool(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
    )
