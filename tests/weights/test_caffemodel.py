from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sphereface.errors import SphereFaceError
from sphereface.proto import schema
from sphereface.weights import (
    Blob,
    caffemodel,
    load_weights,
    read_caffemodel,
    rewrite_caffemodel,
    write_caffemodel,
)

GOLDEN = Path(__file__).parent.parent / "golden"
RECORDED = [
    GOLDEN / "train/sgd_iter_40.caffemodel",
    GOLDEN / "train/sgd_iter_80.caffemodel",
    GOLDEN / "orl_sphereface4/orl_iter_300.caffemodel",
    *(f"mtcnn/det{i}.caffemodel" for i in (1, 2, 3)),
]


@pytest.fixture(params=RECORDED, ids=lambda path: Path(path).name)
def recorded(request, shared) -> Path:
    """A file that Caffe wrote; MTCNN's are not part of the repository."""
    return shared(request.param) if isinstance(request.param, str) else request.param


def net(**fields):
    return schema.message("NetParameter")(**fields)


def layer(name: str, *blobs: np.ndarray, kind: str = "Custom", **fields):
    message = schema.message("LayerParameter")(name=name, type=kind, **fields)
    for array in blobs:
        blob = message.blobs.add(data=array.ravel().tolist())
        blob.shape.dim.extend(array.shape)
    return message


def save(path: Path, message) -> Path:
    path.write_bytes(message.SerializeToString())
    return path


def test_recorded_files_as_protobuf_reads_them(recorded: Path) -> None:
    path = recorded
    expected = net()
    expected.ParseFromString(path.read_bytes())
    model = read_caffemodel(path)
    assert model.name == expected.name
    assert [(x.name, x.type) for x in model.layers] == [(x.name, x.type) for x in expected.layer]
    blobs = 0
    for ours, theirs in zip(model.layers, expected.layer, strict=True):
        for blob, proto in zip(ours.blobs, theirs.blobs, strict=True):
            np.testing.assert_array_equal(blob.data.ravel(), np.array(proto.data, "f4"))
            if proto.HasField("shape"):
                assert blob.data.shape == tuple(proto.shape.dim)
            else:
                assert blob.data.shape == (proto.num, proto.channels, proto.height, proto.width)
            assert not blob.data.flags.owndata
            blobs += 1
        theirs.ClearField("blobs")
        assert ours.header == theirs.SerializeToString(deterministic=True)
    assert blobs >= 9


def test_recorded_files_are_written_again_byte_for_byte(recorded: Path, tmp_path: Path) -> None:
    path = recorded
    model = read_caffemodel(path)
    weights = {name: [a.copy() for a in arrays] for name, arrays in model.weights().items()}
    out = tmp_path / "out.caffemodel"
    rewrite_caffemodel(model, out, {name: arrays for name, arrays in weights.items() if arrays})
    assert out.read_bytes() == path.read_bytes()
    write_caffemodel(out, model.name, [(x.header, weights[x.name]) for x in model.layers])
    assert out.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_mtcnn_blobs_have_the_recorded_sums(mtcnn: Path, number: int) -> None:
    sums = np.load(GOLDEN / "mtcnn/nets.npz")
    weights = load_weights(mtcnn / f"det{number}.caffemodel")
    keys = [key for key in sums.files if key.startswith(f"det{number}/sum/")]
    assert len(keys) >= 13
    for key in keys:
        _, _, name, index = key.split("/")
        array = weights[name][int(index)]
        assert array.shape == tuple(int(size) for size in sums[key][1:])
        assert float(array.sum(dtype=np.float64)) == pytest.approx(sums[key][0], rel=1e-5, abs=1e-6)


def test_replacing_one_layer_keeps_every_other_byte(tmp_path: Path) -> None:
    path = GOLDEN / "train/sgd_iter_40.caffemodel"
    model = read_caffemodel(path)
    new = np.full((10, 8), 0.125, np.float32)
    out = tmp_path / "out.caffemodel"
    rewrite_caffemodel(model, out, {"fc6": [new]})
    before, after = path.read_bytes(), out.read_bytes()
    payload = model.weights()["fc6"][0].tobytes()
    assert after == before.replace(payload, new.tobytes())
    # The margin layer's own parameters (field 147 of this fork) are still there.
    message = net()
    message.ParseFromString(after)
    (fc6,) = (x for x in message.layer if x.name == "fc6")
    assert fc6.margin_inner_product_param.num_output == 10
    assert fc6.margin_inner_product_param.lambda_min == 5


