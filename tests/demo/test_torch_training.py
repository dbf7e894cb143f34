from __future__ import annotations

import numpy as np
import torch

from sphereface.demo import digits as demo
from sphereface.demo.digits_training import DigitsRun, Recipe
from sphereface.demo.torch_training import TorchRun
from sphereface.nn import ASoftmaxLoss


def test_m_1_is_the_solvers_training() -> None:
    images, label = demo.digits()
    seen = label < 6
    run = DigitsRun(images[seen], torch.from_numpy(label[seen]), 1, 2, Recipe(epochs=1))
    net, _ = run.train()
    ours, _ = TorchRun(run, lambda k, n: ASoftmaxLoss(k, n, margin=1)).train()
    np.testing.assert_allclose(
        demo.embed(ours, images[:50]), demo.embed(net, images[:50]), rtol=1e-3, atol=1e-4
    )
