from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "rows": example(
        "DetectionEvaluate", "num_classes: 3", batch=False, x=(1, 1, 4, 7), truth=(1, 1, 2, 8)
    ),
}


def layer(options: str) -> str:
    return (
        'layer { name: "l" type: "DetectionEvaluate" bottom: "found" bottom: "truth" top: "y"'
        f" detection_evaluate_param {{ {options} }} }}"
    )


FOUND = np.array(
    [
        # image, label, score, box
        [0, 1, 0.6, 0.1, 0.1, 0.5, 0.5],  # the second on the same true box
        [0, 1, 0.9, 0.1, 0.1, 0.5, 0.4],  # overlap 0.75
        [0, 1, 0.8, 0.6, 0.6, 0.9, 0.9],  # a difficult one
        [0, 2, 0.7, 0.0, 0.0, 0.2, 0.2],  # no true box of its class
        [2, 1, 0.3, 0.0, 0.0, 1.0, 1.0],  # no true box in its image
        [-1, -1, 0, 0, 0, 0, 0],
    ]
)
TRUTH = np.array(
    [
        # image, label, number, box, difficult
        [0, 1, 0, 0.1, 0.1, 0.5, 0.5, 0],
        [0, 1, 1, 0.6, 0.6, 0.9, 0.9, 1],
        [1, 2, 0, 0.0, 0.0, 0.4, 0.4, 0],
    ]
)


@pytest.mark.parametrize(
    ("options", "ones", "difficult"),
    [("", 2, [1, 0]), ("evaluate_difficult_gt: false", 1, [0, 0])],
)
def test_rows(options, ones, difficult, layer_net):
    bottoms = {"found": FOUND[None, None], "truth": TRUTH[None, None]}
    net = layer_net(
        layer(f"num_classes: 3 {options}"),
        phase="TEST",
        **{name: value.shape for name, value in bottoms.items()},
    )
    found = net.net.double()(*(torch.from_numpy(value) for value in bottoms.values()))["y"]
    expected = [
        [-1, 1, ones, -1, -1],
        [-1, 2, 1, -1, -1],
        [0, 1, 0.9, 1, 0],
        [0, 1, 0.8, *difficult],
        [0, 1, 0.6, 0, 1],
        [0, 2, 0.7, 0, 1],
        [2, 1, 0.3, 0, 1],
    ]
    np.testing.assert_allclose(found[0, 0].numpy(), expected, rtol=1e-12)


def test_the_threshold_counts(layer_net):
    net = layer_net(
        layer("num_classes: 2 overlap_threshold: 0.76"),
        phase="TEST",
        found=(1, 1, 1, 7),
        truth=(1, 1, 3, 8),
    ).net.double()
    found = net(torch.from_numpy(FOUND[None, None, 1:2]), torch.from_numpy(TRUTH[None, None]))["y"]
    np.testing.assert_allclose(found[0, 0, 1].numpy(), [0, 1, 0.9, 0, 1])


def test_what_is_refused(layer_net):
    with pytest.raises(SphereFaceError, match="num_classes is not given"):
        layer_net(layer(""), found=(1, 1, 2, 7), truth=(1, 1, 2, 8))
    with pytest.raises(SphereFaceError, match="expected .1, 1, N, 7. and .1, 1, M, 8."):
        layer_net(layer("num_classes: 2"), found=(1, 1, 2, 8), truth=(1, 1, 2, 8))
