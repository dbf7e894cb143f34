"""What is known of a net without its data: likely sizes of its images, or no sizes at all."""

from __future__ import annotations

from typing import Any

from sphereface.caffe.graph import NetGraph
from sphereface.caffe.layer import Layer, Phase, Shape

__all__ = ["Outline", "likely_input_shapes"]


class Outline:
    """The layers of a net, made and not set up: names, types and options, but no shapes.

    Parameters
    ----------
    graph : NetGraph
        The connected layers.
    phase : {"TRAIN", "TEST"}
        Their phase.

    Attributes
    ----------
    name : str
        The net's.
    layers : tuple of Layer
        In file order.
    """

    def __init__(self, graph: NetGraph, phase: Phase) -> None:
        self.graph, self.phase, self.name = graph, phase, graph.name
        self.layers: tuple[Layer, ...] = tuple(
            node.layer_class(node.param, phase=phase, where=node.where) for node in graph.nodes
        )

    def infer_shapes(self, input_shapes: Any) -> list[Shape | None]:
        """Return None for every slot of `graph`."""
        return [None] * len(self.graph.blob_names)


def likely_input_shapes(graph: NetGraph, phase: Phase) -> dict[str, Shape]:
    """Return shapes of images that only the data would tell, as far as the file lets one guess.

    Sizes are those of ``crop_size``; images are taken for coloured.
    """
    guessed = {}
    for node in graph.nodes:
        if node.layer_class.is_input:
            layer = node.layer_class(node.param, phase=phase, where=node.where)
            shape = layer.likely_shape()
            if shape is not None:
                guessed[str(node.param.top[0])] = shape
    return guessed
