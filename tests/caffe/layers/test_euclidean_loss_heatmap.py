from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {"maps": example("EuclideanLossHeatmap", x=(2, 3, 4, 5), z=(2, 3, 4, 5))}
SHAPE = (2, 3, 4, 5)


@pytest.mark.filterwarnings("ignore:.*fields of forks are ignored")
@pytest.mark.parametrize("weight", [1, 3])
def test_loss_and_its_gradient(weight, layer_net, rng):
    text = (
        'layer { name: "l" type: "EuclideanLossHeatmap" bottom: "a" bottom: "b" bottom: "c"'
        f' top: "y" visualise: false visualise_channel: 4 loss_weight: {weight} }}'
    )
    net = layer_net(text, a=SHAPE, b=SHAPE, c=(2, 3, 8, 8))
    given = {"a": rng.normal(size=SHAPE), "b": rng.normal(size=SHAPE)}
    result = net.run({**given, "c": np.zeros((2, 3, 8, 8))})
    off = given["a"] - given["b"]
    assert float(result.tops["y"]) == pytest.approx((off**2).mean(), rel=1e-12)
    # Neither the mean nor the loss weight is in the gradient of the original.
    np.testing.assert_allclose(result.bottom_diffs["a"], off, rtol=1e-12)


def test_maps_of_other_shapes(layer_net):
    text = 'layer { name: "l" type: "EuclideanLossHeatmap" bottom: "a" bottom: "b" top: "y" }'
    with pytest.raises(SphereFaceError, match=r"expected \(N, C, H, W\) both"):
        layer_net(text, a=SHAPE, b=(2, 3, 5, 4))
