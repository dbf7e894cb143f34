from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.caffe import load
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "across": example(
        "LRN", "local_size: 3 alpha: 0.5 beta: 0.75 k: 2", images=True, x=(1, 4, 13, 11)
    ),
    "within": example(
        "LRN", "local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL", images=True, x=(1, 4, 13, 11)
    ),
}


def layer(options: str = "", top: str = "y") -> str:
    param = f"lrn_param {{ {options} }}" if options else ""
    return f'layer {{ name: "l" type: "LRN" bottom: "x" top: "{top}" {param} }}'


def neighbours(shape, size, within):
    """W[i, j] = 1 where element j (flattened C, H, W) is a neighbour of element i."""
    c, h, w = np.indices(shape[1:]).reshape(3, -1)
    half = size // 2
    if within:
        near = (c[:, None] == c) & (abs(h[:, None] - h) <= half) & (abs(w[:, None] - w) <= half)
    else:
        near = (abs(c[:, None] - c) <= half) & (h[:, None] == h) & (w[:, None] == w)
    return near.astype(float)


def lrn(x, dy, size=5, alpha=1.0, beta=0.75, k=1.0, within=False):
    """y and dx; neighbours beyond the edges are 0 and counted."""
    near = neighbours(x.shape, size, within)
    share = alpha / (size * size if within else size)
    rows, diffs = x.reshape(len(x), -1), dy.reshape(len(x), -1)
    scale = k + share * rows**2 @ near
    y = rows * scale**-beta
    dx = diffs * scale**-beta - 2 * share * beta * rows * ((diffs * y / scale) @ near)
    return y.reshape(x.shape), dx.reshape(x.shape)


CASES = {
    "": {},
    "local_size: 3 alpha: 2 beta: 0.5 k: 3": {"size": 3, "alpha": 2, "beta": 0.5, "k": 3},
    "local_size: 1": {"size": 1},
    "local_size: 9 engine: CAFFE": {"size": 9},
    "norm_region: WITHIN_CHANNEL": {"within": True},
    "norm_region: WITHIN_CHANNEL local_size: 3 alpha: 2 beta: 1.5": {
        "within": True, "size": 3, "alpha": 2, "beta": 1.5,
    },
    # Caffe's composition has no k.
    "norm_region: WITHIN_CHANNEL local_size: 3 k: 7": {"within": True, "size": 3},
    "norm_region: WITHIN_CHANNEL local_size: 1": {"within": True, "size": 1},
}  # fmt: skip


@pytest.mark.parametrize("shape", [(2, 7, 3, 4), (1, 2, 6, 5)])
@pytest.mark.parametrize("options", CASES)
def test_lrn(shape, options, layer_net, rng):
    x, dy = rng.normal(size=shape), rng.normal(size=shape)
    y, dx = lrn(x, dy, **CASES[options])
    result = layer_net(layer(options, top="x"), x=shape).run({"x": x}, {"x": dy})
    np.testing.assert_allclose(result.tops["x"], y, rtol=1e-9)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
def test_half_precision_does_not_overflow(dtype, region, rng):
    """Squares of values beyond 256 are not in float16's range."""
    text = 'input: "x" input_shape { dim: 1 dim: 6 dim: 3 dim: 3 } '
    net = load(text + layer(f"alpha: 0.0001 norm_region: {region}"))
    x = torch.tensor(rng.normal(0, 500, size=(1, 6, 3, 3)), dtype=dtype)
    y = net(x)["y"]
    assert y.dtype == dtype
    values = x.double().numpy()
    expected, _ = lrn(values, values, alpha=1e-4, within=region == "WITHIN_CHANNEL")
    np.testing.assert_allclose(y.double().numpy(), expected, rtol=0.02)


def test_channels_last_gives_the_same(rng):
    net = load('input: "x" input_shape { dim: 2 dim: 6 dim: 3 dim: 5 } ' + layer())
    x = torch.tensor(rng.normal(size=(2, 6, 3, 5)), dtype=torch.float32)
    found = net(x.to(memory_format=torch.channels_last))["y"]
    torch.testing.assert_close(found, net(x)["y"])


@pytest.mark.parametrize("size", [0, 4])
def test_even_sizes_are_refused(size, layer_net):
    with pytest.raises(SphereFaceError, match=f"local_size {size}; expected an odd number"):
        layer_net(layer(f"local_size: {size}"), x=(1, 2, 3, 3))


def test_other_axes_are_refused(layer_net):
    with pytest.raises(SphereFaceError, match="expected 4 axes"):
        layer_net(layer(), x=(2, 3, 4))
