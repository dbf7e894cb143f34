from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto import schema
from sphereface.proto.text import parse, read
from sphereface.proto.upgrade_file import upgrade_file
from sphereface.proto.wire import LENGTH, VARINT, encode_key, encode_varint
from sphereface.weights import read_caffemodel, write_caffemodel_h5

GOLDEN = Path(__file__).parents[1] / "golden"

V1_TEXT = """
name: "old" # a comment
input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 4 kernel_size: 3 } }
"""


def save(tmp_path, content: str | bytes, name: str = "file") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def framed(number: int, *pieces: bytes) -> bytes:
    content = b"".join(pieces)
    return encode_key(number, LENGTH) + encode_varint(len(content)) + content


def test_text_of_a_net(tmp_path):
    path = save(tmp_path, V1_TEXT)
    upgraded = upgrade_file(path)
    assert upgraded.kind == "net"
    assert upgraded.changes == ("V1 layers to layer", "input fields to an Input layer")
    upgraded.save(tmp_path / "new")
    net = read(tmp_path / "new")
    assert [(layer.name, layer.type) for layer in net.layer] == [
        ("input", "Input"),
        ("conv", "Convolution"),
    ]
    assert list(net.layer[0].input_param.shape[0].dim) == [1, 3, 8, 8]
    assert [param.lr_mult for param in net.layer[1].param] == [1, 2]
    assert path.read_text() == V1_TEXT
    assert upgrade_file(tmp_path / "new").changes == ()


def test_text_of_a_solver(tmp_path):
    path = save(tmp_path, 'net: "train.prototxt" # net\nbase_lr: 0.01\nsolver_type: NESTEROV\n')
    upgraded = upgrade_file(path)
    assert (upgraded.kind, upgraded.changes) == ("solver", ("solver_type to type",))
    upgraded.save(path)
    solver = parse(path.read_text(), "SolverParameter").message
    assert solver.type == "Nesterov"
    assert not solver.HasField("solver_type")
    assert solver.net == "train.prototxt"


def test_a_comment_does_not_make_a_solver(tmp_path):
    path = save(tmp_path, "# base_lr: 0.1\n" + V1_TEXT)
    assert upgrade_file(path).kind == "net"


