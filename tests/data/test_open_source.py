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
        with pytest.raises(
            SphereFaceError, match="state of the data layers data; expected data, m"
        ):
            again.restore({"data": state["data"]})
    assert open_sources([(relu, "")]) is None


def test_what_was_opened_is_closed_after_an_error(layer, face_lmdb):
    text = f'data_param {{ source: "{face_lmdb}" backend: LMDB batch_size: 2 }}'
    good, bad = layer("Data", text), layer("ImageData", 'image_data_param { source: "gone" }')
    for _ in range(2):
        with pytest.raises(SphereFaceError, match="b: gone"):
            open_sources([(good, "a"), (bad, "b")])
    from sphereface.data.record_file import _opened

    assert not _opened
