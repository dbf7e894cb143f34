from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "rows": example("Embed", "num_output: 3 input_dim: 5", index=(1, 6)),
}


def layer(options: str) -> str:
    return f'layer {{ name: "l" type: "Embed" bottom: "x" top: "y" embed_param {{ {options} }} }}'


@pytest.mark.parametrize("shape", [(6,), (2, 5), ()])
@pytest.mark.parametrize("bias_term", [True, False])
def test_embed(shape, bias_term, layer_net, rng):
    options = "input_dim: 4 num_output: 3" + ("" if bias_term else " bias_term: false")
    net = layer_net(layer(options), x=shape)
    x, dy = rng.integers(0, 4, size=shape), rng.normal(size=(*shape, 3))
    blobs = {"weight": rng.normal(size=(4, 3))}
    if bias_term:
        blobs["bias"] = rng.normal(size=3)
    assert net.layer.blob_names == list(blobs)
    result = net.set(**blobs).run({"x": x.astype(float)}, {"y": dy})
    expected = blobs["weight"][x] + blobs.get("bias", 0)
    np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-12)
    dweight = np.zeros((4, 3))
    np.add.at(dweight, x.ravel(), dy.reshape(-1, 3))
    np.testing.assert_allclose(result.param_diffs["weight"], dweight, rtol=1e-10, atol=1e-14)
    if bias_term:
        np.testing.assert_allclose(result.param_diffs["bias"], dy.reshape(-1, 3).sum(0), rtol=1e-10)
    assert result.bottom_diffs == {}


def test_fillers_and_integers(layer_net):
    options = "input_dim: 4 num_output: 3 weight_filler { value: 2 } bias_filler { value: 1 }"
    net = layer_net(layer(options), x=(2,))
    assert net.net(torch.tensor([3, 0]))["y"].tolist() == [[3] * 3] * 2
    # Fractions are cut off, as a C cast does.
    assert net.run({"x": np.array([3.9, -0.9])}).tops["y"].tolist() == [[3] * 3] * 2
    assert not any(
        b.any() for b in layer_net(layer("input_dim: 4 num_output: 3"), x=(2,)).layer.blobs
    )


@pytest.mark.parametrize("index", [-1, 4])
def test_an_index_out_of_range(index, layer_net):
    net = layer_net(layer("input_dim: 4 num_output: 3"), x=(2,))
    with pytest.raises(
        SphereFaceError, match=rf'layer "l" .*index\[\d\] is {index}; expected 0 to 3'
    ):
        net.run({"x": np.array([index, 1.0])})


def test_no_index_at_all(layer_net):
    net = layer_net(layer("input_dim: 4 num_output: 3"), x=(2,))
    assert net.run({"x": np.zeros(0)}).tops["y"].shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [("num_output: 3", "input_dim 0"), ("input_dim: 3", "num_output 0; expected at least 1")],
)
def test_missing_sizes_are_refused(options, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=(2,))
