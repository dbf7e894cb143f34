"""Every recording in tests/golden/layers: forward, parameters after it, and all diffs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sphereface.caffe import Net, load

FILES = sorted((Path(__file__).parents[1] / "golden" / "layers").glob("*.npz"))
TOLERANCE = 1e-5  # relative, of the norm
MARGIN_TOLERANCE = 2e-6  # the margin layer is the package's own and held to more


def assert_close(
    found: torch.Tensor | None, expected: np.ndarray, what: str, tolerance: float
) -> None:
    assert found is not None, what
    assert tuple(found.shape) == expected.shape, what
    error = np.linalg.norm(found.detach().numpy() - expected)
    assert error <= tolerance * np.linalg.norm(expected), what


def blob_of(net: Net, name: str) -> torch.Tensor:
    _, layer, index = name.split("/")
    return net.layer(layer).blobs[int(index)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_layer_computes_what_caffe_computed(path: Path) -> None:
    golden = dict(np.load(path))
    tolerance = MARGIN_TOLERANCE if path.stem.startswith("margin") else TOLERANCE
    by_kind: dict[str, list[str]] = {}
    for name in golden:
        by_kind.setdefault(name.partition("/")[0], []).append(name)
    net = load(str(golden["prototxt"]), phase=str(golden["phase"]))
    for name in by_kind.get("param", []):
        blob_of(net, name).data.copy_(torch.from_numpy(golden[name]))
    inputs = {name[3:]: torch.from_numpy(golden[name]) for name in by_kind["in"]}
    for name in by_kind.get("din", []):
        inputs[name[4:]].requires_grad_()

    outputs = net(inputs)
    assert any(np.abs(golden[name]).max() > 0 for name in by_kind["out"])
    for name in by_kind["out"]:
        assert_close(outputs[name[4:]], golden[name], name, tolerance)
    for name in by_kind.get("param_after", []):
        assert_close(blob_of(net, name), golden[name], name, tolerance)

    terms = [(outputs[n[5:]] * torch.from_numpy(golden[n])).sum() for n in by_kind.get("dout", [])]
    if net.loss_weights:
        terms.append(net.loss(outputs))
    if terms:
        torch.stack(terms).sum().backward()
    for name in by_kind.get("din", []):
        assert_close(inputs[name[4:]].grad, golden[name], name, tolerance)
    for name in by_kind.get("dparam", []):
        assert_close(blob_of(net, name).grad, golden[name], name, tolerance)
