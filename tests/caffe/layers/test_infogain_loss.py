from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError
from sphereface.weights.binaryproto import write_binaryproto

EXAMPLES = {
    "matrix": example("InfogainLoss", x=(3, 4), label=(3,), h=(4, 4), batch=False),
}


def layer(
    infogain: str = "", loss: str = "", bottoms: str = "xth", tops: str = "y", extra: str = ""
) -> str:
    names = [f'bottom: "{n}"' for n in bottoms] + [f'top: "{n}"' for n in tops]
    return (
        f'layer {{ name: "l" type: "InfogainLoss" {" ".join(names)} {extra} '
        f"infogain_loss_param {{ {infogain} }} loss_param {{ {loss} }} }}"
    )


def infogain_loss(x, t, h, axis, ignore, normalization, weight):
    """Loss, probabilities and dx, label by label; the logarithm is capped, its gradient is not."""
    rows = np.moveaxis(x, axis, -1)
    p = np.exp(rows - rows.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    flat, labels = p.reshape(-1, p.shape[-1]), t.ravel().astype(int)
    loss, diff, valid = 0.0, np.zeros_like(flat), 0
    for row, label in enumerate(labels):
        if label == ignore:
            continue
        valid += 1
        loss -= h[label] @ np.log(np.maximum(flat[row], 1e-20))
        diff[row] = flat[row] * h[label].sum() - h[label]
    divisor = {
        "FULL": len(labels),
        "VALID": max(valid, 1),
        "BATCH_SIZE": np.prod(x.shape[:axis]),
        "NONE": 1,
    }[normalization]
    dx = np.moveaxis(diff.reshape(rows.shape), -1, axis) * weight / divisor
    return loss / divisor, np.moveaxis(p, -1, axis), dx


@pytest.mark.parametrize("normalization", [None, "FULL", "VALID", "BATCH_SIZE", "NONE"])
@pytest.mark.parametrize("ignore", [None, 2])
@pytest.mark.parametrize("weight", [None, 3])
def test_matrix_as_third_bottom(weight, ignore, normalization, layer_net, rng):
    x, t = rng.normal(size=(3, 4, 2, 2)), rng.integers(0, 4, size=(3, 2, 2))
    h = rng.normal(size=(4, 4))
    x[0, :, 0, 0] = [0, 90, -90, 5]  # probabilities below 1e-20
    t[1, 0, 0] = 2
    loss = "" if ignore is None else f"ignore_label: {ignore} "
    loss += "" if normalization is None else f"normalization: {normalization}"
    extra = "" if weight is None else f"loss_weight: {weight} loss_weight: 0"
    net = layer_net(layer(loss=loss, tops="yp", extra=extra), x=x.shape, t=t.shape, h=h.shape)
    expected, p, dx = infogain_loss(x, t, h, 1, ignore, normalization or "VALID", weight or 1)
    result = net.run({"x": x, "t": t, "h": h})
    np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-12)
    np.testing.assert_allclose(result.tops["p"], p, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-9, atol=1e-14)
    assert set(result.bottom_diffs) == {"x"}


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("shape", [(4, 4), (1, 1, 4, 4)])
def test_matrix_from_a_file(shape, axis, layer_net, rng, tmp_path):
    h = rng.normal(size=(4, 4)).astype(np.float32)
    write_binaryproto(tmp_path / "h.binaryproto", h.reshape(shape))
    x, t = rng.normal(size=(4, 4, 4)), rng.integers(0, 4, size=(4, 4))
    options = f'source: "{tmp_path / "h.binaryproto"}" axis: {axis}'
    net = layer_net(layer(options, bottoms="xt"), x=x.shape, t=t.shape)
    expected, _, dx = infogain_loss(x, t, h.astype(float), axis % 3, None, "VALID", 1)
    result = net.run({"x": x, "t": t})
    np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-9, atol=1e-14)
    assert not net.net.state_dict()


def test_the_unit_matrix_is_the_softmax_loss(layer_net, rng):
    x, t = rng.normal(size=(5, 3)), rng.integers(0, 3, size=5)
    text = layer() + (
        'layer { name: "m" type: "SoftmaxWithLoss" bottom: "x" bottom: "t" top: "z" }'
    )
    result = layer_net(text, x=(5, 3), t=(5,), h=(3, 3)).run({"x": x, "t": t, "h": np.eye(3)})
    np.testing.assert_allclose(result.tops["y"], result.tops["z"], rtol=1e-12)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range(label, layer_net):
    net = layer_net(layer(), x=(2, 3), t=(2,), h=(3, 3))
    with pytest.raises(SphereFaceError, match=rf"label\[\d\] is {label}; expected 0 to 2"):
        net.run({"x": np.zeros((2, 3)), "t": np.array([0, label]), "h": np.eye(3)})


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (layer(bottoms="xt"), {}, "no infogain matrix; expected source, or a third bottom"),
        (layer('source: "/no/such/file"', bottoms="xt"), {}, "/no/such/file"),
        (layer(loss="normalize: true"), {}, "normalize in loss_param"),
        (layer(), {"t": (2, 2)}, r"4 labels \(shape \(2, 2\)\) .*expected 2 labels"),
        (layer(), {"h": (2, 2)}, r"infogain matrix of shape \(2, 2\) for 3 classes"),
        (layer("axis: 2"), {}, "axis 2 for a bottom"),
        (layer("axis: 0"), {"t": (3,), "h": (2, 2)}, "the same first dimension"),
    ],
)
def test_what_does_not_fit(text, shapes, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(text, **{"x": (2, 3), "t": (2,), "h": (3, 3), **shapes})