def test_todays_files_are_copied_byte_by_byte(tmp_path):
    text = 'name: "x"   # kept\nlayer { name: "d" type: "Input" top: "d" }\n'
    for content in (text, (GOLDEN / "train" / "sgd_iter_40.caffemodel").read_bytes()):
        path = save(tmp_path, content)
        upgraded = upgrade_file(path)
        assert upgraded.changes == ()
        upgraded.save(tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == path.read_bytes()


def v1_net(blob: bytes, layer_extra: bytes = b"", net_extra: bytes = b"") -> bytes:
    layer = schema.message("V1LayerParameter")(name="conv", bottom=["data"], top=["conv"])
    layer.type = schema.enum_values("V1LayerParameter.LayerType")["CONVOLUTION"]
    layer.convolution_param.num_output = 4
    layer.blobs_lr.extend([1, 2])
    relu = schema.message("V1LayerParameter")(name="relu", bottom=["conv"], top=["conv"])
    relu.type = schema.enum_values("V1LayerParameter.LayerType")["RELU"]
    blobs = framed(6, blob)
    return (
        framed(1, b"old")
        + framed(2, blobs, layer.SerializeToString(), layer_extra)
        + net_extra
        + framed(2, relu.SerializeToString())
    )


def odd_blob(rng) -> tuple[bytes, np.ndarray]:
    """Return a blob with legacy dims, an unknown field and float values, and the values."""
    values = rng.normal(size=(4, 3, 2, 2)).astype("<f4")
    dims = b"".join(
        encode_key(number, VARINT) + encode_varint(size)
        for number, size in zip((1, 2, 3, 4), values.shape, strict=True)
    )
    return dims + framed(77, b"unknown") + framed(5, values.tobytes()), values


def test_binary_v1(tmp_path, rng):
    blob, values = odd_blob(rng)
    unknown = framed(900, b"net's own")
    path = save(tmp_path, v1_net(blob, net_extra=unknown))
    upgraded = upgrade_file(path)
    assert (upgraded.kind, upgraded.changes) == ("binary net", ("V1 layers to layer",))
    upgraded.save(path)
    data = path.read_bytes()
    assert framed(7, blob) in data
    assert unknown in data
    model = read_caffemodel(path)
    assert model.name == "old"
    assert [(layer.field, layer.name, layer.type) for layer in model.layers] == [
        ("layer", "conv", "Convolution"),
        ("layer", "relu", "ReLU"),
    ]
    np.testing.assert_array_equal(model.layers[0].blobs[0].data, values)
    header = schema.decode("LayerParameter", model.layers[0].header)
    assert [param.lr_mult for param in header.param] == [1, 2]
    assert header.convolution_param.num_output == 4
    assert upgrade_file(path).changes == ()


def test_unknown_fields_of_v1_layers_are_told(tmp_path, rng):
    path = save(tmp_path, v1_net(odd_blob(rng)[0], layer_extra=framed(901, b"x")))
    assert upgrade_file(path).changes[-1] == 'layer "conv": unknown fields 901 dropped'


def test_binary_v0(tmp_path, rng):
    blob, values = odd_blob(rng)
    v0 = schema.message("V0LayerParameter")
    conv = v0(name="conv", type="conv", num_output=4, kernelsize=2).SerializeToString()
    pad = v0(name="pad", type="padding", pad=3).SerializeToString()
    net = (
        framed(1, b"older")
        + framed(3, b"data")
        + b"".join(encode_key(4, VARINT) + encode_varint(size) for size in (1, 3, 8, 8))
        + framed(2, framed(1, pad), framed(2, b"data"), framed(3, b"pad"))
        + framed(2, framed(1, framed(50, blob), conv), framed(2, b"pad"), framed(3, b"conv"))
    )
    upgraded = upgrade_file(save(tmp_path, net))
    assert upgraded.changes[:2] == ("V0 layers to V1 layers", "V1 layers to layer")
    upgraded.save(tmp_path / "new")
    model = read_caffemodel(tmp_path / "new")
    assert [layer.name for layer in model.layers] == ["input", "conv"]
    np.testing.assert_array_equal(model.layers[1].blobs[0].data, values)
    header = schema.decode("LayerParameter", model.layers[1].header)
    assert list(header.convolution_param.pad) == [3]
    assert framed(7, blob) in (tmp_path / "new").read_bytes()


def test_layers_of_today_are_kept_whole(tmp_path, rng):
    """A binary net of today with inputs of the old kind: only they change."""
    blob, _ = odd_blob(rng)
    layer = schema.message("LayerParameter")(name="c", type="Convolution", bottom=["data"])
    whole = framed(100, layer.SerializeToString(), framed(903, b"fork's own"), framed(7, blob))
    shape = schema.message("BlobShape")(dim=[1, 3, 8, 8]).SerializeToString()
    path = save(tmp_path, framed(1, b"n") + framed(3, b"data") + framed(8, shape) + whole)
    upgraded = upgrade_file(path)
    assert upgraded.changes == ("input fields to an Input layer",)
    upgraded.save(path)
    assert path.read_bytes().endswith(whole)
    assert [layer.name for layer in read_caffemodel(path).layers] == ["input", "c"]


def test_what_cannot_be_upgraded(tmp_path):
    write_caffemodel_h5(tmp_path / "a.h5", {"a": [np.zeros(2, np.float32)]})
    with pytest.raises(SphereFaceError, match=r"a\.h5: an HDF5 file"):
        upgrade_file(tmp_path / "a.h5")
    cut = (GOLDEN / "train" / "sgd_iter_40.caffemodel").read_bytes()[:500]
    with pytest.raises(SphereFaceError, match="truncated"):
        upgrade_file(save(tmp_path, cut))
    with pytest.raises(SphereFaceError, match=r"typo:1:1: unknown field \"nmae\".*\"name\""):
        upgrade_file(save(tmp_path, 'nmae: "x"', "typo"))
