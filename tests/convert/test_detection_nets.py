"""Detection nets as ONNX in onnxruntime: the boxes of the net."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from reference.detection_nets import NETS, fill_again, inputs_of
from sphereface.caffe import load
from sphereface.convert.onnx import write_onnx


@pytest.mark.parametrize("name", NETS)
def test_the_boxes_of_the_net(name, tmp_path):
    net = load(NETS[name]())
    fill_again(net)
    write_onnx(net, tmp_path / "net.onnx")
    given = inputs_of(net)
    with torch.no_grad():
        expected = net({key: torch.from_numpy(value) for key, value in given.items()})
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    found = session.run(list(expected), given)
    for (blob, value), top in zip(expected.items(), found, strict=True):
        assert top.shape == value.shape, blob
        scale = max(value.abs().max().item(), 1)
        np.testing.assert_allclose(top / scale, value.numpy() / scale, atol=1e-5, err_msg=blob)
    assert len(value.reshape(-1, value.shape[-1])) > 5


@pytest.mark.parametrize("name", ["mobilenet_ssd", "res10_face", "s3fd"])
def test_pictures_of_other_sizes_and_batches(name, tmp_path):
    net = load(NETS[name]())
    fill_again(net)
    write_onnx(net, tmp_path / "net.onnx", images=True)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    data = np.random.RandomState(7).standard_normal((2, 3, 80, 96)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(data))["detection_out"].numpy()
    (found,) = session.run(["detection_out"], {"data": data})
    assert set(expected[0, 0, :, 0]) == {0, 1}
    np.testing.assert_allclose(found, expected, atol=1e-5)
