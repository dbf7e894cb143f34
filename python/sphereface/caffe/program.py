"""What a net runs, precomputed: a step a layer over numbered slots, and what is returned."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple

from sphereface.caffe.direct_call import direct_calls
from sphereface.caffe.fused_loss import FusedHead
from sphereface.caffe.graph import NetGraph
from sphereface.errors import SphereFaceError, nearest

__all__ = ["Program", "Step", "make_program"]


class Step(NamedTuple):
    """One layer: the slots it reads, the one it writes (-1 for several), all it writes, frees."""

    reads: tuple[int, ...]
    write: int
    writes: tuple[int, ...]
    frees: tuple[int, ...]


class Program(NamedTuple):
    """Steps of the layers that are no inputs, in file order, and (name, slot) of the results.

    `heads` are those that may run together with their loss; their places are those of steps.
    """

    steps: list[Step]
    results: list[tuple[str, int]]
    heads: list[FusedHead]

    def run(self, layers: Iterable[Any], values: list[Any], *, fuse: bool) -> dict[str, Any]:
        """Run the steps over the slots `values`, and return the results by name.

        Parameters
        ----------
        layers : iterable of Layer
            A step each; more may follow.
        values : list
            The inputs in their slots; it is written.
        fuse : bool
            Whether `heads` run together with their losses.

        Raises
        ------
        SphereFaceError
            A layer cannot take its bottoms, or the CPU has too little memory for its tops.
        """
        layers = list(islice(layers, len(self.steps)))
        calls = direct_calls(layers)
        if fuse:
            for head in self.heads:
                head.take_over(layers, calls)
        done = 0
        try:
            for call, (reads, write, writes, frees) in zip(calls, self.steps, strict=True):
                result = call(*[values[slot] for slot in reads])
                if write >= 0:
                    values[write] = result
                else:
                    for slot, value in zip(writes, result, strict=True):
                        values[slot] = value
                for slot in frees:
                    values[slot] = None
                done += 1
        except RuntimeError as error:
            raise layers[done].explained(error) from None
        return {name: values[slot] for name, slot in self.results}


def make_program(
    graph: NetGraph,
    losses: Iterable[tuple[str, int]],
    blobs: Iterable[str],
    heads: Iterable[FusedHead] = (),
) -> Program:
    """Return the program that computes the outputs, the losses and `blobs`.

    Parameters
    ----------
    graph : NetGraph
        The net.
    losses : iterable of (str, int)
        Name and slot of the tops with a loss weight.
    blobs : iterable of str
        Blobs wanted besides; of a name written in place, the last version.
    heads : iterable of FusedHead
        Of the net; those with a result between their layers are left out.

    Raises
    ------
    SphereFaceError
        The net has no blob of that name.
    """
    results = dict(graph.outputs)
    results.update(losses)
    for name in blobs:
        if name not in graph.blobs:
            raise SphereFaceError(
                f'net "{graph.name}" has no blob "{name}"', fix=nearest(name, graph.blobs)
            )
        results[name] = graph.blobs[name]
    frees = graph.frees(set(results.values()))
    running = [
        (node, freed)
        for node, freed in zip(graph.nodes, frees, strict=True)
        if not node.layer_class.is_input
    ]
    steps = [
        Step(node.bottoms, node.tops[0] if len(node.tops) == 1 else -1, node.tops, freed)
        for node, freed in running
    ]
    place = {node.index: step for step, (node, _) in enumerate(running)}
    kept = set(results.values())
    fused = [
        head._replace(places=tuple(place[index] for index in head.places))
        for head in heads
        if kept.isdisjoint(head.slots)
    ]
    return Program(steps, list(results.items()), fused)
