import numpy as np
import pytest
import torch

from reference import mtcnn as reference
from sphereface.faces.mtcnn import find_weights
from sphereface.faces.mtcnn.stages import CropNet, ProposalNet, build_net
from sphereface.inference import Predictor

RECORDED = {
    "det1": ("prob1", "conv4-2"),
    "det2": ("prob1", "conv5-2"),
    "det3": ("prob1", "conv6-2", "conv6-3"),
}


@pytest.mark.parametrize("name", RECORDED)
def test_nets_equal_the_recordings(name, shared):
    recorded = np.load(shared("mtcnn/nets.npz"))
    weights = find_weights(shared("mtcnn"))
    predictor = Predictor(build_net(name, weights.nets[name]))
    blobs = predictor({"data": recorded[f"{name}/in/data"]})
    for blob in RECORDED[name]:
        expected = recorded[f"{name}/out/{blob}"]
        np.testing.assert_allclose(blobs[blob].numpy(), expected, atol=1e-5)
        assert np.ptp(expected) > 1e-3


@pytest.fixture
def proposals(random_weights):
    def build(strip_pixels=1 << 21):
        net = build_net("det1", random_weights.nets["det1"])
        return ProposalNet(net, "cpu", strip_pixels)

    return build


@pytest.mark.parametrize("size", [(30, 41), (25, 44), (12, 12), (13, 30)])
def test_cells_equal_float64(proposals, random_weights, drawing, size):
    image = drawing(*size)
    cells = proposals()([torch.from_numpy(image)], *size, 0.0)[0]
    level = reference.blob(reference.resample(image, *size))
    blobs = reference.run(random_weights.nets["det1"], level, reference.SPECS["det1"])
    score = reference.face_probability(blobs["conv4-1"])
    columns, rows = score.shape
    assert cells.y.tolist() == np.repeat(np.arange(rows), columns).tolist()
    assert cells.x.tolist() == np.tile(np.arange(columns), rows).tolist()
    np.testing.assert_allclose(cells.score, score.T.ravel(), atol=1e-5)
    offsets = blobs["conv4-2"][0].transpose(2, 1, 0).reshape(-1, 4)
    np.testing.assert_allclose(cells.offsets, offsets, atol=1e-5)


@pytest.mark.parametrize("strip_pixels", [1, 700, 1000, 2000])
@pytest.mark.parametrize("size", [(31, 61), (30, 60), (33, 58), (17, 75)])
def test_strips_change_nothing(proposals, drawing, size, strip_pixels):
    image = torch.from_numpy(drawing(70, 130))
    whole = proposals()([image], *size, 0.45)[0]
    strips = proposals(strip_pixels)([image], *size, 0.45)[0]
    assert len(whole.x) > 20
    assert whole.x.tolist() == strips.x.tolist()
    assert whole.y.tolist() == strips.y.tolist()
    np.testing.assert_allclose(strips.score, whole.score, atol=1e-5)
    np.testing.assert_allclose(strips.offsets, whole.offsets, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 512])
@pytest.mark.parametrize(
    ("name", "offsets", "landmarks"), [("det2", "conv5-2", ""), ("det3", "conv6-2", "conv6-3")]
)
def test_crops_equal_float64(random_weights, drawing, name, offsets, landmarks, chunk):
    images = [drawing(40, 50), drawing(33, 21)]
    owners = np.repeat([0, 1], 8)
    corner = np.arange(16)[:, None] % 9 * 3 - 4.0
    boxes = np.hstack([corner, corner + 3, corner + 25, corner + 29])
    net = CropNet(
        build_net(name, random_weights.nets[name]),
        "cpu",
        chunk,
        offsets=offsets,
        landmarks=landmarks,
    )
    for mirrored in (False, True):
        seen = net(images, owners, boxes, mirrored=mirrored)
        assert seen.landmarks.shape == (16, 10 if landmarks else 0)
        for index, (owner, box) in enumerate(zip(owners, boxes, strict=True)):
            crop = reference.cut(images[owner], box, 24 if name == "det2" else 48)
            crop = crop[:, ::-1] if mirrored else crop
            weights = random_weights.nets[name]
            blobs = reference.run(weights, reference.blob(crop), reference.SPECS[name])
            logits = blobs["conv5-1" if name == "det2" else "conv6-1"]
            score = reference.face_probability(logits)
            assert seen.score[index] == pytest.approx(score, abs=1e-5)
            np.testing.assert_allclose(seen.offsets[index], blobs[offsets][0], atol=1e-5)
            if landmarks:
                np.testing.assert_allclose(seen.landmarks[index], blobs[landmarks][0], atol=1e-5)
