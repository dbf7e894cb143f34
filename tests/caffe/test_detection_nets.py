"""Nets in the shapes of known detectors: end to end as OpenCV 4.14 runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reference.detection_nets import NETS, fill_again, inputs_of
from sphereface.caffe import load

GOLDEN = Path(__file__).parents[1] / "golden" / "opencv"


def same_rows(found, recorded, score):
    """Compare boxes by falling score; OpenCV fills up with rows of zeros."""
    recorded = recorded[recorded[:, score] > 0]
    found = found[np.argsort(-found[:, score], kind="stable")]
    assert found.shape == recorded.shape
    np.testing.assert_allclose(found, recorded, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETS)
def test_as_opencv(name):
    net = load(NETS[name]())
    fill_again(net)
    with np.load(GOLDEN / f"{name}.npz") as file:
        recorded = dict(file)
    assert str(recorded.pop("version")).startswith("4.14")
    with torch.no_grad():
        tensors = {key: torch.from_numpy(value) for key, value in inputs_of(net).items()}
        found = net(tensors, blobs=list(recorded))
    assert set(recorded) >= set(net.outputs)
    for blob, value in recorded.items():
        top = found[blob].numpy()
        if blob == "detection_out":
            assert len(top[0, 0]) > 5
            same_rows(top[0, 0], value.reshape(-1, 7), 2)
        else:
            assert top.shape == value.shape, blob
            scale = max(np.abs(value).max(), 1)
            np.testing.assert_allclose(top / scale, value / scale, atol=1e-5, err_msg=blob)


def test_priors_and_boxes_keep_their_digits_in_bfloat16():
    net = load(NETS["mobilenet_ssd"]())
    fill_again(net)
    data = torch.from_numpy(inputs_of(net)["data"])
    wanted = ["conv3_prior", "detection_out"]
    with torch.no_grad():
        expected = net(data, blobs=wanted)
        found = net.bfloat16()(data.bfloat16(), blobs=wanted)
    assert found["detection_out"].dtype == torch.float32
    torch.testing.assert_close(found["conv3_prior"], expected["conv3_prior"])
    best, near = (tops["detection_out"][0, 0, :, 2].max() for tops in (expected, found))
    assert abs(best - near) < 0.05


def test_a_net_with_boxes_from_the_program_learns_them(rng):
    """SSD's training net: AnnotatedData, and MultiBoxLoss in the place of DetectionOutput."""
    _, *lines = NETS["mobilenet_ssd"]().splitlines()
    data = (
        'layer { name: "data" type: "AnnotatedData" top: "data" top: "truth" data_param {'
        " batch_size: 2 } transform_param { resize_param { height: 64 width: 64 } } }"
    )
    loss = (
        'layer { name: "loss" type: "MultiBoxLoss" bottom: "mbox_loc" bottom: "mbox_conf"'
        ' bottom: "mbox_prior" bottom: "truth" top: "loss" multibox_loss_param {'
        " num_classes: 5 code_type: CENTER_SIZE } }"
    )
    cut = ("conf_rows", "conf_soft", "conf_out", "detection_out")
    lines = [line for line in lines if not any(f'name: "{name}" ' in line for name in cut)]
    net = load("\n".join([data, *lines, loss]), phase="TRAIN")
    fill_again(net)
    truth = torch.tensor(
        [[0, 1, 0, 0.1, 0.2, 0.5, 0.6, 0], [1, 3, 0, 0.4, 0.3, 0.9, 0.8, 0], [-1.0] * 8]
    ).reshape(1, 1, 3, 8)
    images = torch.from_numpy(rng.normal(size=(2, 3, 64, 64)).astype(np.float32))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        total = net.loss(net(images, truth))
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < 0.5 * losses[0]
