"""Layers in a row, ready to run on memory that stays: what is left of Caffe's forward is a loop.

Source: Net::ForwardFromTo (net.cpp). What differs: Caffe reshapes every layer in every forward;
here shapes are looked at again only when a blob has changed its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sphereface.caffe import Layer
from sphereface.caffe.direct_call import direct_calls

__all__ = ["Prepared", "Step"]


class Step(NamedTuple):
    """A layer and the memory of its blobs; `in_place` if a top is a bottom."""

    layer: Layer
    bottoms: Sequence[Tensor]
    tops: Sequence[Tensor]
    in_place: bool


class Prepared:
    """Steps that record no gradient.

    Parameters
    ----------
    indices : list of int
        Of the layers in the net.
    steps : list of Step
    """

    def __init__(self, indices: list[int], steps: list[Step]) -> None:
        self._indices, self._steps = indices, steps
        self._layers = [step.layer for step in steps]
        self._rows = [_row(step) for step in steps]

    def run(self, store: Callable[[int, Sequence[Tensor]], None]) -> int | None:
        """Run the steps.

        Parameters
        ----------
        store : callable
            ``store(index, values)`` takes the tops of a layer that have other shapes than their
            memory.

        Returns
        -------
        int or None
            Index of the layer whose tops were stored: nothing behind it has run, because its memory
            has changed.
        """
        calls = direct_calls(self._layers)
        for place, (bottoms, top, shape, start, end) in enumerate(self._rows):
            value = calls[place](*bottoms)
            if (
                top is not None
                and value.shape == shape
                and not (end and start <= value.data_ptr() < end)
            ):
                top.copy_(value)
            elif not self._copied(place, value):
                store(self._indices[place], value if top is None else (value,))
                return self._indices[place]
        return None

    def _copied(self, place: int, result: Any) -> bool:
        """Copy what a layer returned to its tops, if it has their shapes."""
        step = self._steps[place]
        values = result if isinstance(result, tuple) else (result,)
        if [value.shape for value in values] != [top.shape for top in step.tops]:
            return False
        if step.in_place:
            values = tuple(value.clone() for value in values)
        for top, value in zip(step.tops, values, strict=True):
            top.copy_(value)
        return True


def _row(step: Step) -> tuple[Sequence[Tensor], Tensor | None, torch.Size, int, int]:
    """Return the bottoms, the top if it is one, its shape, and where a value in place may not lie.

    A value may be a view of its bottom: Permute in place would read what it has written.
    """
    top = step.tops[0] if len(step.tops) == 1 else None
    start = end = 0
    if step.in_place:
        start = step.tops[0].data_ptr()
        end = start + max(blob.nbytes for blob in (*step.bottoms, *step.tops))
    return step.bottoms, top, torch.Size() if top is None else top.shape, start, end
