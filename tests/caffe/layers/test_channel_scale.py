from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "images": example("ChannelScale", x=(1, 4, 5, 6), z=(1, 30)),
    "rows": example("ChannelScale", x=(3, 4), z=(3, 1)),
    "off": example("ChannelScale", "do_forward: false", x=(3, 4), z=(3, 1)),
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


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("feature", [True, False])
@pytest.mark.parametrize("learned", [True, False])
def test_switches(forward, feature, learned, layer_net, rng):
    x, s, dy = rng.normal(size=(3, 4)), rng.normal(size=(3, 1)), rng.normal(size=(3, 4))
    given = {"do_forward": forward, "do_backward_feature": feature, "do_backward_scale": learned}
    options = " ".join(f"{name}: {value}" for name, value in given.items())
    text = TEXT.replace("}", f"channel_scale_param {{ {options} }} }}")
    result = layer_net(text, x=x.shape, s=s.shape).run({"x": x, "s": s}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], x * s if forward else x, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dy * s if feature else dy, rtol=1e-12)
    ds = (dy * x).sum(1, keepdims=True) if learned else np.zeros_like(s)
    np.testing.assert_allclose(result.bottom_diffs.get("s", np.zeros_like(s)), ds, rtol=1e-12)
