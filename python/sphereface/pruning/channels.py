"""Which channels of a net's blobs are one and the same, and which axes of its weights they index.

Every channel of every blob gets a number. Layers that keep channels apart hand the numbers on,
sums and their kin tie those of their bottoms to each other, and a convolution makes new ones. What
cannot lose a channel freezes it, with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sphereface.caffe import Layer, Net
from sphereface.caffe.registry import is_shipped

__all__ = ["BlobAxis", "ChannelMap", "Filters", "Ids", "Number", "trace_channels"]

Ids = NDArray[np.int64]
"""The number of each channel along axis 1 of a blob, or along an axis of a weight."""


@dataclass(frozen=True)
class BlobAxis:
    """An axis of a parameter blob that channels index."""

    layer: Layer
    blob: str
    axis: int
    ids: Ids


@dataclass(frozen=True)
class Filters:
    """A convolution's filters, which make the channels `ids`; `axis` of its weight is theirs."""

    layer: Layer
    axis: int
    ids: Ids


@dataclass(frozen=True)
class Number:
    """A number in the prototxt: how many of each of `parts` are left, added up from part to part.

    ``num_output`` and ``group`` have one part, ``slice_point`` one less than there are pieces.
    """

    layer: str
    message: str
    field: str
    parts: tuple[Ids, ...]


@dataclass
class ChannelMap:
    """What `trace_channels` found.

    Attributes
    ----------
    axes, filters, numbers : list
        What follows the channels.
    blobs : list of Ids
        The channels of each blob; no blob may lose its last.
    frozen : dict of int to str
        Channel to why it stays; of tied channels any.
    """

    axes: list[BlobAxis] = field(default_factory=list)
    filters: list[Filters] = field(default_factory=list)
    numbers: list[Number] = field(default_factory=list)
    blobs: list[Ids] = field(default_factory=list)
    frozen: dict[int, str] = field(default_factory=dict)
    _parent: list[int] = field(default_factory=list)

    def new(self, count: int) -> Ids:
        """Return the numbers of `count` new channels."""
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return np.arange(start, start + count)

    def tie(self, *several: Ids) -> None:
        """Make channels at the same places one."""
        for others in several[1:]:
            for first, second in zip(several[0].tolist(), others.tolist(), strict=True):
                low, high = sorted((self._root(first), self._root(second)))
                self._parent[high] = low

    def freeze(self, ids: Ids, why: str) -> None:
        """Have channels stay."""
        for number in ids.tolist():
            self.frozen.setdefault(number, why)

    def settle(self) -> Ids:
        """Return, for each channel, the number that stands for all that it is tied to.

        `frozen` has those numbers afterwards.
        """
        roots = np.array([self._root(number) for number in range(len(self._parent))], np.int64)
        reasons: dict[int, str] = {}
        for number, why in self.frozen.items():
            reasons.setdefault(int(roots[number]), why)
        self.frozen = reasons
        return roots

    def _root(self, number: int) -> int:
        parent = self._parent
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number


def trace_channels(net: Net, residual: str) -> ChannelMap:
    """Give every channel of all blobs of `net` its number.

    Parameters
    ----------
    net : Net
    residual : {"together", "keep"}
        Whether channels that sums join are tied, or stay.
    """
    from sphereface.pruning.layer_rules import RULES, Place

    channels = ChannelMap()
    shapes = net.infer_shapes({})
    shared = _sharing(net)
    ids: dict[int, Ids] = {}
    for node, layer in zip(net.graph.nodes, net.layers, strict=True):
        bottoms = [ids[slot] for slot in node.bottoms]
        place = Place(
            layer,
            [shapes[slot] for slot in node.bottoms],
            [shapes[slot] for slot in node.tops],
            residual,
        )
        rule = RULES.get(layer.type) if is_shipped(layer.type, type(layer)) else None
        why = f"feeds layer {layer.name} ({layer.type})"
        if layer.name in shared:
            rule, why = None, f"layer {layer.name} shares its weights"
        tops = rule(channels, place, bottoms) if rule is not None else why
        if isinstance(tops, str):
            for bottom in bottoms:
                channels.freeze(bottom, tops)
            tops = [channels.new(_channels(shape)) for shape in place.tops]
            for top in tops:
                channels.freeze(top, f"made by layer {layer.name} ({layer.type})")
        ids.update(zip(node.tops, tops, strict=True))
    for name, slot in net.graph.outputs.items():
        channels.freeze(ids[slot], f'blob "{name}" is an output of the net')
    channels.blobs = list(ids.values())
    return channels


def _channels(shape: Sequence[int]) -> int:
    return shape[1] if len(shape) > 1 else 1


def _sharing(net: Net) -> set[str]:
    """Return the names of the layers with a blob that another layer has too."""
    owners: dict[int, list[str]] = {}
    for layer in net.layers:
        for blob in layer.blobs:
            owners.setdefault(id(blob), []).append(layer.name)
    return {name for names in owners.values() if len(names) > 1 for name in names}
