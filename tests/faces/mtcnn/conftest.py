import numpy as np
import pytest

from sphereface.caffe import load
from sphereface.faces.mtcnn import Weights
from sphereface.resources import prototxt_path

# Seeds whose nets call about half of what they see a face.
SEEDS = {"det1": 6, "det2": 5, "det3": 5}
REGRESSION = {"conv4-2": "det1", "conv5-2": "det2", "conv6-2": "det3", "conv6-3": "det3"}


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
