"""What a ``caffe.Net`` is made of: its layers, blobs, parameters and their names.

Source: the properties of python/caffe/pycaffe.py. Splits are seen as in Caffe.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property
from typing import Any

from sphereface import caffe
from sphereface.caffe.blob import Blob
from sphereface.pycaffe.execution import Execution

__all__ = ["NetLayer", "NetStructure"]


class NetLayer:
    """An entry of ``net.layers``: `type` and `blobs`, a list of the layer's parameter blobs."""

    def __init__(self, layer_type: str, blobs: list[Blob]) -> None:
        self.type, self.blobs = layer_type, blobs


class NetStructure:
    """The part of a net that is looked at, not run."""

    module: caffe.Net
    execution: Execution

    @cached_property
    def blobs(self) -> OrderedDict[str, Blob]:
        """The blobs by name, in the order in which they are first written."""
        return OrderedDict(zip(self._blob_names, self._blobs, strict=True))

    @cached_property
    def params(self) -> OrderedDict[str, list[Blob]]:
        """The parameter blobs of each layer that has some."""
        pairs = zip(self._layer_names, self.execution.params, strict=True)
        return OrderedDict((name, blobs) for name, blobs in pairs if blobs)

    @cached_property
    def layers(self) -> list[Any]:
        """The layers, Splits included; of a Python layer the object of its class."""
        return [
            layer.instance if layer.type == "Python" else NetLayer(layer.type, blobs)
            for layer, blobs in zip(self.module.layers, self.execution.params, strict=True)
        ]

    @cached_property
    def layer_dict(self) -> OrderedDict[str, Any]:
        """The layers by name."""
        return OrderedDict(zip(self._layer_names, self.layers, strict=True))

    @cached_property
    def inputs(self) -> list[str]:
        """Names of the blobs that Input layers make."""
        return [self._blob_names[index] for index in self._inputs]

    @cached_property
    def outputs(self) -> list[str]:
        """Names of the blobs that no layer reads, sorted."""
        return [self._blob_names[index] for index in self._outputs]

    @cached_property
    def top_names(self) -> OrderedDict[str, list[str]]:
        """Names of the tops of each layer."""
        return self._names_by_layer(self.execution.top_ids)

    @cached_property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        """Names of the bottoms of each layer."""
        return self._names_by_layer(self.execution.bottom_ids)

    @cached_property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        """The loss weight of each blob."""
        weights = dict.fromkeys(self._blob_names, 0.0)
        for ids, layer in zip(self.execution.top_ids, self.module.layers, strict=True):
            for index, weight in zip(ids, layer.loss_weight, strict=True):
                weights[self._blob_names[index]] = weight or weights[self._blob_names[index]]
        return OrderedDict(weights)

    @cached_property
    def _layer_names(self) -> list[str]:
        return [layer.name for layer in self.module.layers]

    @property
    def _blob_names(self) -> list[str]:
        return self.execution.blob_names

    @property
    def _blobs(self) -> list[Blob]:
        return self.execution.blobs

    @cached_property
    def _inputs(self) -> list[int]:
        pairs = zip(self.module.layers, self.execution.top_ids, strict=True)
        return [index for layer, ids in pairs if layer.type == "Input" for index in ids]

    @cached_property
    def _outputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.module.outputs]

    def _top_ids(self, layer: int) -> list[int]:
        return self.execution.top_ids[layer]

    def _bottom_ids(self, layer: int) -> list[int]:
        return self.execution.bottom_ids[layer]

    def _names_by_layer(self, ids: list[list[int]]) -> OrderedDict[str, list[str]]:
        names = ([self._blob_names[index] for index in layer] for layer in ids)
        return OrderedDict(zip(self._layer_names, names, strict=True))