def test_rewriting_the_file_that_is_mapped(tmp_path: Path) -> None:
    path = save(tmp_path / "net", net(layer=[layer("a", np.ones(3)), layer("b", np.zeros(2))]))
    model = read_caffemodel(path)
    rewrite_caffemodel(model, path, {"a": [np.float32([4, 5, 6])]})
    assert load_weights(path)["a"][0].tolist() == [4, 5, 6]
    assert model.weights()["a"][0].tolist() == [1, 1, 1]


def test_unknown_fields_survive_and_lengths_are_recounted(tmp_path: Path) -> None:
    """A diff is dropped with its blob, so the lengths around it change; unknown fields stay."""
    message = net(layer=[layer("a")])
    blob = message.layer[0].blobs.add(data=[1, 2], diff=[3, 4])
    blob.shape.dim.append(2)
    message.layer[0].MergeFromString(b"\xb2\x3e\x03abc")  # field 998
    message.MergeFromString(b"\xb2\x3e\x02zz")
    model = read_caffemodel(save(tmp_path / "net", message))
    assert model.layers[0].blobs[0].diff.tolist() == [3, 4]
    rewrite_caffemodel(model, tmp_path / "out", {"a": [np.float32([8, 9])]})
    blob.ClearField("diff")
    blob.data[:] = [8, 9]
    assert (tmp_path / "out").read_bytes() == message.SerializeToString()
    assert b"abc" in message.SerializeToString()


def test_replacements_that_do_not_fit(tmp_path: Path) -> None:
    path = save(tmp_path / "net", net(layer=[layer("a", np.ones(2))]))
    model = read_caffemodel(path)
    for name, arrays, problem in (
        ("b", [], 'no layer "b" with blobs'),
        ("a", [np.ones(2), np.ones(3)], 'layer "a": 2 arrays for 1 blobs'),
        ("a", [np.ones(3)], r"blob 0 has shape \(3,\); expected the file's shape \(2,\)"),
    ):
        with pytest.raises(SphereFaceError, match=problem):
            rewrite_caffemodel(model, tmp_path / "out", {name: arrays})
    assert [file.name for file in tmp_path.iterdir()] == ["net"]


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.text(max_size=6), st.lists(st.lists(st.integers(0, 3), max_size=3))),
        min_size=1,
        max_size=5,
    )
)
def test_written_files_are_protobufs(tmp_path_factory, layers) -> None:
    """Our file is byte for byte what protobuf makes of the same net, and reads back alike."""
    rng = np.random.default_rng(0)
    message, parts = net(name="net"), []
    for name, shapes in layers:
        arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
        full = layer(name, *arrays, bottom=["x"], phase=1, propagate_down=[True])
        full.margin_inner_product_param.base = 7
        message.layer.add().CopyFrom(full)
        full.ClearField("blobs")
        parts.append((full.SerializeToString(), arrays))
    path = tmp_path_factory.mktemp("net") / "net.caffemodel"
    write_caffemodel(path, "net", parts)
    assert path.read_bytes() == message.SerializeToString(deterministic=True)
    for record, (header, arrays) in zip(read_caffemodel(path).layers, parts, strict=True):
        assert record.header == header
        for blob, array in zip(record.blobs, arrays, strict=True):
            np.testing.assert_array_equal(blob.data, array)


def test_v1_layers_with_legacy_shapes(tmp_path: Path) -> None:
    message = net(name="old")
    v1 = message.layers.add(name="ip", type=14, blobs_lr=[1, 2])
    v1.blobs.add(num=1, channels=1, height=2, width=3, data=range(6))
    v1.blobs.add(num=1, channels=1, height=1, width=2, data=[7, 8])
    message.layers.add(name="loss", type=21)
    path = save(tmp_path / "net", message)
    path.write_bytes(path.read_bytes() + b"\x12\x07\x22\x03new\x28\x28")  # a fork's type 40
    model = read_caffemodel(path)
    assert [(x.name, x.type, x.field) for x in model.layers] == [
        ("ip", "InnerProduct", "layers"),
        ("loss", "SoftmaxWithLoss", "layers"),
        ("new", "V1 type 40", "layers"),
    ]
    assert [blob.data.shape for blob in model.layers[0].blobs] == [(1, 1, 2, 3), (1, 1, 1, 2)]
    assert model.layers[0].blobs[0].data.ravel().tolist() == list(range(6))
    rewrite_caffemodel(model, tmp_path / "out", {"ip": [np.ones((2, 3)), np.float32([9, 9])]})
    v1.blobs[0].ClearField("data")
    v1.blobs[0].double_data.extend([1] * 6)
    v1.blobs[1].data[:] = [9, 9]
    again = net()
    again.ParseFromString((tmp_path / "out").read_bytes())
    assert [x.name for x in again.layers] == ["ip", "loss", "new"]
    del again.layers[2]
    assert again == message


