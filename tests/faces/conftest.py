import json

import cv2
import numpy as np
import pytest

from sphereface.caffe import load
from sphereface.faces.mtcnn import Weights
from sphereface.resources import prototxt_path

# Seeds whose nets call about half of what they see a face.
SEEDS = {"det1": 6, "det2": 5, "det3": 5}
REGRESSION = {"conv4-2": "det1", "conv5-2": "det2", "conv6-2": "det3", "conv6-3": "det3"}


@pytest.fixture(scope="session")
def photo(shared):
    """A photograph as RGB."""

    def read(name):
        image = cv2.imread(str(shared(f"photos/{name}")))
        return np.ascontiguousarray(image[:, :, ::-1])

    return read


@pytest.fixture(scope="session")
def recorded_faces(shared):
    """File -> list of (box, score, landmarks) that the original found, 1-based."""
    faces = json.loads(shared("mtcnn/detections.json").read_text())
    return {
        name: [
            (
                np.array(face["box"]),
                face["score"],
                np.stack([face["landmarks_x"], face["landmarks_y"]], axis=1),
            )
            for face in found
        ]
        for name, found in faces.items()
    }


@pytest.fixture
def drawing(rng):
    """A synthetic picture: smooth ground, drawn shapes, noise."""

    def draw(height, width):
        y, x = np.mgrid[:height, :width]
        ground = np.stack([x * 2 + y, 255 - y * 3, x * y // 16], axis=2) % 256
        image = np.ascontiguousarray(ground.astype(np.uint8))
        centre = width // 2, height // 2
        radius = min(height, width) // 3
        cv2.ellipse(image, centre, (radius, radius * 5 // 4), 10, 0, 360, (230, 180, 150), -1)
        for side in (-1, 1):
            eye = centre[0] + side * radius // 2, centre[1] - radius // 4
            cv2.circle(image, eye, max(radius // 6, 1), (30, 40, 50), -1)
        noise = rng.integers(-12, 13, image.shape)
        return np.clip(image + noise, 0, 255).astype(np.uint8)

    return draw


@pytest.fixture(scope="session")
def random_weights():
    """Nets of MTCNN's shapes with seeded numbers, which find "faces" anywhere."""
    return Weights({name: random_arrays(name, seed) for name, seed in SEEDS.items()}, {})


def random_arrays(name, seed):
    rng = np.random.default_rng(seed)
    arrays = {}
    for layer in load(prototxt_path(name)).layers:
        shapes = [tuple(blob.shape) for blob in layer.blobs]
        if len(shapes) == 1:
            arrays[layer.name] = [rng.uniform(0.1, 0.4, shapes[0]).astype(np.float32)]
        elif shapes:
            spread = (2 / np.prod(shapes[0][1:])) ** 0.5
            if REGRESSION.get(layer.name) == name:
                spread *= 0.1
            kernel = rng.normal(scale=spread, size=shapes[0])
            bias = rng.normal(scale=0.1, size=shapes[1])
            arrays[layer.name] = [kernel.astype(np.float32), bias.astype(np.float32)]
    return arrays
