import os
from pathlib import Path

import pytest

from sphereface.data import SOURCE_TYPES, open_source, open_sources
from sphereface.errors import SphereFaceError


def test_each_type_has_its_reader(layer, faces):
    assert set(SOURCE_TYPES) == {"Data", "HDF5Data", "ImageData", "MemoryData"}
    with open_source(layer("ImageData", faces.param()), workers=0) as source:
        assert type(source) is SOURCE_TYPES["ImageData"]


def test_other_types(layer):
    with pytest.raises(SphereFaceError, match='here: no reader for a layer of type "WindowData"'):
        open_source(layer("WindowData", ""), "here")
    with pytest.raises(SphereFaceError, match='no reader .* "ReLU"; expected Data, HDF5Data'):
        open_source(layer("ReLU", ""))
    with pytest.raises(TypeError, match="batch"):
        open_source(layer("MemoryData", ""), batch=3)


def test_several_data_layers_of_a_net_are_one_source(layer, faces):
    images = layer("ImageData", faces.param("shuffle: true"))
    memory = layer(
        "MemoryData",
        "memory_data_param { batch_size: 1 channels: 1 height: 1 width: 1 }",
        ("extra", "extra_label"),
    )
    memory.name = "memory"
    relu = layer("ReLU", "")

    def opened(seed):
        sources = open_sources([(images, "a"), (relu, "b"), (memory, "c")], workers=2, seed=seed)
        sources.members["memory"].set_arrays([[[[3]]], [[[4]]]], [0, 1])
        return sources

    with opened(1) as sources:
        assert sources.shapes == {
            "data": (4, 3, 9, 7), "label": (4,), "extra": (1, 1, 1, 1), "extra_label": (1,),
        }  # fmt: skip
        for _ in range(3):
            sources.next_batch()
        state, batch = sources.state(), sources.next_batch()
        assert set(state) == {"data", "memory"}
    with opened(2) as again:
        again.restore(state)
        for name, array in again.next_batch().items():
            assert (array == batch[name]).all()
        again.seek(1)
        assert again.next_batch()["extra"] == 4
    assert open_sources([(relu, "")]) is None


def test_what_was_opened_is_closed_after_an_error(layer, face_lmdb):
    text = f'data_param {{ source: "{face_lmdb}" backend: LMDB batch_size: 2 }}'
    good, bad = layer("Data", text), layer("ImageData", 'image_data_param { source: "gone" }')
    for _ in range(2):
        with pytest.raises(SphereFaceError, match="b: gone"):
            open_sources([(good, "a"), (bad, "b")])
    held = {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}
    assert str(face_lmdb / "data.mdb") not in held


@pytest.fixture
def two(layer, faces):
    """Return a function that opens two image layers of given names."""

    def opened(*names):
        layers = []
        for index, name in enumerate(names):
            tops = (f"data{index}", f"label{index}")
            param = layer("ImageData", faces.param("shuffle: true"), tops)
            param.name = name
            layers.append((param, name))
        return open_sources(layers, workers=0, seed=len(names[0]))

    return opened


def test_layers_that_were_renamed_go_on_in_their_order(two):
    with two("a", "b") as sources:
        sources.next_batch()
        state = sources.state()
        expected = sources.next_batch()
    with two("new", "b") as sources:
        assert sources.restore(state) == ['data layer "new" goes on where "a" was']
        found = sources.next_batch()
    for name, array in expected.items():
        assert (found[name] == array).all()
    # pycaffe once numbered them.
    with two("new", "b") as sources:
        assert sources.restore({"0": state["a"], "7": state["b"]}) == []
        assert (sources.next_batch()["data1"] == expected["data1"]).all()


def test_layers_that_came_and_went(two):
    with two("a", "b") as sources:
        state = sources.state()
    with two("b") as sources:
        assert sources.restore(state) == ['the state of data layer "a" is dropped']
    with two("a", "b", "c") as sources:
        assert sources.restore(state) == ['data layer "c" starts anew']


def test_layers_of_one_name_are_both_read(two):
    with two("a", "a") as sources:
        assert set(sources.next_batch()) == {"data0", "label0", "data1", "label1"}
