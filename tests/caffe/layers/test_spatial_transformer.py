from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "affine": example("SpatialTransformer", x=(2, 3, 6, 5), z=(2, 6), opencv=False),
    "scaled": example(
        "SpatialTransformer", "output_H: 4 output_W: 7 theta_1_2: 0 theta_2_1: 0",
        x=(2, 3, 6, 5), z=(2, 4), opencv=False,
    ),
}  # fmt: skip


def layer(options: str = "") -> str:
    return (
        'layer { name: "l" type: "SpatialTransformer" bottom: "x" bottom: "t" top: "y"'
        f" st_param {{ {options} }} }}"
    )


def transformed(x, theta, size):
    """Sample by sample, (N, 6) theta."""
    y = np.zeros((*x.shape[:2], *size))
    for n, s, t in np.ndindex(len(x), *size):
        row, column = theta[n].reshape(2, 3) @ [2 * s / size[0] - 1, 2 * t / size[1] - 1, 1]
        row, column = (row + 1) / 2 * x.shape[2], (column + 1) / 2 * x.shape[3]
        for i in (int(np.floor(row)), int(np.floor(row)) + 1):
            for j in (int(np.floor(column)), int(np.floor(column)) + 1):
                if 0 <= i < x.shape[2] and 0 <= j < x.shape[3]:
                    y[n, :, s, t] += (1 - abs(row - i)) * (1 - abs(column - j)) * x[n, :, i, j]
    return y


@pytest.mark.parametrize("size", [(5, 4), (3, 7)])
def test_samples_and_gradients(size, layer_net, rng):
    x, theta = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(2, 6)) * 0.4
    theta += [1, 0, 0, 0, 1, 0]
    net = layer_net(layer(f"output_H: {size[0]} output_W: {size[1]}"), x=x.shape, t=theta.shape)
    dy = rng.normal(size=(2, 3, *size))
    result = net.run({"x": x, "t": theta}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], transformed(x, theta, size), atol=1e-10)

    def total(x, t):
        return float((transformed(x, t, size) * dy).sum())

    slopes = numeric_gradient(total, {"x": x, "t": theta})
    np.testing.assert_allclose(result.bottom_diffs["x"], slopes["x"], atol=1e-6)
    np.testing.assert_allclose(result.bottom_diffs["t"], slopes["t"], atol=1e-5)


def test_the_identity_and_what_the_file_fixes(layer_net, rng):
    x = rng.normal(size=(2, 3, 5, 4))
    text = layer("theta_1_1: 1 theta_1_2: 0 theta_2_1: 0 theta_2_2: 1 to_compute_dU: false")
    net = layer_net(text, x=x.shape, t=(2, 2))
    shift = np.array([[0, 0], [2 / 5, -2 / 4]])  # one position down, one to the left
    result = net.run({"x": x, "t": shift}, {"y": np.ones_like(x)})
    np.testing.assert_allclose(result.tops["y"][0], x[0], atol=1e-12)
    np.testing.assert_allclose(result.tops["y"][1, :, :4, 1:], x[1, :, 1:, :3], atol=1e-12)
    assert not np.any(result.tops["y"][1, :, 4])
    assert "t" in result.bottom_diffs
    assert not np.any(result.bottom_diffs.get("x", 0))


@pytest.mark.parametrize(
    ("options", "shapes", "message"),
    [
        ('transform_type: "tps"', {"x": (2, 3, 5, 4), "t": (2, 6)}, 'transform_type "tps"'),
        ("", {"x": (2, 3, 5, 4), "t": (2, 4)}, r"expected \(2, 6\), with 0 of 6"),
        ("theta_1_1: 1", {"x": (2, 3, 5, 4), "t": (2, 6)}, r"expected \(2, 5\), with 1 of 6"),
        ("", {"x": (2, 3), "t": (2, 6)}, r"expected \(N, C, H, W\)"),
    ],
)
def test_what_is_refused(options, shapes, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), **shapes)
