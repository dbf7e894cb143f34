"""A net without the channels of its weakest filters: its prototxt and its weights.

Source: Li et al., Pruning Filters for Efficient ConvNets (ICLR 2017), as in the compression of
SphereFace. What differs: all that reads a channel is found in the graph, not listed by hand.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sphereface.caffe import Net
from sphereface.caffe.load import load_file, net_text
from sphereface.errors import SphereFaceError
from sphereface.proto.edit import LayerNumbers, with_numbers
from sphereface.proto.text import write
from sphereface.pruning.channels import Ids, trace_channels
from sphereface.pruning.ranking import choose_kept

__all__ = ["RESIDUAL", "ConvolutionRow", "PruningPlan", "plan_pruning"]

RESIDUAL = ("together", "keep")


@dataclass(frozen=True)
class ConvolutionRow:
    """A convolution: its channels before and after, and why some had to stay ("" if none)."""

    name: str
    before: int
    after: int
    why: str


@dataclass(frozen=True)
class PruningPlan:
    """What is removed from a net.

    Attributes
    ----------
    rows : tuple of ConvolutionRow
        In file order.
    kept : dict of str to ndarray of int64
        Convolution to the indices of the filters that stay.
    weights : dict of str to list of ndarray
        Layer to its blobs, cut, as ``Net.copy_from`` takes them.
    """

    rows: tuple[ConvolutionRow, ...]
    kept: dict[str, NDArray[np.int64]]
    weights: dict[str, list[NDArray]]
    _numbers: dict[str, LayerNumbers]

    def prototxt(self, prototxt: str | os.PathLike[str]) -> str:
        """Return the text of a net with the smaller numbers in its layers.

        Parameters
        ----------
        prototxt : path or str
            The net that was pruned, or another of the same layers, as for `sphereface.caffe.load`.
            What does not change in its text stays as it is; one in the format V0, where options
            are not told apart, is written anew.

        Raises
        ------
        SphereFaceError
            A layer is missing, or has another number than in the net that was pruned.
        """
        text, file = net_text(prototxt), load_file(prototxt)
        changes = {
            name: numbers
            for name, numbers in self._numbers.items()
            if any(list(old) != list(new) for old, new in numbers.values())
        }
        missing = changes.keys() - {layer.name for layer in file.net.layer}
        if missing:
            raise SphereFaceError(
                f"no layer {', '.join(sorted(missing))}",
                where=file.source,
                expected="the layers of the net that was pruned",
            )
        edited = with_numbers(text, file.source, changes)
        if edited is None:
            edited = with_numbers(write(file.net), file.source, changes)
        assert edited is not None  # the present format has a message for each layer's options
        return edited


def plan_pruning(
    net: Net,
    *,
    ratio: float = 0.0,
    keep: Mapping[str, int] | None = None,
    residual: str = "together",
) -> PruningPlan:
    """Rank the filters of every convolution by their L1 norm and cut the weakest, with all readers.

    Parameters
    ----------
    net : Net
        With its weights; it stays as it is.
    ratio : float
        Share of every convolution's filters that goes, 0 to 1, rounded down; one always stays.
    keep : mapping of str to int, optional
        Convolution to how many filters stay, in the place of `ratio`.
    residual : {"together", "keep"}
        Channels that a residual sum joins go together, ranked by the sum of the norms of all
        filters that make them, or stay.

    Raises
    ------
    SphereFaceError
        The ratio is no share, or `keep` asks for what cannot be.

    Notes
    -----
    Channels that an output of the net has stay, and so do those that a layer reads which mixes
    channels in a way of its own (LRN across channels, groups, Normalize, Reshape and so on).

    Examples
    --------
    >>> from sphereface.caffe import load
    >>> from sphereface.resources import prototxt_path
    >>> plan = plan_pruning(load(prototxt_path("sphereface_4_deploy")), ratio=0.5)
    >>> [(row.name, row.before, row.after) for row in plan.rows][:2]
    [('conv1_1', 64, 32), ('conv2_1', 128, 64)]
    >>> small = load(plan.prototxt(prototxt_path("sphereface_4_deploy")))
    >>> len(small.copy_from(plan.weights).loaded)
    9
    """
    if not 0 <= ratio < 1:
        raise SphereFaceError(f"{ratio:g}", where="--ratio", expected="0 or more, and less than 1")
    if residual not in RESIDUAL:
        raise SphereFaceError(f'"{residual}"', where="--residual", expected=" or ".join(RESIDUAL))
    channels = trace_channels(net, residual)
    roots = channels.settle()
    kept = choose_kept(channels, roots, ratio, keep or {})
    rows, indices = [], {}
    for filters in channels.filters:
        left = np.flatnonzero(kept[filters.ids])
        frozen = (channels.frozen.get(root, "") for root in roots[filters.ids].tolist())
        why = next(filter(None, frozen), "")
        rows.append(ConvolutionRow(filters.layer.name, len(filters.ids), len(left), why))
        indices[filters.layer.name] = left
    numbers: dict[str, dict[tuple[str, str], tuple[list[int], list[int]]]] = {}
    for number in channels.numbers:
        values = _ends(number.parts, np.ones_like(kept)), _ends(number.parts, kept)
        numbers.setdefault(number.layer, {})[number.message, number.field] = values
    weights: dict[str, list[NDArray]] = {}
    arrays = {
        (id(layer), name): getattr(layer, name).detach().to("cpu").numpy()
        for layer in net.layers
        for name in layer.blob_names
    }
    for axis in channels.axes:
        place = id(axis.layer), axis.blob
        arrays[place] = arrays[place].compress(kept[axis.ids], axis.axis)
    for layer in net.layers:
        if layer.blob_names and layer.name not in weights:
            weights[layer.name] = [arrays[id(layer), name] for name in layer.blob_names]
    return PruningPlan(tuple(rows), indices, weights, dict(numbers))


def _ends(parts: tuple[Ids, ...], kept: NDArray[np.bool_]) -> list[int]:
    return np.cumsum([int(kept[ids].sum()) for ids in parts]).tolist()
