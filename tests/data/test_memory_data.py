import numpy as np
import pytest

from sphereface.data import open_source
from sphereface.errors import SphereFaceError

PARAM = "memory_data_param { batch_size: 4 channels: 3 height: 9 width: 7 }"


def test_arrays_round_and_round(layer, rng):
    images, labels = rng.standard_normal((6, 3, 9, 7)), np.arange(6)
    with open_source(layer("MemoryData", PARAM)) as source:
        assert source.shapes == {"data": (4, 3, 9, 7), "label": (4,)}
        source.set_arrays(images, labels.reshape(6, 1, 1, 1))
        batches = [source.next_batch() for _ in range(3)]
    assert np.concatenate([b["label"] for b in batches]).tolist() == [*range(6), *range(6)]
    data = np.concatenate([b["data"] for b in batches])
    assert (data == np.concatenate([images, images]).astype(np.float32)).all()


def test_images_are_transformed_when_set(layer, faces):
    param = layer("MemoryData", f"{PARAM} transform_param {{ mean_value: 100 scale: 0.5 }}")
    with open_source(param, seed=1) as source:
        source.set_images(faces.images, faces.labels)
        batch = source.next_batch()
    expected = np.stack([(i.transpose(2, 0, 1) - 100.0) / 2 for i in faces.images[:4]])
    assert (batch["data"] == expected).all()
    assert batch["label"].tolist() == [0, 1, 2, 0]


def test_resuming_and_ranks(layer):
    images, labels = np.zeros((10, 3, 9, 7)), np.arange(10)
    sources = [open_source(layer("MemoryData", PARAM), seed=1, rank=r, ranks=2) for r in range(2)]
    for source in sources:
        source.set_arrays(images, labels)
    got = [source.next_batch()["label"].tolist() for source in sources]
    assert got == [[0, 2, 4, 6], [1, 3, 5, 7]]
    state = sources[0].state()
    sources[1].seek(0)
    sources[1].restore(state)
    assert sources[1].next_batch()["label"].tolist() == [9, 1, 3, 5]
    assert next(iter(sources[0].labels()))[0] == 0


def test_what_does_not_fit(layer):
    with pytest.raises(SphereFaceError, match="all of them, positive"):
        open_source(layer("MemoryData", "memory_data_param { batch_size: 4 }"))
    source = open_source(layer("MemoryData", PARAM))
    with pytest.raises(SphereFaceError, match="no data; call set_arrays"):
        source.next_batch()
    with pytest.raises(SphereFaceError, match=r"images of shape \(2, 9, 7\); expected \(N, 3, 9"):
        source.set_arrays(np.zeros((2, 9, 7)), [0, 1])
    with pytest.raises(SphereFaceError, match="2 images and 3 labels"):
        source.set_arrays(np.zeros((2, 3, 9, 7)), [0, 1, 2])