def test_v0_layers_inside_v1(tmp_path: Path) -> None:
    message = net()
    v1 = message.layers.add(bottom=["data"], top=["ip"])
    v1.layer.name, v1.layer.type, v1.layer.num_output = "ip", "innerproduct", 2
    v1.layer.blobs.add(num=1, channels=1, height=1, width=200, data=range(200))
    path = save(tmp_path / "net", message)
    (record,) = read_caffemodel(path).layers
    assert (record.name, record.type, record.field) == ("ip", "innerproduct", "layers.layer")
    assert record.blobs[0].data.shape == (1, 1, 1, 200)
    v1.layer.blobs[0].data[:] = [0.5] * 200
    rewrite_caffemodel(
        read_caffemodel(path), tmp_path / "out", {"ip": [np.full(200, 0.5, np.float32)]}
    )
    assert (tmp_path / "out").read_bytes() == message.SerializeToString()
    v1.layer.ClearField("blobs")
    assert record.header == v1.SerializeToString()


def test_a_name_after_the_blobs_and_repeated_names(tmp_path: Path) -> None:
    """Of layers of one name the last with blobs counts, as if copied in order."""
    part = b"\x3a\x06\x2a\x04\x00\x00\x80\x3f" + b"\x0a\x01z"
    data = b"\xa2\x06" + bytes([len(part)]) + part
    path = tmp_path / "net"
    rest = net(layer=[layer("data"), layer("w", np.ones(1)), layer("w", np.zeros(2)), layer("w")])
    path.write_bytes(data + rest.SerializeToString())
    weights = load_weights(path)
    assert list(weights) == ["z", "data", "w"]
    assert weights["z"][0] == 1.0
    assert weights["w"][0].tolist() == [0, 0]


def test_written_blobs_take_diffs_halves_and_doubles(tmp_path: Path) -> None:
    header = layer("a").SerializeToString()
    blobs = [
        Blob(np.float32([1, 2]), np.float32([3, 4])),
        np.float16([0.5]),
        np.array([[0.1]]),
    ]
    write_caffemodel(tmp_path / "net", "n", [(header, blobs)])
    message = net()
    message.ParseFromString((tmp_path / "net").read_bytes())
    first, second, third = message.layer[0].blobs
    assert (list(first.data), list(first.diff)) == ([1, 2], [3, 4])
    assert list(second.data) == [0.5]
    assert list(third.double_data) == [0.1]
    assert not third.data


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "net"
    write_caffemodel(path, "n", [(layer("a").SerializeToString(), [np.ones(1, "f4")])])
    before = path.read_bytes()
    with pytest.raises(SphereFaceError, match='net: layer "b": an array of int64'):
        write_caffemodel(path, "n", [(layer("b").SerializeToString(), [np.arange(3)])])
    with pytest.raises(SphereFaceError, match="the header holds blobs"):
        write_caffemodel(path, "n", [(layer("b", np.ones(1)).SerializeToString(), [])])
    monkeypatch.setattr(caffemodel, "MAX_MESSAGE", 1000)
    with pytest.raises(SphereFaceError, match="larger than 2 GiB"):
        write_caffemodel(path, "n", [(layer("b").SerializeToString(), [np.ones(250, "f4")])])
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["net"]


def test_files_that_are_no_caffemodel(tmp_path: Path) -> None:
    with pytest.raises(SphereFaceError, match="no layers"):
        read_caffemodel(save(tmp_path / "net", net(name="empty")))
    (tmp_path / "text").write_text('name: "SpherefaceNet-20"\nlayer { }')
    with pytest.raises(SphereFaceError, match="text: a text file; expected a caffemodel"):
        load_weights(tmp_path / "text")


def test_errors_name_byte_and_layer(tmp_path: Path) -> None:
    message = net(layer=[layer("ok", np.ones(2)), layer("fc5", np.ones((2, 3)))])
    message.layer[1].blobs[0].shape.dim[:] = [2, 4]
    path = save(tmp_path / "net", message)
    begin = path.read_bytes().index(b"\x2a\x18")
    with pytest.raises(SphereFaceError) as caught:
        read_caffemodel(path)
    assert str(caught.value) == (
        f'{path}: byte {begin}: layer "fc5": a blob of shape (2, 4) holds 6 values; expected 8'
    )
