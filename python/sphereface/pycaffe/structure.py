"""What a ``caffe.Net`` is made of: its layers, blobs, parameters and their names.

Source: the properties of python/caffe/pycaffe.py. Splits are seen as in Caffe.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property
from typing import Any

from sphereface import caffe
from sphereface.caffe.blob import Blob, BlobVec
from sphereface.caffe.user_layer import PythonLayer
from sphereface.pycaffe.execution import Execution
from sphereface.pycaffe.vectors import DtypeVec, IntVec, LayerVec, StringVec

__all__ = ["NetLayer", "NetStructure"]


class NetLayer(PythonLayer):
    """An entry of ``net.layers``: `type` and `blobs`, the layer's parameter blobs."""

    def __init__(self, layer_type: str, blobs: BlobVec) -> None:
        self._type, self.blobs = layer_type, blobs

    @property
    def type(self) -> str:
        """The type in the file."""
        return self._type


class NetStructure:
    """The part of a net that is looked at, not run."""

    module: caffe.Net
    execution: Execution

    @cached_property
    def blobs(self) -> OrderedDict[str, Blob]:
        """The blobs by name, in the order in which they are first written."""
        return OrderedDict(zip(self._blob_names, self._blobs, strict=True))

    @cached_property
    def params(self) -> OrderedDict[str, BlobVec]:
        """The parameter blobs of each layer that has some."""
        pairs = zip(self._layer_names, self.execution.params, strict=True)
        return OrderedDict((name, blobs) for name, blobs in pairs if blobs)

    @cached_property
    def layers(self) -> LayerVec:
        """The layers, Splits included; of a Python layer the object of its class."""
        return LayerVec(
            layer.instance if layer.type == "Python" else NetLayer(layer.type, blobs)
            for layer, blobs in zip(self.module.layers, self.execution.params, strict=True)
        )

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
        return OrderedDict(zip(self._blob_names, self._blob_loss_weights, strict=True))

    @property
    def _blob_loss_weights(self) -> DtypeVec:
        weights = DtypeVec([0.0] * len(self._blobs))
        for ids, layer in zip(self.execution.top_ids, self.module.layers, strict=True):
            for index, weight in zip(ids, layer.loss_weight, strict=True):
                weights[index] = weight or weights[index]
        return weights

    @cached_property
    def _layer_names(self) -> StringVec:
        return StringVec(layer.name for layer in self.module.layers)

    @property
    def _blob_names(self) -> StringVec:
        return StringVec(self.execution.blob_names)

    @property
    def _blobs(self) -> BlobVec:
        return self.execution.blobs

    @cached_property
    def _inputs(self) -> IntVec:
        pairs = zip(self.module.layers, self.execution.top_ids, strict=True)
        return IntVec(index for layer, ids in pairs if layer.type == "Input" for index in ids)

    @cached_property
    def _outputs(self) -> IntVec:
        return IntVec(self._blob_names.index(name) for name in self.module.outputs)

    def _top_ids(self, layer: int) -> IntVec:
        return IntVec(self.execution.top_ids[layer])

    def _bottom_ids(self, layer: int) -> IntVec:
        return IntVec(self.execution.bottom_ids[layer])

    def _names_by_layer(self, ids: list[list[int]]) -> OrderedDict[str, list[str]]:
        names = ([self._blob_names[index] for index in layer] for layer in ids)
        return OrderedDict(zip(self._layer_names, names, strict=True))
