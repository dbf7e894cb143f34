from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "last": example("Permute", "order: 0 order: 2 order: 3 order: 1", images=True, x=(1, 4, 5, 3)),
    "batch": example("Permute", "order: 1", batch=False, x=(2, 3)),
}


def layer(order: list[int]) -> str:
    options = " ".join(f"order: {axis}" for axis in order)
    return (
        f'layer {{ name: "l" type: "Permute" bottom: "x" top: "y" permute_param {{ {options} }} }}'
    )


@pytest.mark.parametrize(
    ("order", "full"),
    [([0, 2, 3, 1], (0, 2, 3, 1)), ([3], (3, 0, 1, 2)), ([], (0, 1, 2, 3)), ([2, 0], (2, 0, 1, 3))],
)
def test_permute(order, full, layer_net, rng):
    x = rng.normal(size=(2, 3, 4, 5))
    y = x.transpose(full)
    dy = rng.normal(size=y.shape)
    result = layer_net(layer(order), x=x.shape).run({"x": x}, {"y": dy})
    np.testing.assert_array_equal(result.tops["y"], y)
    np.testing.assert_array_equal(result.bottom_diffs["x"], dy.transpose(np.argsort(full)))


@pytest.mark.parametrize("order", [[0, 0], [4]])
def test_an_order_that_is_none(order, layer_net):
    with pytest.raises(SphereFaceError, match="expected axes from 0 to 3, each once"):
        layer_net(layer(order), x=(2, 3, 4, 5))
