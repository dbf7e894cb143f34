from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "width": example("Flip", x=(1, 4, 13, 11)),
}

TEXT = 'layer { name: "l" type: "Flip" bottom: "x" top: "y" }'


def test_flip(layer_net, rng):
    x, dy = rng.normal(size=(2, 2, 3, 5)), rng.normal(size=(2, 2, 3, 5))
    result = layer_net(TEXT, x=x.shape).run({"x": x}, {"y": dy})
    np.testing.assert_array_equal(result.tops["y"], x[..., ::-1])
    np.testing.assert_array_equal(result.bottom_diffs["x"], dy[..., ::-1])


def test_only_images(layer_net):
    with pytest.raises(SphereFaceError, match=r"bottom of shape \(2, 3\); expected \(N, C, H, W\)"):
        layer_net(TEXT, x=(2, 3))
