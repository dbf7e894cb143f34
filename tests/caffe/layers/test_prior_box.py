from __future__ import annotations

import math

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "ratios": example(
        "PriorBox",
        "min_size: 4 max_size: 7 aspect_ratio: 2 aspect_ratio: 3 clip: true",
        images=True,
        x=(1, 2, 4, 5),
        image=(1, 3, 16, 21),
    ),
    "step": example(
        "PriorBox",
        "min_size: 4 step: 8 offset: 0.25 img_h: 30 img_w: 40 flip: false aspect_ratio: 2"
        " variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2",
        images=True,
        x=(1, 2, 4, 5),
        image=(1, 3, 16, 21),
    ),
}


def layer(options: str) -> str:
    return (
        'layer { name: "l" type: "PriorBox" bottom: "x" bottom: "image" top: "y"'
        f" prior_box_param {{ {options} }} }}"
    )


def boxes(cells, image, step, offset, sides):
    """Boxes of `sides` (width, height) at each cell, position by position, in shares."""
    return np.array(
        [
            [
                ((column + offset) * step[1] - width / 2) / image[1],
                ((row + offset) * step[0] - height / 2) / image[0],
                ((column + offset) * step[1] + width / 2) / image[1],
                ((row + offset) * step[0] + height / 2) / image[0],
            ]
            for row in range(cells[0])
            for column in range(cells[1])
            for width, height in sides
        ]
    )


def squares(*sizes: float) -> list[tuple[float, float]]:
    return [(size, size) for size in sizes]


def ratios(size: float, *values: float) -> list[tuple[float, float]]:
    return [(size * math.sqrt(value), size / math.sqrt(value)) for value in values]


@pytest.mark.parametrize(
    ("options", "sides"),
    [
        ("min_size: 30", squares(30)),
        ("min_size: 35.84 max_size: 76.8", squares(35, math.sqrt(35 * 76))),
        ("min_size: 30 aspect_ratio: 2", squares(30) + ratios(30, 2, 0.5)),
        ("min_size: 30 aspect_ratio: 2 flip: false", squares(30) + ratios(30, 2)),
        # Repeated ratios, and 1, count once.
        (
            "min_size: 30 aspect_ratio: 1 aspect_ratio: 2 aspect_ratio: 0.5",
            squares(30) + ratios(30, 2, 0.5),
        ),
        (
            "min_size: 30 min_size: 50 max_size: 60 max_size: 90 aspect_ratio: 3",
            squares(30, math.sqrt(1800))
            + ratios(30, 3, 1 / 3)
            + squares(50, math.sqrt(4500))
            + ratios(50, 3, 1 / 3),
        ),
    ],
)
def test_boxes_of_a_position(options, sides, layer_net, rng):
    image, cells = (120, 180), (3, 4)
    net = layer_net(layer(options), x=(2, 5, *cells), image=(2, 3, *image))
    result = net.run({"x": np.zeros((2, 5, *cells)), "image": np.zeros((2, 3, *image))})
    found = result.tops["y"]
    expected = boxes(cells, image, (120 / 3, 180 / 4), 0.5, sides)
    assert found.shape == (1, 2, expected.size)
    np.testing.assert_allclose(found[0, 0].reshape(-1, 4), expected, atol=1e-7)
    np.testing.assert_allclose(found[0, 1], 0.1, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "image", "step"),
    [
        ("img_size: 100", (100, 100), (100 / 3, 25)),
        ("img_h: 90 img_w: 200", (90, 200), (30, 50)),
        ("step: 16", (120, 180), (16, 16)),
        ("step_h: 16 step_w: 20 offset: 0.2", (120, 180), (16, 20)),
    ],
)
def test_sizes_that_the_file_gives(options, image, step, layer_net):
    net = layer_net(layer(f"min_size: 8 {options}"), x=(1, 1, 3, 4), image=(1, 3, 120, 180))
    result = net.run({"x": np.zeros((1, 1, 3, 4)), "image": np.zeros((1, 3, 120, 180))})
    offset = 0.2 if "offset" in options else 0.5
    expected = boxes((3, 4), image, step, offset, squares(8))
    np.testing.assert_allclose(result.tops["y"][0, 0].reshape(-1, 4), expected, atol=1e-6)


def test_clip_and_four_variances(layer_net):
    options = "min_size: 90 clip: true variance: 0.1 variance: 0.2 variance: 0.3 variance: 0.4"
    net = layer_net(layer(options), x=(1, 1, 2, 2), image=(1, 3, 100, 100))
    top = net.run({"x": np.zeros((1, 1, 2, 2)), "image": np.zeros((1, 3, 100, 100))}).tops["y"]
    expected = boxes((2, 2), (100, 100), (50, 50), 0.5, squares(90)).clip(0, 1)
    np.testing.assert_allclose(top[0, 0].reshape(-1, 4), expected, atol=1e-7)
    np.testing.assert_allclose(top[0, 1].reshape(-1, 4), [[0.1, 0.2, 0.3, 0.4]] * 4, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "min_size.*expected at least one size"),
        ("min_size: 0.5", "min_size.*expected at least one size"),
        ("min_size: 9 max_size: 9", "max_size.*larger"),
        ("min_size: 9 max_size: 10 max_size: 11", "max_size.*one for each"),
        ("min_size: 9 aspect_ratio: 0", "aspect_ratio 0; expected a positive"),
        ("min_size: 9 variance: 1 variance: 2", "variance.*one or four"),
        ("min_size: 9 img_size: 4 img_h: 4 img_w: 4", "mixed"),
        ("min_size: 9 step_h: 4", "mixed"),
        ("min_size: 9 step: 0", "step 0; expected a positive"),
    ],
)
def test_options_that_ssd_refuses(options, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=(1, 1, 3, 4), image=(1, 3, 12, 12))
