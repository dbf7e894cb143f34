"""``caffe.draw``: a picture of a NetParameter, of one phase or of all layers that it has.

Source: python/caffe/draw.py. What differs: the picture is that of `sphereface draw`, by Graphviz,
without shapes, and there is no pydot graph to be had; a blob that several layers make, of different
phases, has an arrow from each.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from sphereface.caffe import Layer, list_layers
from sphereface.caffe.graph import NetGraph, Node
from sphereface.caffe.outline import Outline
from sphereface.caffe.registry import layer_class
from sphereface.errors import SphereFaceError
from sphereface.files import atomic_path
from sphereface.inspection.boxes import Diagram, Stripe, net_diagram
from sphereface.inspection.draw import picture
from sphereface.proto.net_file import net_of_message

__all__ = ["draw_net", "draw_net_to_file"]


def draw_net(
    caffe_net: Any,
    rankdir: str,
    ext: str = "png",
    phase: int | None = None,
    display_lrm: bool = False,
) -> bytes:
    """Return the picture of a net.

    Parameters
    ----------
    caffe_net : NetParameter
        The net; old formats are upgraded.
    rankdir : {"LR", "RL", "TB", "BT"}
        Where the arrows go: left to right, ..., bottom to top.
    ext : str
        The format: png, svg, pdf, html; dot or raw for Graphviz's text.
    phase : {TRAIN, TEST}, optional
        Draw the layers of one phase only, whatever their levels and stages.
    display_lrm : bool
        Show ``lr_mult`` of each layer's parameters.

    Raises
    ------
    SphereFaceError
        Another direction or format, rules that exclude each other, or pygraphviz is missing.
    """
    layers = [layer for layer in net_of_message(caffe_net).net.layer if _kept(layer, phase)]
    diagram = _without_shapes(net_diagram(Outline(_connected(caffe_net.name, layers), "TEST")))
    if display_lrm:
        diagram = _with_multipliers(diagram, layers)
    return picture(diagram, {"raw": "dot"}.get(ext, ext), rankdir=rankdir)


def draw_net_to_file(
    caffe_net: Any,
    filename: str | os.PathLike[str],
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Write the picture of a net, in the format that the name ends in; see `draw_net`."""
    ext = Path(filename).suffix[1:]
    data = draw_net(caffe_net, rankdir, ext, phase, display_lrm)
    with atomic_path(filename) as temporary:
        temporary.write_bytes(data)


def _kept(layer: Any, phase: int | None) -> bool:
    if phase is None:
        return True
    if layer.include and layer.exclude:
        raise SphereFaceError(
            "both include and exclude rules",
            where=f'layer "{layer.name}" ({layer.type})',
            expected="one kind",
        )
    met = any(rule.phase == phase for rule in layer.include or layer.exclude)
    return met == bool(layer.include)


def _connected(name: str, layers: list[Any]) -> NetGraph:
    """Return the graph of layers that need not make one net: of several phases, or types unknown.

    The bottoms of a node are all that may be read by their names.
    """
    graph = NetGraph(name, force_backward=False)
    makers: dict[str, list[int]] = {}
    known = set(list_layers())
    for index, layer in enumerate(layers):
        bottoms = tuple(slot for blob in layer.bottom for slot in makers.get(blob, ()))
        tops = []
        for position, blob in enumerate(layer.top):
            slot = len(graph.blob_names)
            graph.blob_names.append(blob)
            tops.append(slot)
            if list(layer.bottom[position : position + 1]) == [blob]:
                makers[blob] = [slot]
            else:
                makers.setdefault(blob, []).append(slot)
        cls = layer_class(layer.type) if layer.type in known else Layer
        graph.nodes.append(Node(index, layer, cls, "", bottoms, tuple(tops), ()))
    return graph


def _without_shapes(diagram: Diagram) -> Diagram:
    boxes = (
        replace(box, tops=tuple(replace(top, shape="") for top in box.tops))
        for box in diagram.boxes
    )
    return replace(diagram, boxes=tuple(boxes))


def _with_multipliers(diagram: Diagram, layers: list[Any]) -> Diagram:
    told = {
        layer.name: f"lr_mult {', '.join(f'{param.lr_mult:g}' for param in layer.param)}"
        for layer in layers
        if layer.param
    }

    def shown(stripe: Stripe) -> Stripe:
        return replace(stripe, kind=f"{stripe.kind} {told.get(stripe.name, '')}".rstrip())

    boxes = (replace(box, stripes=tuple(map(shown, box.stripes))) for box in diagram.boxes)
    return replace(diagram, boxes=tuple(boxes))
