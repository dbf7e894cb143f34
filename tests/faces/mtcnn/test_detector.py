import numpy as np
import pytest
import torch

from reference import mtcnn as reference
from sphereface.errors import SphereFaceError
from sphereface.faces.mtcnn import Detector, Settings, stages

LOOSE = Settings(min_size=20, factor=0.7, thresholds=(0.6, 0.6, 0.6))


def compare(found, expected, tolerance):
    assert len(found) == len(expected)
    for face, (box, score, landmarks) in zip(found, expected, strict=True):
        np.testing.assert_allclose(face.box + 1, box, atol=tolerance)
        np.testing.assert_allclose(face.landmarks + 1, landmarks, atol=tolerance)
        assert face.score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("size", [(48, 61), (75, 40), (31, 30)])
def test_equals_float64(random_weights, drawing, size):
    image = drawing(*size)
    expected = reference.detect(random_weights.nets, image, *LOOSE)
    assert expected
    compare(Detector(random_weights, LOOSE)(image), expected, 1e-3)


def test_batches_strips_and_layouts_change_nothing(random_weights, drawing):
    images = [drawing(48, 61), drawing(30, 30), drawing(48, 61), drawing(10, 10), drawing(48, 61)]
    alone = [Detector(random_weights, LOOSE)(image) for image in images]
    assert [len(faces) > 0 for faces in alone] == [True, True, True, False, True]
    together = Detector(random_weights, LOOSE).detect(images)
    strips = Detector(random_weights, LOOSE, strip_pixels=300).detect(images)
    reversed_memory = Detector(random_weights, LOOSE).detect(
        [image[::-1].copy()[::-1] for image in images]
    )
    for faces in (together, strips, reversed_memory):
        for got, expected in zip(faces, alone, strict=True):
            compare(got, [(f.box + 1, f.score, f.landmarks + 1) for f in expected], 1e-3)


def test_same_input_same_output(random_weights, drawing):
    image = drawing(48, 61)
    first, second = (Detector(random_weights, LOOSE)(image) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert (a.box == b.box).all()
        assert (a.landmarks == b.landmarks).all()
        assert a.score == b.score


@pytest.mark.parametrize("size", [(19, 19), (1, 1), (1, 4000), (300, 19)])
def test_small_pictures_have_no_face(random_weights, size):
    assert Detector(random_weights, LOOSE)(np.zeros((*size, 3), np.uint8)) == []


def test_no_pictures(random_weights):
    assert Detector(random_weights).detect([]) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(min_size=0), "min_size 0"),
        (Settings(factor=1.0), r"factor 1\.0; expected between 0 and 1"),
        (Settings(thresholds=(0.6, 0.7, 1.2)), "three numbers from 0 to 1"),
        (Settings(thresholds=(0.6, 0.7)), "three numbers from 0 to 1"),
        (Settings(min_size=float("nan")), "min_size nan"),
    ],
)
def test_bad_settings(settings, message, random_weights):
    with pytest.raises(SphereFaceError, match=message):
        Detector(random_weights, settings)


def test_bad_image(random_weights):
    with pytest.raises(SphereFaceError, match=r"image of shape \(30, 30\), float64"):
        Detector(random_weights)(np.zeros((30, 30)))


@pytest.mark.parametrize("name", ["astronaut.png", "mtcnn_test1.jpg"])
def test_recorded_faces(name, shared, photo, recorded_faces):
    compare(Detector(shared("mtcnn"))(photo(name)), recorded_faces[name], 0.01)


def test_face_beyond_the_border(shared, photo):
    cut = photo("astronaut.png")[:, 195:]
    (face,) = Detector(shared("mtcnn"))(cut)
    assert face.box[0] + 1 == pytest.approx(-6.4, abs=0.05)
    assert face.score == pytest.approx(0.998, abs=1e-3)


def test_gray_photograph(shared, photo):
    gray = photo("astronaut.png").mean(axis=2).astype(np.uint8)
    faces = Detector(shared("mtcnn"))(np.repeat(gray[:, :, None], 3, axis=2))
    assert len(faces) == 1
    assert faces[0].score == pytest.approx(0.995, abs=5e-3)


def test_goes_on_when_a_gpus_memory_runs_out(random_weights, drawing, monkeypatch):
    image = drawing(48, 61)
    expected = Detector(random_weights, LOOSE)(image)
    refused = []

    class SmallPredictor(stages.Predictor):
        def __call__(self, inputs, blobs=()):
            if len(inputs["data"]) > 4:
                refused.append(len(inputs["data"]))
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return super().__call__(inputs, blobs)

    monkeypatch.setattr(stages, "Predictor", SmallPredictor)
    detector = Detector(random_weights, LOOSE)
    with pytest.warns(UserWarning, match="the GPU's memory ran out") as warned:
        found = detector(image)
    assert len(warned) == 1
    assert len(refused) > 1
    compare(found, [(f.box + 1, f.score, f.landmarks + 1) for f in expected], 1e-3)
    refused.clear()
    detector(image)
    assert refused == []


def test_a_memory_that_is_too_small_for_anything(random_weights, drawing, monkeypatch):
    def refuse(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(stages.Predictor, "__call__", refuse)
    detector = Detector(random_weights, LOOSE)
    with (
        pytest.warns(UserWarning, match="the GPU's memory ran out"),
        pytest.raises(torch.cuda.OutOfMemoryError),
    ):
        detector(drawing(48, 61))
