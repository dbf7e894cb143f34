from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "half": example("Dropout", x=(1, 4, 13, 11)),
    "scaled_in_test": example("Dropout", "scale_train: false", x=(1, 4, 13, 11)),
}


def layer(options: str = "", top: str = "y") -> str:
    param = f"dropout_param {{ {options} }}" if options else ""
    return f'layer {{ name: "l" type: "Dropout" bottom: "x" top: "{top}" {param} }}'


@pytest.mark.parametrize(("options", "ratio"), [("", 0.5), ("dropout_ratio: 0.25", 0.25)])
def test_train_drops_and_scales(options, ratio, layer_net, rng):
    torch.manual_seed(1)
    x, dy = rng.uniform(1, 2, size=(100, 200)), rng.normal(size=(100, 200))
    result = layer_net(layer(options), x=x.shape).run({"x": x}, {"y": dy})
    kept = result.tops["y"] != 0
    assert abs(kept.mean() - (1 - ratio)) < 0.015  # four standard deviations
    np.testing.assert_allclose(result.tops["y"], x * kept / (1 - ratio), rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dy * kept / (1 - ratio), rtol=1e-12)


def test_every_pass_drops_others(layer_net, rng):
    x = rng.uniform(1, 2, size=(10, 20))
    net = layer_net(layer(top="x"), x=x.shape)
    first, second = (net.run({"x": x}).tops["x"] for _ in range(2))
    assert ((first != 0) != (second != 0)).any()


def test_test_phase_keeps_everything(layer_net, rng):
    x, dy = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    result = layer_net(layer("dropout_ratio: 0.9"), "TEST", x=x.shape).run({"x": x}, {"y": dy})
    np.testing.assert_array_equal(result.tops["y"], x)
    np.testing.assert_array_equal(result.bottom_diffs["x"], dy)


def test_a_ratio_of_0_keeps_everything(layer_net, rng):
    x = rng.normal(size=(3, 4))
    result = layer_net(layer("dropout_ratio: 0"), x=x.shape).run({"x": x})
    np.testing.assert_array_equal(result.tops["y"], x)


@pytest.mark.parametrize("ratio", ["1", "-0.5", "nan"])
def test_impossible_ratios_are_refused(ratio, layer_net):
    with pytest.raises(SphereFaceError, match="dropout_ratio .*expected at least 0 and less"):
        layer_net(layer(f"dropout_ratio: {ratio}"), x=(3, 4))


def test_scaled_in_test_instead(layer_net, rng):
    x, dy = rng.uniform(1, 2, size=(100, 200)), rng.normal(size=(100, 200))
    net = layer_net(layer("dropout_ratio: 0.25 scale_train: false"), x=x.shape)
    result = net.run({"x": x}, {"y": dy})
    kept = result.tops["y"] != 0
    assert abs(kept.mean() - 0.75) < 0.015
    np.testing.assert_allclose(result.tops["y"], x * kept, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dy * kept, rtol=1e-12)
    net.net.eval()
    result = net.run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], 0.75 * x, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], 0.75 * dy, rtol=1e-12)


def test_samples_in_test(layer_net, rng):
    x = rng.uniform(1, 2, size=(100, 200))
    y = layer_net(layer("sample_weights_test: true"), "TEST", x=x.shape).run({"x": x}).tops["y"]
    assert abs((y != 0).mean() - 0.5) < 0.015
    np.testing.assert_allclose(y, 2 * x * (y != 0), rtol=1e-12)
