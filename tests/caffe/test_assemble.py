from __future__ import annotations

import numpy as np
import pytest
import torch

from sphereface.caffe import Layer, list_layers, load, registry
from sphereface.caffe.assemble import module_names
from sphereface.errors import SphereFaceError

INPUT = 'input: "x" input_shape { dim: 2 dim: 6 }\n'


def inner(name: str, bottom: str, top: str, extra: str = "", options: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{top}" {extra} '
        'inner_product_param { num_output: 6 weight_filler { type: "xavier" } '
        f"{options or 'bias_term: false'} }} }}\n"
    )


def test_submodules_are_named_as_the_layers():
    names = ["conv2_1/dw", "conv4-1", "a.b", "type", "loss", "", "fc", "fc", "type_"]
    keys = module_names(torch.nn.Linear(1, 1), names)
    assert keys == ("conv2_1/dw", "conv4-1", "a%2Eb", "type__", "loss", "_", "fc", "fc_", "type_")


def test_state_dict_keys_of_odd_names():
    net = load(INPUT + inner("a.b/c", "x", "y") + inner("forward", "y", "z"))
    assert list(net.state_dict()) == ["a%2Eb/c.weight", "forward_.weight"]
    assert net.keys == ("input", "a%2Eb/c", "forward_")
    assert net.layer("forward") is net.get_submodule("forward_")


def test_shared_blobs_are_one_tensor_with_summed_diffs(rng):
    shared = 'param { name: "w" lr_mult: 2 }'
    net = load(INPUT + inner("a", "x", "y", shared) + inner("b", "y", "z", 'param { name: "w" }'))
    a, b = net.layer("a"), net.layer("b")
    assert a.weight is b.weight
    assert a.lr_mult == b.lr_mult == [2.0]
    assert len(list(net.parameters())) == 1
    (blob,) = net.learnable_blobs()
    assert (blob.key, blob.layer, blob.lr_mult) == ("a.weight", a, 2.0)
    x = rng.normal(size=(2, 6)).astype(np.float32)
    net(torch.from_numpy(x))["z"].sum().backward()
    w = a.weight.detach().double().numpy()
    dz = np.ones((2, 6))
    expected = dz.T @ (x @ w.T) + (dz @ w).T @ x
    np.testing.assert_allclose(a.weight.grad.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_permissive_sharing_reshapes():
    net = load(
        'layer { name: "in" type: "Input" top: "x" top: "image" '
        "input_param { shape { dim: 2 dim: 9 } shape { dim: 1 dim: 1 dim: 3 dim: 3 } } }"
        'layer { name: "a" type: "InnerProduct" bottom: "x" top: "y" param { name: "w" } '
        'inner_product_param { num_output: 4 bias_term: false weight_filler { type: "xavier" } } }'
        'layer { name: "c" type: "Convolution" bottom: "image" top: "v" '
        'param { name: "w" share_mode: PERMISSIVE } '
        "convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }"
    )
    a, c = net.layer("a"), net.layer("c")
    assert a.weight.shape == (4, 9)
    assert c.weight.shape == (4, 1, 3, 3)
    assert len(list(net.parameters())) == 1
    x, image = torch.randn(2, 9), torch.randn(1, 1, 3, 3)
    outputs = net(x, image)
    (outputs["y"].sum() + outputs["v"].sum()).backward()
    torch.testing.assert_close(a.weight.grad, (x.sum(0) + image.flatten()).expand(4, 9))
    compiled = torch.compile(net, fullgraph=True, backend="eager")(x, image)
    assert torch.equal(compiled["v"], outputs["v"])
    # The view follows the owner when the net moves.
    net.double()
    assert net(x.double(), image.double())["v"].dtype == torch.float64


class Counter(Layer):
    """Counts its forwards in a buffer."""

    def setup(self, bottom_shapes):
        self.add_blob("count", (1,), buffer=True)

    def forward(self, x):
        self.count += 1
        return x + self.count


def test_shared_buffers_stay_one_when_the_net_moves(monkeypatch):
    list_layers()
    counter = registry.LayerType(Counter, "")
    monkeypatch.setattr(registry, "LAYERS", {**registry.LAYERS, "Counter": counter})
    counter = 'layer {{ name: "{0}" type: "Counter" bottom: "x" top: "{0}" param {{ name: "n" }} }}'
    net = load(INPUT + counter.format("a") + counter.format("b"))
    x = torch.zeros(2, 6)
    assert [top.max().item() for top in net(x).values()] == [1, 2]
    assert [top.max().item() for top in net.double()(x).values()] == [3, 4]
    assert list(net.state_dict()) == ["a.count"]
    assert [blob.key for blob in net.learnable_blobs()] == ["a.count"]


def test_shared_shapes_that_differ_name_both_layers():
    with pytest.raises(SphereFaceError, match=r'layer "b" .*\(3, 6\).*\(6, 6\) in .*layer "a"'):
        load(
            INPUT
            + inner("a", "x", "y", 'param { name: "w" }')
            + inner("b", "y", "z", 'param { name: "w" }').replace("num_output: 6", "num_output: 3")
        )


def test_a_frozen_owner_freezes_all():
    net = load(
        INPUT
        + inner("a", "x", "y", 'param { name: "w" }')
        + inner("b", "y", "z", 'param { name: "w" lr_mult: 0 }')
    )
    assert not net.layer("a").weight.requires_grad
    assert net.layer("a").lr_mult == [0.0]


def test_propagate_down_false_cuts_the_gradient():
    text = INPUT + inner("a", "x", "y") + inner("b", "y", "z", "propagate_down: false")
    net = load(text)
    net(torch.ones(2, 6))["z"].sum().backward()
    assert net.layer("a").weight.grad is None
    assert net.layer("b").weight.grad is not None
    forced = load("force_backward: true " + text)
    forced(torch.ones(2, 6))["z"].sum().backward()
    assert forced.layer("a").weight.grad is not None
