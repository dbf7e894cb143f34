from __future__ import annotations

import numpy as np
import pytest
import torch

from sphereface.caffe import load
from sphereface.caffe.batch_source import as_source
from sphereface.errors import SphereFaceError
from sphereface.solver.scores import score_net

NET = """
input: "x" input_shape { dim: [2, 3] } input: "label" input_shape { dim: 2 }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "label" top: "loss"
        loss_weight: 3 }
layer { name: "accuracy" type: "Accuracy" bottom: "x" bottom: "label" top: "accuracy" }
"""


def test_means_over_batches(rng):
    x, label = rng.normal(size=(4, 2, 3)), rng.integers(0, 3, (4, 2))
    batches = [
        {"x": torch.tensor(a, dtype=torch.float32), "label": torch.tensor(b).float()}
        for a, b in zip(x, label, strict=True)
    ]
    seen = []
    record = score_net(
        load(NET), as_source(batches), 4, on_batch=lambda number, scores: seen.append(scores)
    )
    log_p = x - np.log(np.exp(x).sum(axis=2, keepdims=True))
    losses = -np.take_along_axis(log_p, label[..., None], 2).mean(axis=(1, 2))
    accuracies = (x.argmax(axis=2) == label).mean(axis=1)
    assert [score.name for score in record.scores] == ["accuracy", "loss"]
    assert record.scores[0].value == pytest.approx(accuracies.mean())
    assert record.scores[1].value == pytest.approx(losses.mean(), rel=1e-5)
    assert record.loss == pytest.approx(3 * losses.mean(), rel=1e-5)
    np.testing.assert_allclose([scores[1].value for scores in seen], losses, rtol=1e-5)


def test_too_little_data():
    batch = {"x": torch.zeros(2, 3), "label": torch.zeros(2)}
    with pytest.raises(SphereFaceError, match="the data ended after 1 batches; expected 2"):
        score_net(load(NET), as_source([batch]), 2)
    with pytest.raises(SphereFaceError, match="0 iterations; expected 1 or more"):
        score_net(load(NET), as_source(batch), 0)
