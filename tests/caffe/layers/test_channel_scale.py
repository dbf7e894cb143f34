from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "images": example("ChannelScale", x=(1, 4, 5, 6), z=(1, 30)),
    "rows": example("ChannelScale", x=(3, 4), z=(3, 1)),
}

TEXT = 'layer { name: "l" type: "ChannelScale" bottom: "x" bottom: "s" top: "y" }'


@pytest.mark.parametrize(
    ("shape", "scale"), [((2, 3, 4, 5), (2, 1, 4, 5)), ((2, 3), (2,)), ((2, 3), (2, 1))]
)
def test_channel_scale(shape, scale, layer_net, rng):
    x, s, dy = rng.normal(size=shape), rng.normal(size=scale), rng.normal(size=shape)
    result = layer_net(TEXT, x=shape, s=scale).run({"x": x, "s": s}, {"y": dy})
    factor = s.reshape(shape[0], 1, *shape[2:])
    np.testing.assert_allclose(result.tops["y"], x * factor, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dy * factor, rtol=1e-12)
    ds = (dy * x).sum(1).reshape(scale)
    np.testing.assert_allclose(result.bottom_diffs["s"], ds, rtol=1e-12)


def test_factors_must_fit(layer_net):
    for scale in ((3,), (2, 3)):
        with pytest.raises(SphereFaceError, match="expected one for every sample and position"):
            layer_net(TEXT, x=(2, 3), s=scale)
