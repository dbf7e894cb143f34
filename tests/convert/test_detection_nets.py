"""Detection nets as ONNX in onnxruntime: the boxes of the net."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from reference.detection_nets import NETS, fill_again, inputs_of
from sphereface.caffe import load
from sphereface.convert.onnx import write_onnx
from sphereface.errors import SphereFaceError

BOX_LAYERS = {
    "BoxOutput": (
        "box_output_param { field_w: 12 field_h: 20 downsample_rate: 4 fg_thr: -9 }",
        {"x": (7, 6, 8)},
    ),
    "BoxGroupOutput": (
        "box_group_output_param { box_group_param { field_w: 12 field_h: 20 stride: 4 } }",
        {"p": (2, 6, 8), "x": (4, 6, 8)},
    ),
}


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


@pytest.mark.parametrize("kind", BOX_LAYERS)
def test_runtimes_refuse_batches_of_boxes(kind, tmp_path):
    options, bottoms = BOX_LAYERS[kind]
    text = "".join(
        f'input: "{name}" input_shape {{ dim: 1 {" ".join(f"dim: {d}" for d in shape)} }}\n'
        for name, shape in bottoms.items()
    )
    names = " ".join(f'bottom: "{name}"' for name in bottoms)
    net = load(f'{text} layer {{ name: "l" type: "{kind}" {names} top: "y" {options} }}')
    write_onnx(net, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    rng = np.random.default_rng(3)
    one, two = (
        {name: rng.random((n, *shape), np.float32) for name, shape in bottoms.items()}
        for n in (1, 2)
    )
    assert len(session.run(["y"], one)[0]) > 1
    with pytest.raises(Exception, match="cannot be reshaped to the requested shape"):
        session.run(["y"], two)


@pytest.mark.parametrize("kind", BOX_LAYERS)
def test_a_batch_of_boxes_that_is_known(kind, tmp_path):
    options, bottoms = BOX_LAYERS[kind]
    text = "".join(
        f'input: "{name}" input_shape {{ dim: 2 dim: {np.prod(shape)} }}\n'
        f'layer {{ name: "{name}_maps" type: "Reshape" bottom: "{name}" top: "{name}_maps"'
        f" reshape_param {{ shape {{ dim: 2 {' '.join(f'dim: {d}' for d in shape)} }} }} }}\n"
        for name, shape in bottoms.items()
    )
    names = " ".join(f'bottom: "{name}_maps"' for name in bottoms)
    net = load(f'{text} layer {{ name: "l" type: "{kind}" {names} top: "y" {options} }}')
    with pytest.raises(SphereFaceError, match=r'layer "l".*2 images have no ONNX form; expected 1'):
        write_onnx(net, tmp_path / "net.onnx")
