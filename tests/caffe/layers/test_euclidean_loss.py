from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "rows": example("EuclideanLoss", x=(3, 4), z=(3, 4)),
}


def layer(extra: str = "") -> str:
    return f'layer {{ name: "l" type: "EuclideanLoss" bottom: "a" bottom: "b" top: "y" {extra} }}'


@pytest.mark.parametrize("weight", [None, 0.25])
@pytest.mark.parametrize("shape_b", [(4, 2, 3), (4, 6), (4, 1, 6, 1)])
def test_both_bottoms_get_a_gradient(shape_b, weight, layer_net, rng):
    a, b = rng.normal(size=(4, 2, 3)), rng.normal(size=shape_b)
    net = layer_net(layer("" if weight is None else f"loss_weight: {weight}"), a=a.shape, b=b.shape)
    weight = 1 if weight is None else weight
    assert net.net.loss_weights == {"y": weight}
    result = net.run({"a": a, "b": b})
    difference = a.ravel() - b.ravel()
    np.testing.assert_allclose(result.tops["y"], difference @ difference / 4 / 2, rtol=1e-12)
    found = {name: diff.ravel() for name, diff in result.bottom_diffs.items()}
    np.testing.assert_allclose(found["a"], weight * difference / 4, rtol=1e-12)
    np.testing.assert_allclose(found["b"], -weight * difference / 4, rtol=1e-12)


@pytest.mark.parametrize(
    ("b", "message"),
    [((4, 5), "expected as many values a sample"), ((2, 6), "expected the same first dimension")],
)
def test_what_does_not_fit(b, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(), a=(4, 6), b=b)
