from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

# A mask as Pooling makes it.
MASKED = (
    'layer { name: "grow" type: "Deconvolution" bottom: "x" top: "grown" convolution_param {'
    ' num_output: 4 kernel_size: 2 stride: 2 weight_filler { type: "xavier" } } }'
    'layer { name: "pool" type: "Pooling" bottom: "grown" top: "small" top: "made" pooling_param {'
    " kernel_size: 2 stride: 2 } }"
)

EXAMPLES = {
    "mask": example("Upsample", "scale: 2", before=MASKED, x=(2, 4, 3, 5)),
    "repeated": example("Upsample", "scale: 2", images=True, x=(1, 4, 3, 5)),
    "unpooled": example(
        "Unpooling",
        "unpool: MAX kernel_size: 2 stride: 2 unpool_h: 6 unpool_w: 10",
        before=MASKED,
        x=(2, 4, 3, 5),
    ),
    "max_unpooled": example(
        "MaxUnpooling", "kernel_size: 2 stride: 2", before=MASKED, x=(2, 4, 3, 5)
    ),
}


def layer(kind: str, options: str, masked: bool = True) -> str:
    field = "upsample_param" if kind == "Upsample" else "unpooling_param"
    mask = 'bottom: "mask"' if masked else ""
    return (
        f'layer {{ name: "l" type: "{kind}" bottom: "x" {mask} top: "y" {field} {{ {options} }} }}'
    )


@pytest.mark.parametrize(
    ("kind", "options", "sizes"),
    [
        ("Upsample", "", (6, 4)),
        ("Upsample", "scale: 3", (9, 6)),
        ("Upsample", "scale_h: 1 scale_w: 4", (3, 8)),
        ("Upsample", "scale: 2 pad_out_h: true", (5, 4)),
        ("Upsample", "upsample_h: 7 upsample_w: 5", (7, 5)),
        ("Unpooling", "kernel_size: 2 stride: 2", (6, 4)),
        ("Unpooling", "kernel_size: 3 stride: 2 pad: 1", (5, 3)),
        ("Unpooling", "kernel_size: 3 stride: 2", (7, 5)),
        ("MaxUnpooling", "unpool_size: 8", (8, 8)),
        ("MaxUnpooling", "kernel_h: 2 kernel_w: 4 stride_h: 1 stride_w: 2", (4, 6)),
    ],
)
def test_values_go_to_their_places(kind, options, sizes, layer_net, rng):
    x = rng.normal(size=(2, 3, 3, 2))
    area = sizes[0] * sizes[1]
    mask = np.stack([rng.permutation(area)[:6] for _ in range(6)]).reshape(x.shape).astype(float)
    expected = np.zeros((2, 3, area))
    for n, c, h, w in np.ndindex(x.shape):
        expected[n, c, int(mask[n, c, h, w])] = x[n, c, h, w]
    dy = rng.normal(size=(2, 3, *sizes))
    net = layer_net(layer(kind, options), x=x.shape, mask=x.shape)
    result = net.run({"x": x, "mask": mask}, {"y": dy})
    np.testing.assert_array_equal(result.tops["y"], expected.reshape(2, 3, *sizes))
    places = mask.reshape(2, 3, -1).astype(int)
    gathered = np.take_along_axis(dy.reshape(2, 3, -1), places, 2)
    np.testing.assert_array_equal(result.bottom_diffs["x"], gathered.reshape(x.shape))
    assert "mask" not in result.bottom_diffs


def test_it_undoes_a_pooling(layer_net, rng):
    text = (
        'layer { name: "p" type: "Pooling" bottom: "x" top: "p" top: "m"'
        " pooling_param { kernel_size: 2 stride: 2 } }"
        'layer { name: "l" type: "Upsample" bottom: "p" bottom: "m" top: "y" }'
    )
    x = rng.normal(size=(2, 3, 6, 4))
    y = layer_net(text, x=x.shape).run({"x": x}).tops["y"]
    blocks = x.reshape(2, 3, 3, 2, 2, 2)
    largest = blocks == blocks.max((3, 5), keepdims=True)
    np.testing.assert_array_equal(y, np.where(largest, blocks, 0).reshape(x.shape))


@pytest.mark.parametrize(("options", "scale"), [("scale: 3", 3), ("", 1)])
def test_without_a_mask_values_repeat(options, scale, layer_net, rng):
    x = rng.normal(size=(2, 3, 3, 2))
    y = x.repeat(scale, 2).repeat(scale, 3)
    dy = rng.normal(size=y.shape)
    net = layer_net(layer("Upsample", options, masked=False), x=x.shape)
    result = net.run({"x": x}, {"y": dy})
    np.testing.assert_array_equal(result.tops["y"], y)
    blocks = dy.reshape(2, 3, 3, scale, 2, scale).sum((3, 5))
    np.testing.assert_allclose(result.bottom_diffs["x"], blocks, rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("Upsample", "scale: 0", "scale .*at least 1"),
        ("Upsample", "upsample_h: 4", "a top of .*at least 1"),
        ("Unpooling", "", "kernel .*at least 1"),
        ("Unpooling", "unpool: TILE kernel_size: 2", "unpool: TILE; expected unpool: MAX"),
    ],
)
def test_what_is_refused(kind, options, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(kind, options), x=(1, 1, 3, 2), mask=(1, 1, 3, 2))


def test_masks_that_do_not_fit(layer_net):
    with pytest.raises(SphereFaceError, match="expected equal shapes"):
        layer_net(layer("Upsample", ""), x=(1, 1, 3, 2), mask=(1, 1, 3, 3))
    with pytest.raises(SphereFaceError, match="without a mask"):
        layer_net(layer("Upsample", "pad_out_h: true", masked=False), x=(1, 1, 3, 2))
    net = layer_net(layer("Upsample", ""), x=(1, 1, 3, 2), mask=(1, 1, 3, 2)).net
    with pytest.raises(SphereFaceError, match="indices from 0 to 24 in the mask; expected 0 to 23"):
        net(torch.zeros(1, 1, 3, 2).double(), torch.arange(6.0).reshape(1, 1, 3, 2) * 4.8)


def test_the_kernel_may_stand_in_pooling_param(layer_net, rng):
    text = (
        'layer { name: "l" type: "Unpooling" bottom: "x" bottom: "mask" top: "y"'
        " pooling_param { pool: MAX kernel_size: 3 stride: 2 } }"
    )
    x, mask = rng.normal(size=(1, 1, 2, 2)), np.array([[[[0.0, 3], [22, 24]]]])
    y = layer_net(text, x=x.shape, mask=mask.shape).run({"x": x, "mask": mask}).tops["y"]
    expected = np.zeros(25)
    expected[[0, 3, 22, 24]] = x.ravel()
    np.testing.assert_array_equal(y, expected.reshape(1, 1, 5, 5))
    with pytest.raises(SphereFaceError, match="expected unpool: MAX"):
        layer_net(text.replace("MAX", "AVE"), x=x.shape, mask=mask.shape)
