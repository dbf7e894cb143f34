from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.caffe import load
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "blob": example("Parameter", "shape { dim: 2 dim: 3 }"),
}


def layer(extra: str = "") -> str:
    return (
        f'layer {{ name: "l" type: "Parameter" top: "y" {extra} '
        "parameter_param { shape { dim: 2 dim: 3 } } }"
    )


def test_the_blob_is_the_top(layer_net, rng):
    net = layer_net(layer())
    np.testing.assert_array_equal(net.run({}).tops["y"], np.zeros((2, 3)))
    weight, dy = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    result = net.set(weight=weight).run({}, {"y": dy})
    np.testing.assert_array_equal(result.tops["y"], weight)
    np.testing.assert_array_equal(result.param_diffs["weight"], dy)


def test_it_learns_through_the_layers_after_it(layer_net, rng):
    text = layer("param { lr_mult: 3 }") + (
        'layer { name: "d" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }'
    )
    net = layer_net(text, t=(2, 3)).net
    weight, target = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    blob = net.layer("l").weight
    blob.data.copy_(torch.tensor(weight))
    net.loss(net(t=torch.tensor(target))).backward()
    np.testing.assert_allclose(blob.grad, (weight - target) / 2, rtol=1e-12)
    assert list(net.state_dict()) == ["l.weight"]
    assert net.layer("l").lr_mult == [3]


def test_more_param_entries_than_blobs():
    with pytest.raises(SphereFaceError, match="2 param entries; expected at most 1"):
        load(layer("param { } param { }"))


def test_a_filler_of_the_blob(layer_net):
    text = layer().replace("} } }", '} blob_filler { type: "gaussian_unitball" } } }')
    blob = layer_net(text).layer.weight.detach().numpy()
    np.testing.assert_allclose(np.linalg.norm(blob, axis=1), [1, 1], rtol=1e-6)
