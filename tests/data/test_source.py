import json

import numpy as np
import pytest

from sphereface.data import LoadOptions, open_source
from sphereface.errors import SphereFaceError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bad_images": "ignore"}, 'bad_images .ignore.; expected "raise" or "skip"'),
        ({"phase": "train"}, 'phase .train.; expected "TRAIN" or "TEST"'),
        ({"workers": -1}, "workers -1; expected 0 or more"),
        ({"ranks": 2}, "2 ranks without a seed; expected the same seed on every rank"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(SphereFaceError, match=message):
        LoadOptions(**options)


def test_without_a_seed_the_order_is_new_each_time_and_can_be_resumed(layer, faces):
    param = layer("ImageData", faces.param("shuffle: true", batch=10))
    with open_source(param, workers=0) as one, open_source(param, workers=0) as other:
        assert one.state()["seed"] != other.state()["seed"]
        one.next_batch()
        state = json.loads(json.dumps(one.state()))
        other.restore(state)
        assert (one.next_batch()["data"] == other.next_batch()["data"]).all()


def test_state_of_another_list(layer, faces):
    param = layer("ImageData", faces.param())
    with open_source(param, workers=0) as source:
        state = source.state()
    faces.list.write_text("1.png 0\n")
    with open_source(param, workers=0) as source:
        (line,) = source.restore(state)
        assert line.startswith('layer "data" (ImageData): 1 samples, 10 when the state was saved')
        assert source.state()["epoch"] == 1


def test_permuted_labels_are_noticed(layer, faces):
    param = layer("ImageData", faces.param())
    with open_source(param, workers=0) as source:
        source.next_batch()
        state = json.loads(json.dumps(source.state()))
        assert source.restore(state) == []
        assert source.state() == state
    lines = [line.split() for line in faces.list.read_text().splitlines()]
    labels = [label for _, label in lines]
    faces.list.write_text(
        "".join(f"{name} {label}\n" for (name, _), label in zip(lines, labels[::-1], strict=True))
    )
    with open_source(param, workers=0) as source:
        (line,) = source.restore(state)
        assert "10 samples of another list" in line
        state.pop("content")  # snapshots were once without it
        assert source.restore(state) == []


def test_batches_belong_to_the_caller(layer, faces):
    with open_source(layer("ImageData", faces.param(batch=10)), workers=2, seed=1) as source:
        first = source.next_batch()
        kept = first["data"].copy()
        second = source.next_batch()
        assert not np.shares_memory(first["data"], second["data"])
        first["data"][:] = -1
        assert (source.next_batch()["data"] == kept).all()
