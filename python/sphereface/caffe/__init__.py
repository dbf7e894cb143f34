"""Legacy Caffe nets as torch modules: `load` one, `register_layer` a layer type of your own."""

from __future__ import annotations

from sphereface.caffe.batch_source import BatchSource
from sphereface.caffe.graph import Arity, at_least, exactly
from sphereface.caffe.layer import Layer
from sphereface.caffe.layer_files import load_layers
from sphereface.caffe.load import load
from sphereface.caffe.net import Net
from sphereface.caffe.open_net import DataOptions, OpenNet, open_net
from sphereface.caffe.registry import layer_class, list_layers, register_layer
from sphereface.caffe.user_layer import as_caffe
from sphereface.resources import list_nets

__all__ = [
    "Arity",
    "BatchSource",
    "DataOptions",
    "Layer",
    "Net",
    "OpenNet",
    "as_caffe",
    "at_least",
    "exactly",
    "layer_class",
    "list_layers",
    "list_nets",
    "load",
    "load_layers",
    "open_net",
    "register_layer",
]
