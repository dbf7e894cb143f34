from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "slopes": example("PReLU", images=True, x=(1, 4, 13, 11)),
    "shared": example("PReLU", "channel_shared: true", x=(1, 4, 13, 11)),
    "rows": example("PReLU", x=(1, 7)),
}


def layer(options: str = "", top: str = "y") -> str:
    param = f"prelu_param {{ {options} }}" if options else ""
    return f'layer {{ name: "l" type: "PReLU" bottom: "x" top: "{top}" {param} }}'


@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3), (2, 4, 3, 5)])
@pytest.mark.parametrize("shared", [False, True])
def test_prelu(shape, shared, layer_net, rng):
    x, dy = rng.normal(size=shape), rng.normal(size=shape)
    x[0, 0] = 0  # the kink belongs to the negative side
    slope = rng.normal(size=() if shared else 4)
    net = layer_net(layer("channel_shared: true") if shared else layer(), x=shape)
    result = net.set(weight=slope).run({"x": x}, {"y": dy})
    factor = slope.reshape((1, -1) + (1,) * (len(shape) - 2)) if not shared else slope
    np.testing.assert_allclose(result.tops["y"], np.where(x > 0, x, factor * x), rtol=1e-12)
    dx = dy * np.where(x > 0, 1, factor)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-12)
    terms = np.where(x > 0, 0, x) * dy
    expected = terms.sum() if shared else terms.sum(tuple(i for i in range(len(shape)) if i != 1))
    np.testing.assert_allclose(result.param_diffs["weight"], expected, rtol=1e-10)


def test_slopes_start_at_a_quarter_and_learn(layer_net):
    blob = layer_net(layer(), x=(2, 3)).layer
    assert blob.weight.tolist() == [0.25] * 3
    assert (blob.lr_mult, blob.decay_mult) == ([1.0], [1.0])
    filled = layer_net(layer('filler { type: "constant" value: 0.5 }'), x=(2, 3)).layer
    assert filled.weight.tolist() == [0.5] * 3


def test_bottoms_it_cannot_take(layer_net, rng):
    with pytest.raises(SphereFaceError, match="at least 2 axes"):
        layer_net(layer(), x=(4,))
    with pytest.raises(SphereFaceError, match="expected 4 channels on axis 1"):
        layer_net(layer(), x=(2, 4)).run({"x": rng.normal(size=(2, 5))})
