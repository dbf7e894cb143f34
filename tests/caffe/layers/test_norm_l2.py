from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "rows": example("NormL2", x=(3, 4)),
    "images": example("NormL2", x=(1, 4, 13, 11)),
}

TEXT = 'layer { name: "l" type: "NormL2" bottom: "x" top: "y" }'


def norm_l2(x):
    axes = tuple(range(1, x.ndim))
    return x / np.sqrt((x**2).sum(axes, keepdims=True) + 1e-7)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2, 2)])
def test_norm_l2(shape, layer_net, rng):
    x, dy = rng.normal(size=shape), rng.normal(size=shape)
    result = layer_net(TEXT, x=shape).run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], norm_l2(x), rtol=1e-12)
    dx = numeric_gradient(lambda x: float((norm_l2(x) * dy).sum()), {"x": x})["x"]
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, atol=1e-8)


def test_a_zero_row_is_0(layer_net):
    result = layer_net(TEXT, x=(1, 3)).run({"x": np.zeros((1, 3))}, {"y": np.ones((1, 3))})
    assert not result.tops["y"].any()
    np.testing.assert_allclose(result.bottom_diffs["x"], np.full((1, 3), 1e7**0.5), rtol=1e-9)


def test_it_needs_features(layer_net):
    with pytest.raises(SphereFaceError, match=r"expected \(N, features"):
        layer_net(TEXT, x=(3,))
