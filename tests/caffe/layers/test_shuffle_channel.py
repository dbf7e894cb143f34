from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "three": example("ShuffleChannel", "group: 3", images=True, x=(2, 6, 5, 4)),
    "vectors": example("ShuffleChannel", "group: 2", x=(2, 6)),
}


def layer(group: int) -> str:
    return (
        'layer { name: "l" type: "ShuffleChannel" bottom: "x" top: "y"'
        f" shuffle_channel_param {{ group: {group} }} }}"
    )


@pytest.mark.parametrize("group", [1, 2, 3, 6])
def test_channels_of_the_groups_take_turns(group, layer_net, rng):
    x, dy = rng.normal(size=(2, 6, 3, 2)), rng.normal(size=(2, 6, 3, 2))
    order = [g * (6 // group) + i for i in range(6 // group) for g in range(group)]
    result = layer_net(layer(group), x=x.shape).run({"x": x}, {"y": dy})
    np.testing.assert_array_equal(result.tops["y"], x[:, order])
    np.testing.assert_array_equal(result.bottom_diffs["x"], dy[:, np.argsort(order)])


@pytest.mark.parametrize("group", [0, 4])
def test_groups_that_are_not_equal(group, layer_net):
    with pytest.raises(SphereFaceError, match=f"group {group} of 6 channels; expected a divisor"):
        layer_net(layer(group), x=(2, 6, 3, 2))
