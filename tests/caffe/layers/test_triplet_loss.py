from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

EXAMPLES = {"plain": example("TripletLoss", "margin: 0.5", a=(4, 6), b=(4, 6), c=(4, 6))}


def layer(bottoms: str = "apn", margin: str = "margin: 2") -> str:
    names = " ".join(f'bottom: "{b}"' for b in bottoms)
    return (
        f'layer {{ name: "l" type: "TripletLoss" {names} top: "y" loss_weight: 3'
        f" triplet_loss_param {{ {margin} }} }}"
    )


@pytest.mark.parametrize(("margin", "value"), [("margin: 2", 2), ("", 1)])
@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 1, 1), (6,)])
def test_loss_and_gradients(margin, value, shape, layer_net, rng):
    def loss(a, p, n):
        a, p, n = (v.reshape(6, -1) for v in (a, p, n))
        near, far = ((a - p) ** 2).sum(1), ((a - n) ** 2).sum(1)
        return float(np.maximum(0, value + near - far).sum() / 12)

    given = {name: rng.normal(size=shape) for name in "apn"}
    net = layer_net(layer(margin=margin), **dict.fromkeys("apn", shape))
    result = net.run(given)
    assert float(result.tops["y"]) == pytest.approx(loss(**given), rel=1e-12)
    for name, slope in numeric_gradient(loss, given).items():
        np.testing.assert_allclose(result.bottom_diffs[name], 3 * slope, atol=1e-7)


def test_what_is_refused(layer_net):
    with pytest.raises(SphereFaceError, match="2 bottoms; expected 3: anchors"):
        layer_net(layer("ap"), a=(4, 3), p=(4,))
    with pytest.raises(SphereFaceError, match="expected one shape"):
        layer_net(layer(), a=(4, 3), p=(4, 3), n=(4, 2))
