"""The check of a layer of one's own, on layers that pass and on layers that must not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sphereface.caffe import Layer, list_layers, register_layer, registry
from sphereface.errors import SphereFaceError
from sphereface.testing import check_layer

X = np.random.default_rng(0).normal(size=(2, 3))
INNER = """layer { name: "l" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 4 } }"""
WEIGHT, BIAS = np.arange(12.0).reshape(4, 3) / 10, np.array([1.0, -1, 0, 2])
OWN = 'layer { name: "l" type: "CheckedOwn" bottom: "x" top: "y" }'


def wrong_gradient(x):
    return 2 * x.detach() + x


@pytest.fixture
def own(monkeypatch):
    list_layers()
    monkeypatch.setattr(registry, "LAYERS", dict(registry.LAYERS))

    def register(function, shape=None):
        @register_layer("CheckedOwn")
        class CheckedOwn(Layer):
            def reshape(self, bottom_shapes):
                return [shape or bottom_shapes[0]]

        CheckedOwn.function = staticmethod(function)

    return register


def test_a_layer_with_blobs_in_all_its_forms():
    blobs = {"weight": WEIGHT, "bias": BIAS}
    tops = {"y": X @ WEIGHT.T + BIAS}
    net = check_layer(INNER, {"x": X}, tops, blobs=blobs, onnx=True, port=True, rtol=1e-12)
    assert next(net.parameters()).dtype == torch.float64


def test_labels_have_no_gradient():
    p = np.exp(X) / np.exp(X).sum(1, keepdims=True)
    check_layer(
        'layer { name: "l" type: "SoftmaxWithLoss" bottom: "x" bottom: "t" top: "loss" }',
        {"x": X, "t": [0, 2]},
        {"loss": -np.log(p[[0, 1], [0, 2]]).mean()},
        phase="TRAIN",
        gradients=["x"],
    )


def test_wrong_values_and_gradients_fail(own):
    with pytest.raises(AssertionError, match='top "y"'):
        check_layer(INNER, {"x": X}, {"y": X @ WEIGHT.T}, blobs={"weight": WEIGHT, "bias": BIAS})
    own(wrong_gradient)
    check_layer(OWN, {"x": X}, {"y": 3 * X}, gradients=False)
    with pytest.raises(AssertionError, match="gradients of x: Jacobian mismatch"):
        check_layer(OWN, {"x": X}, {"y": 3 * X})
    with pytest.raises(SphereFaceError, match="layer type CheckedOwn has no ONNX form"):
        check_layer(OWN, {"x": X}, {"y": 3 * X}, gradients=False, onnx=True)


def test_a_shape_that_was_not_promised_fails(own):
    own(lambda x: x.sum(1), shape=(2, 1))
    with pytest.raises(AssertionError, match=r"y: \(2,\), reshape: \(2, 1\)"):
        check_layer(OWN, {"x": X}, {"y": X.sum(1)})


def test_names_that_are_not_there():
    with pytest.raises(SphereFaceError, match='no blob "wait"; .*did you mean "weight"'):
        check_layer(INNER, {"x": X}, {"y": X}, blobs={"wait": WEIGHT})
    with pytest.raises(SphereFaceError, match='gradients: no bottom "z"; expected x'):
        check_layer(INNER, {"x": X}, {}, gradients=["z"])
