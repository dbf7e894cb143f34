"""A layer is found by its name alone, in each exporter's folder too."""

from __future__ import annotations

from pathlib import Path

import pytest

import sphereface.caffe.layers
import sphereface.convert.onnx
from sphereface.caffe import list_layers
from sphereface.caffe.registry import layer_class
from sphereface.convert.onnx import ONNX_LAYERS
from sphereface.convert.port import SOURCE_LAYERS
from sphereface.convert.port.definitions import Definitions

LAYERS = "sphereface.caffe.layers."
FUNCTIONS = {
    name: layer_class(name).function
    for name in list_layers()
    if layer_class(name).__module__.startswith(LAYERS) and layer_class(name).function
}


@pytest.mark.parametrize(("registry", "package"), [(ONNX_LAYERS, "onnx"), (SOURCE_LAYERS, "port")])
def test_each_stands_in_the_file_of_its_layer(registry, package):
    assert len(registry) > 5
    for name, function in registry.items():
        layer = layer_class(name).__module__.removeprefix(LAYERS)
        assert function.__module__ == f"sphereface.convert.{package}.{layer}", name


def test_an_onnx_file_is_a_layers():
    layers = {path.stem for path in Path(sphereface.caffe.layers.__file__).parent.glob("*.py")}
    forms = {path.stem for path in Path(sphereface.convert.onnx.__file__).parent.glob("*.py")}
    assert forms - layers == {"graph", "model"}


def test_functions_of_all_layers_fit_in_one_file():
    """No two have one name, and all that they use can be printed."""
    definitions = Definitions()
    for function in FUNCTIONS.values():
        definitions.add(function.__name__, function, "sphereface")
    assert len(definitions.texts) > len(set(FUNCTIONS.values())) > 40
    assert "self" not in definitions.names
    assert not any("sphereface" in line for line in definitions.imports.values())
