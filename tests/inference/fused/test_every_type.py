"""Every layer type of the catalogue gives the same with and without folding."""

from __future__ import annotations

import pytest
import torch

from reference.layer_examples import examples, fill, inputs
from sphereface.caffe import load
from sphereface.inference import Predictor

EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_folded_as_the_net(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # HDF5Output writes
    net = load(EXAMPLES[name].text()).eval()
    fill(net)
    given = dict(zip(net.inputs, inputs(net), strict=True))
    with torch.no_grad():
        expected = net(given)
    found = Predictor(net)(given)
    assert list(found) == list(expected)
    for top, value in expected.items():
        largest = float(value.detach().abs().max()) if value.numel() else 0.0
        torch.testing.assert_close(found[top], value.float(), rtol=0, atol=1e-5 * largest)
