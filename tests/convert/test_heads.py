"""OpenSphere's heads in our losses, their values against the heads' formulas in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sphereface import nn
from sphereface.convert import load_head
from sphereface.errors import SphereFaceError
from sphereface.margin_policy import LSoftmax

M, K, N = 7, 12, 5


def softmax_loss(logits, label):
    peak = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - peak).sum(axis=1)) + peak[:, 0]
    return (total - logits[np.arange(M), label]).mean()


def psi(cosine, m):
    theta = np.arccos(cosine)
    k = np.floor(m * theta / math.pi)
    return (-1) ** k * np.cos(m * theta) - 2 * k


def margin(cosine, label, of_label):
    changed = cosine.copy()
    rows = np.arange(M), label
    changed[rows] = of_label(cosine[rows])
    return changed


def sphereface2(cosine, label, b, alpha=0.7, r=40.0, m=0.4, t=3.0, lw=50.0):
    own = np.eye(N)[label]
    g = 2 * ((cosine + 1) / 2) ** t - 1
    z = r * (g - m * (2 * own - 1)) + b
    losses = own * np.log1p(np.exp(-z)) + (1 - own) * np.log1p(np.exp(z))
    return (lw * N / r * (alpha * own + (1 - alpha) * (1 - own)) * losses).mean()


@pytest.fixture
def data(rng):
    """Embeddings of several lengths, labels, and class weights of no particular length."""
    x, w = rng.normal(0, 1.5, (M, K)), rng.normal(0, 2, (N, K))
    label = rng.integers(0, N, M)
    x[0] = -w[label[0]] + 0.1 * x[0]  # an angle near pi, where psi has passed its kink
    return x, w, label


HEADS = {
    "SphereFace": (
        lambda: nn.SphereFaceRLoss(K, N, 1.5, 30.0, dtype=torch.float64),
        lambda c, norm, y: softmax_loss(30 * margin(c, y, lambda v: psi(v, 1.5)), y),
        1,
    ),
    "SphereFaceR_H": (
        lambda: nn.SphereFaceRLoss(K, N, 1.7, 30.0, dtype=torch.float64),
        lambda c, norm, y: 50 / 30 * softmax_loss(30 * margin(c, y, lambda v: psi(v, 1.7)), y),
        50 / 30,
    ),
    "SphereFaceR_S": (
        lambda: nn.SphereFaceRLoss(K, N, 1.3, 30.0, "soft", 0.006, dtype=torch.float64),
        lambda c, norm, y: (
            50 / 30 * softmax_loss(norm * margin(c, y, lambda v: psi(v, 1.3)), y)
            + 0.01 * np.abs(norm - 30).mean()
        ),
        50 / 30,
    ),
    "CosFace": (
        lambda: nn.CosFaceLoss(K, N, 0.35, 64.0, dtype=torch.float64),
        lambda c, norm, y: softmax_loss(64 * margin(c, y, lambda v: v - 0.35), y),
        1,
    ),
    "CocoLoss": (
        lambda: nn.COCOLoss(K, N, 30.0, dtype=torch.float64),
        lambda c, norm, y: softmax_loss(30 * c, y),
        1,
    ),
}


@pytest.mark.parametrize("rows", ["features", "classes"])
@pytest.mark.parametrize("name", HEADS)
def test_heads_with_class_weights(name, rows, data, tmp_path):
    x, w, label = data
    make, formula, factor = HEADS[name]
    torch.save({"w": torch.tensor(w if rows == "classes" else w.T)}, tmp_path / "head.pth")
    loss = make()
    load_head(loss, tmp_path / "head.pth")
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    cosine = x / norm @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T
    expected = formula(cosine, norm, label)
    found = factor * loss(torch.tensor(x), torch.tensor(label)).item()
    assert found == pytest.approx(expected, rel=1e-10)


def test_arcface_differs_beyond_pi_only(data, tmp_path):
    x, w, label = (part[1:] if i != 1 else part for i, part in enumerate(data))
    torch.save({"w": torch.tensor(w.T)}, tmp_path / "head.pth")
    loss = nn.ArcFaceLoss(K, N, 0.5, 64.0, dtype=torch.float64)
    load_head(loss, tmp_path / "head.pth")
    cosine = x @ w.T / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(w, axis=1)
    rows = np.arange(M - 1), label
    theta = np.arccos(cosine[rows]) + 0.5
    assert theta.max() < math.pi
    cosine[rows] = np.cos(theta)
    logits = 64 * cosine
    peak = logits.max(axis=1)
    expected = np.log(np.exp(logits - peak[:, None]).sum(axis=1)) + peak - logits[rows]
    found = loss(torch.tensor(x), torch.tensor(label)).item()
    assert found == pytest.approx(expected.mean(), rel=1e-10)


def test_heads_with_a_bias(data, tmp_path):
    x, w, label = data
    head = {"module.w": torch.tensor(w.T), "module.b": torch.tensor([-7.5])}
    torch.save({"backbone": {"fc.weight": torch.ones(1, 1)}, "head": head}, tmp_path / "both.pth")
    loss = nn.SphereFace2Loss(K, N, 0.4, 40.0, 3.0, 0.7, dtype=torch.float64)
    load_head(loss, tmp_path / "both.pth")
    cosine = x @ w.T / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(w, axis=1)
    found = 50 * loss(torch.tensor(x), torch.tensor(label)).item()
    assert found == pytest.approx(sphereface2(cosine, label, -7.5), rel=1e-10)

    b = np.linspace(-1, 1, N)
    torch.save({"w": torch.tensor(w.T), "b": torch.tensor(b[None])}, tmp_path / "softmax.pth")
    zeros = torch.zeros(N)
    loss = nn.MarginLoss(K, N, LSoftmax(m=1), bias=zeros, dtype=torch.float64)
    load_head(loss, tmp_path / "softmax.pth")
    found = loss(torch.tensor(x), torch.tensor(label)).item()
    assert found == pytest.approx(softmax_loss(x @ w.T + b, label), rel=1e-10)


def test_heads_that_do_not_fit(tmp_path):
    path = tmp_path / "head.pth"
    loss = nn.CosFaceLoss(4, 4)
    before = loss.weight.detach().clone()
    weight = torch.randn(4, 4)
    for state, message in (
        ({"bias": torch.ones(1)}, r'holds "bias" \(1,\); expected a head of OpenSphere'),
        ({"w": torch.ones(4, 9)}, r'"w" has shape \(4, 9\); expected 4 classes and 4 features'),
        ({"w": weight}, 'does not tell features from classes; pass rows="features"'),
        ({"w": torch.ones(4, 4), "b": torch.ones(3)}, r'"w" has shape \(4, 4\), which'),
    ):
        torch.save(state, path)
        with pytest.raises(SphereFaceError, match=message):
            load_head(loss, path)
    with pytest.raises(SphereFaceError, match=r'"b" has shape \(3,\); expected 1 or 4 values'):
        load_head(loss, path, rows="classes")
    torch.save({"w": weight, "b": torch.ones(1)}, path)
    with pytest.raises(SphereFaceError, match="a bias of 1 values; expected no bias"):
        load_head(loss, path, rows="classes")
    assert torch.equal(loss.weight, before)
    torch.save({"w": weight}, path)
    load_head(loss, path, rows="features")
    assert torch.equal(loss.weight, weight.T)
