from __future__ import annotations

import numpy as np
import pytest

from sphereface import caffe
from sphereface.images import write_image

NET = """name: "tiny"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 112 dim: 96 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
  pooling_param { pool: AVE kernel_size: 16 stride: 16 } }
layer { name: "fc5" type: "InnerProduct" bottom: "pool" top: "fc5"
  inner_product_param { num_output: 24 weight_filler { type: "gaussian" std: 0.1 } } }
"""


@pytest.fixture
def folder(tmp_path, rng):
    """Crops of six people, three each, a model and its prototxt; the options for them."""
    patterns = rng.uniform(60, 190, (6, 7, 6, 3))
    for person, pattern in enumerate(patterns):
        (tmp_path / "people" / f"p{person}").mkdir(parents=True)
        for number in range(3):
            image = np.kron(pattern, np.ones((16, 16, 1))) + rng.normal(0, 8, (112, 96, 3))
            pixels = np.clip(image, 0, 255).astype(np.uint8)
            write_image(tmp_path / "people" / f"p{person}" / f"{number}.png", pixels)
    (tmp_path / "net.prototxt").write_text(NET)
    caffe.load(tmp_path / "net.prototxt").save(tmp_path / "net.caffemodel")
    return tmp_path


@pytest.fixture
def options(folder):
    return ["--prototxt", str(folder / "net.prototxt"),
            "--caffemodel", str(folder / "net.caffemodel"), "--detector", "none"]  # fmt: skip
