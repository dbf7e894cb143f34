from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "plain": example("LabelsequenceAccuracy", "blank_label: 2", x=(2, 5, 3), label=(2, 4)),
}
TEXT = (
    'layer { name: "l" type: "LabelsequenceAccuracy" bottom: "x" bottom: "label" top: "y"'
    " labelsequence_accuracy_param { blank_label: 3 } }"
)


def test_accuracy(layer_net):
    paths = [[1, 1, 3, 1, 2], [3, 0, 0, 3, 3], [2, 2, 1, 1, 0], [3, 3, 3, 3, 3]]
    x = np.eye(4)[np.array(paths)]
    labels = np.array(
        [
            [1, 1, 2, 3, 3, 3],
            [0, 0, 3, 3, 3, 3],  # wrong: a repetition is one label
            [3, 2, 1, 3, 0, 3],
            [3, 3, 3, 3, 3, 3],
        ]
    )
    net = layer_net(TEXT, x=x.shape, label=labels.shape)
    assert float(net.run({"x": x, "label": labels}).tops["y"]) == 3 / 4
    net = layer_net(TEXT, x=x.shape, label=(4, 2))  # shorter rows than steps
    assert float(net.run({"x": x, "label": labels[:, :2]}).tops["y"]) == 1 / 4


def test_shapes(layer_net):
    with pytest.raises(SphereFaceError, match="expected scores"):
        layer_net(TEXT, x=(4, 5, 4), label=(5, 2))
