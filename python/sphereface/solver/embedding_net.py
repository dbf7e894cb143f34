"""The part of a train net that makes embeddings, run in TEST over pictures of one's own.

The pictures become what the train net's data layer makes of its own, without mirror, shuffling and
random crops. Source: none; with Caffe one writes a deploy net beside the train net.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sphereface.caffe import Net
from sphereface.caffe.class_weights import ClassWeights
from sphereface.caffe.graph import NetGraph, Node
from sphereface.caffe.load import load_graph
from sphereface.caffe.open_net import DataOptions, open_net
from sphereface.data import Sources
from sphereface.errors import SphereFaceError, nearest
from sphereface.inference import DataRecords
from sphereface.solver.config import NetSource
from sphereface.solver.passes import share_trained_layers

__all__ = ["EmbeddingNet"]

_BATCH = 64
_SOURCES = ("ImageData", "Data")


class EmbeddingNet:
    """Embeds pictures with the weights of a net in training.

    Parameters
    ----------
    source : NetSource
        The train net; its images come from one ImageData or Data layer.
    paths : sequence of str
        The pictures, of the sizes that the data layer takes.
    blob : str
        The embedding; by default the first bottom of the layer with a row of weights a class
        (MarginInnerProduct and its kind).
    data : DataOptions
        How pictures are read.

    Attributes
    ----------
    blob : str

    Raises
    ------
    SphereFaceError
        No such blob or data layer; or a picture that cannot be read.
    """

    def __init__(
        self, source: NetSource, paths: Sequence[str], blob: str, data: DataOptions
    ) -> None:
        graph = load_graph(source.file, source.phase, source.level, source.stages)
        slot = _embedding_slot(graph, blob)
        self.blob = graph.blob_names[slot]
        nodes = _ancestors(graph, slot)
        self._paths = list(paths)
        self._folder = tempfile.TemporaryDirectory(prefix="sphereface-verify-")
        listed = Path(self._folder.name, "pictures.txt")
        lines = "".join(f"{os.path.abspath(path)} 0\n" for path in paths)  # noqa: PTH100
        listed.write_bytes(lines.encode("utf-8", "surrogateescape"))
        message = type(source.file.net)(name=source.file.net.name)
        for node in nodes:
            reads = node.layer_class.is_input
            layer = _reader(node, str(listed)) if reads else _in_test(node)
            message.layer.add().CopyFrom(layer)
        try:
            self._opened = open_net(message, phase="TEST", data=data, fill=False)
        except BaseException:
            self._folder.cleanup()
            raise
        assert isinstance(self._opened.source, Sources)
        self._records = DataRecords(self._opened.source)

    @torch.no_grad()
    def embed(self, trained: Net, device: torch.device) -> NDArray[np.float32]:
        """Return the embeddings (S, K) of the pictures, in their order, by the present weights."""
        net, source = self._opened.net.to(device), self._opened.source
        share_trained_layers(net, trained)
        assert isinstance(source, Sources)
        source.seek(0)
        found: dict[str, NDArray[np.float32]] = {}
        for names, (batch, *_) in self._records.batches(_BATCH):
            placed = {name: torch.from_numpy(value).to(device) for name, value in batch.items()}
            rows = net(placed, blobs=(self.blob,))[self.blob].flatten(1).float().cpu().numpy()
            found.update(zip(names, rows, strict=False))
        return np.stack([found[os.path.abspath(path)] for path in self._paths])  # noqa: PTH100

    def close(self) -> None:
        """End the threads that read, and forget the list."""
        self._opened.close()
        self._folder.cleanup()


def _embedding_slot(graph: NetGraph, blob: str) -> int:
    if blob:
        if blob not in graph.blobs:
            raise SphereFaceError(
                f'net "{graph.name}" has no blob "{blob}"',
                where="--verify-blob",
                fix=nearest(blob, graph.blobs),
            )
        return graph.blobs[blob]
    for node in graph.nodes:
        if isinstance(node.layer_class, type) and issubclass(node.layer_class, ClassWeights):
            return node.bottoms[0]
    raise SphereFaceError(
        f'net "{graph.name}" has no margin layer, whose bottom would be the embedding',
        where="--verify",
        fix="name the embedding's blob with --verify-blob",
    )


def _ancestors(graph: NetGraph, slot: int) -> list[Node]:
    """Return the layers that the value of a slot depends on, in file order."""
    needed, kept = {slot}, []
    for node in reversed(graph.nodes):
        if needed.intersection(node.tops):
            kept.append(node)
            needed.update(node.bottoms)
    return kept[::-1]


def _reader(node: Node, listed: str) -> Any:
    """Return an ImageData layer over a list that makes of pictures what `node` makes of its own."""
    param = node.param
    if param.type not in _SOURCES:
        raise SphereFaceError(
            f"images come from a layer of type {param.type}",
            where=node.where,
            expected=f"{' or '.join(_SOURCES)}, for --verify",
        )
    image = param.top[0]
    layer = type(param)(name=param.name, type="ImageData", top=[image, f"{image}/label"])
    layer.transform_param.CopyFrom(param.transform_param)
    layer.transform_param.mirror = False
    if param.type == "ImageData":
        for name in ("new_height", "new_width", "is_color"):
            setattr(layer.image_data_param, name, getattr(param.image_data_param, name))
    layer.image_data_param.source, layer.image_data_param.batch_size = listed, _BATCH
    return layer


def _in_test(node: Node) -> Any:
    layer = type(node.param)()
    layer.CopyFrom(node.param)
    layer.ClearField("include")
    layer.ClearField("exclude")
    if layer.HasField("batch_norm_param"):
        layer.batch_norm_param.ClearField("use_global_stats")  # a train net's says false
    return layer
