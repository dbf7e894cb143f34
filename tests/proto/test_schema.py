from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from sphereface.errors import SphereFaceError
from sphereface.proto import schema
from sphereface.proto.declaration import parse_declaration, resolve_types
from sphereface.proto.text import parse

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROTO = ROOT / "python" / "sphereface" / "proto"
Field = descriptor_pb2.FieldDescriptorProto

with (HERE / "caffe_schema.tsv").open() as stream:
    ROWS = list(csv.DictReader(stream, delimiter="\t"))
FIELDS = [row for row in ROWS if row["# kind"] == "field"]
# Where forks collide the SphereFace fork's field keeps its number, BVLC's gets a private one.
MOVED = {("LayerParameter", "swish_param"): 10017, ("LayerParameter", "clip_param"): 10018}


def compiled_file():
    data = (PROTO / "caffe.desc").read_bytes()
    return descriptor_pb2.FileDescriptorSet.FromString(data).file[0]


def written_file():
    file = parse_declaration((PROTO / "caffe.proto").read_text(), "caffe.proto")
    resolve_types(file.message_type, file)
    return file


def without_json_names(message):
    """Clear what protoc adds, in nested messages too."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        without_json_names(nested)
    return message


@pytest.fixture
def own_pool(monkeypatch):
    """Undo extensions after the test."""
    monkeypatch.setattr(schema, "_pool", schema._pool)


@pytest.mark.parametrize("row", FIELDS, ids=lambda r: f"{r['message_or_enum']}.{r['name']}")
def test_every_field_of_caffe(row):
    (field,) = [
        f
        for m in compiled_file().message_type
        if m.name == row["message_or_enum"]
        for f in m.field
        if f.name == row["name"]
    ]
    assert field.number == MOVED.get((row["message_or_enum"], row["name"]), int(row["number"]))
    assert Field.Label.Name(field.label) == f"LABEL_{row['label'].upper()}"
    if field.type in (Field.TYPE_MESSAGE, Field.TYPE_ENUM):
        assert field.type_name == f".caffe.{row['type']}"
    else:
        assert Field.Type.Name(field.type) == f"TYPE_{row['type'].upper()}"
    assert field.options.packed == (row["options"] == "packed")
    assert field.HasField("default_value") == bool(row["default"])
    if row["type"] in ("float", "double") and row["default"]:
        assert float(field.default_value) == float(row["default"])
    else:
        assert field.default_value == row["default"]


@pytest.mark.parametrize(
    "row",
    [row for row in FIELDS if row["default"]],
    ids=lambda r: f"{r['message_or_enum']}.{r['name']}",
)
def test_default_as_the_message_gives_it(row):
    value = getattr(schema.message(row["message_or_enum"])(), row["name"])
    if "." in row["type"] or row["type"] == "Phase":
        assert value == schema.enum_values(row["type"])[row["default"]]
    elif isinstance(value, bool):
        assert str(value).lower() == row["default"]
    elif isinstance(value, str):
        assert value == row["default"]
    else:
        assert value == pytest.approx(float(row["default"]), rel=1e-6)


def test_every_enum_of_caffe():
    expected: dict[str, dict[str, int]] = {}
    for row in ROWS:
        if row["# kind"] == "enum":
            expected.setdefault(row["message_or_enum"], {})[row["name"]] = int(row["number"])
    assert len(expected) > 20
    for name, values in expected.items():
        # Forks' further values are beyond Caffe's.
        found = schema.enum_values(name)
        assert values.items() <= found.items()
        assert all(found[extra] > 10000 for extra in found.keys() - values.keys())


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (
            "LargeMarginInnerProductParameter",
            "num_output:1 type:2 weight_filler:3 axis:4 base:5 gamma:6 power:7 iteration:8 "
            "lambda_min:9",
        ),
        (
            "InterClassParameter",
            "num_output:1 type:2 weight_filler:3 axis:4 iteration:5 alpha_start_iter:6 "
            "alpha_start_value:7 alpha_step:8 alpha_stepvalue:9 normalize:10",
        ),
        ("CenterLossParameter", "num_output:1 center_filler:2 axis:3"),
    ],
)
def test_numbers_of_the_face_forks(message, fields):
    found = {f.name: f.number for f in schema.message(message).DESCRIPTOR.fields}
    assert found == {n: int(i) for n, i in (one.split(":") for one in fields.split())}


def test_face_parameters_by_name():
    layer = schema.message("LayerParameter")()
    assert layer.DESCRIPTOR.fields_by_name["margin_inner_product_param"].number == 147
    assert layer.inter_class_param.alpha_step == pytest.approx(0.1)
    assert layer.inter_class_param.normalize is True
    layer.normalize_param.normalize_type = "L1"
    layer.normalize_param.bp_norm = True
    layer.label_specific_add_param.bias = -0.35
    layer.label_specific_rescale_param.positive_weight = 2
    layer.label_specific_rescale_param.negative_weight = 2
    layer.inner_product_param.normalize = True
    layer.general_contrastive_loss_param.positive_margin = 0.1
    layer.general_contrastive_loss_param.negative_margin = 0.1
    layer.general_contrastive_loss_param.negative_weight = 0.1
    layer.general_triplet_loss_param.margin = 1
    layer.general_triplet_loss_param.add_center_loss = True
    layer.general_triplet_loss_param.hardest_only = True
    layer.general_triplet_loss_param.negative_weight = 1
    layer.bn_param.slope_filler.value = 1
    layer.bn_param.bias_filler.value = 0
    assert schema.decode("LayerParameter", schema.encode(layer)) == layer


def test_field_numbers_of_a_message_are_unique():
    for message in compiled_file().message_type:
        numbers = [f.number for f in message.field]
        assert len(numbers) == len(set(numbers)), message.name


def test_desc_is_what_the_proto_says():
    compiled, written = compiled_file(), written_file()
    assert [m.name for m in compiled.message_type] == [m.name for m in written.message_type]
    for one, other in zip(compiled.message_type, written.message_type, strict=True):
        assert without_json_names(one) == other
    assert compiled.enum_type == written.enum_type
    assert compiled.package == written.package == "caffe"


def test_desc_is_what_protoc_makes_where_protoc_is():
    if importlib.util.find_spec("grpc_tools") is not None:
        command = [sys.executable, str(ROOT / "tools" / "compile_proto.py"), "--check"]
        subprocess.run(command, check=True, timeout=60)


def test_unknown_names_give_the_nearest():
    with pytest.raises(SphereFaceError, match='unknown message "NetParamter"; did you mean "NetPa'):
        schema.message("NetParamter")
    with pytest.raises(SphereFaceError, match='unknown enum "Fase"'):
        schema.enum_values("Fase")
    assert {"NetParameter", "BlobProto"} <= set(schema.message_names())


# Wire bytes written by hand: field 147 -> tag 0x9a 0x09, 148 -> 0xa2 0x09, 201 -> 0xca 0x0c,
# 202 -> 0xd2 0x0c, 10002 -> 0x92 0xf1 0x04.
FORKS = [
    ("Swish", b"\x9a\x09\x05\x0d\x00\x00\x40\x40", "swish_param", {"beta": 3.0}),
    (
        "Clip",
        b"\xa2\x09\x0a\x0d\x00\x00\x80\xbf\x15\x00\x00\x40\x40",
        "clip_param",
        {"min": -1.0, "max": 3.0},
    ),
    (
        "InterClass",
        b"\xa2\x09\x0c\x08\x07\x10\x01\x28\x02\x4a\x02\x05\x09\x50\x00",
        "inter_class_param",
        {"num_output": 7, "type": 1, "iteration": 2, "alpha_stepvalue": [5, 9], "normalize": False},
    ),
    (
        "CenterLoss",
        b"\x9a\x09\x0e\x08\x07\x12\x08\x0a\x06xavier\x18\x02",
        "center_loss_param",
        {"num_output": 7, "axis": 2},
    ),
    ("BN", b"\xca\x0c\x05\x25\x00\x00\x00\x40", "bn_param", {"eps": 2.0}),
    (
        "LargeMarginInnerProduct",
        b"\xd2\x0c\x04\x08\x07\x10\x03",
        "largemargin_inner_product_param",
        {"num_output": 7, "type": 3},
    ),
    ("MultiBoxLoss", b"\xca\x0c\x02\x20\x05", "multibox_loss_param", {"num_classes": 5}),
    ("Permute", b"\xd2\x0c\x04\x08\x01\x08\x00", "permute_param", {"order": [1, 0]}),
    ("Proposal", b"\xca\x0c\x02\x38\x09", "proposal_param", {"post_nms_topn": 9}),
    ("PSROIPooling", b"\x92\xf1\x04\x02\x10\x03", "psroi_pooling_param", {"output_dim": 3}),
    (
        "MarginInnerProduct",
        b"\x9a\x09\x04\x08\x07\x10\x03",
        "margin_inner_product_param",
        {"num_output": 7, "type": 3},
    ),
]


@pytest.mark.parametrize(("kind", "wire", "field", "values"), FORKS, ids=[f[0] for f in FORKS])
def test_colliding_numbers_are_read_by_type(kind, wire, field, values):
    layer = b"\x0a\x01x\x12" + bytes([len(kind)]) + kind.encode() + wire
    net = b"\xa2\x06" + bytes([len(layer)]) + layer
    message = schema.decode("NetParameter", net)
    (found,) = message.layer
    assert [f.name for f, _ in found.ListFields()] == ["name", "type", field]
    for name, value in values.items():
        assert getattr(getattr(found, field), name) == value
    if kind == "CenterLoss":
        assert found.center_loss_param.center_filler.type == "xavier"
    assert schema.encode(message) == net  # and written back under the fork's number
    assert schema.encode(found) == layer
    assert [f.name for f, _ in found.ListFields()] == ["name", "type", field]


def test_colliding_field_of_an_unknown_type_survives():
    layer = b"\x0a\x01x\x12\x05Other" + FORKS[1][1]
    assert schema.encode(schema.decode("LayerParameter", layer)) == layer


def test_broken_binary_is_an_error_with_the_file():
    with pytest.raises(SphereFaceError, match=r"^a\.caffemodel: not a binary NetParameter"):
        schema.decode("NetParameter", b"\xa2\x06\x7f\x00", "a.caffemodel")


GAIN = """
    // a layer of somebody's own
    message GainParameter {
      enum Mode { SOFT = 0; HARD = 1; }
      optional float gain = 1 [default = 2.5];
      optional Mode mode = 2 [default = HARD];
      optional FillerParameter filler = 3;
      repeated int32 steps = 4 [packed = true];
      optional string note = 5 [default = "a\\"b"];
    }
"""


def test_a_message_of_ones_own(own_pool):
    before = schema.message("NetParameter")(name="old")
    schema.extend_layer_parameter("gain_param", GAIN)
    layer = schema.message("LayerParameter")(name="g")
    assert layer.gain_param.gain == 2.5
    assert layer.gain_param.mode == schema.enum_values("GainParameter.Mode")["HARD"] == 1
    assert layer.gain_param.note == 'a"b'
    layer.gain_param.filler.type = "xavier"
    layer.gain_param.steps.extend([1, 2])
    assert schema.decode("LayerParameter", schema.encode(layer)) == layer
    carried = schema.current(before)
    carried.layer.add().CopyFrom(layer)
    assert carried.name == "old"
    assert schema.current(carried) is carried


def test_extending_twice_is_harmless_and_conflicts_are_named(own_pool):
    schema.extend_layer_parameter("gain_param", GAIN)
    made = schema.message("LayerParameter")
    schema.extend_layer_parameter("gain_param", GAIN)
    assert schema.message("LayerParameter") is made
    with pytest.raises(SphereFaceError, match='"GainParameter" is already declared, differently'):
        schema.extend_layer_parameter("gain_param", GAIN.replace("2.5", "3"))
    with pytest.raises(SphereFaceError, match="already has convolution_param = 106"):
        schema.extend_layer_parameter("convolution_param", "GainParameter")
    with pytest.raises(SphereFaceError, match="already has relu_param = 123"):
        schema.extend_layer_parameter("other_param", "GainParameter", number=123)
    with pytest.raises(SphereFaceError, match='unknown type "FillerParamter"; did you mean'):
        schema.extend_layer_parameter(
            "x_param", "message X { optional FillerParamter filler = 1; }"
        )
    with pytest.raises(SphereFaceError, match="x_param: no message is declared"):
        schema.extend_layer_parameter("x_param", "enum E { A = 0; }")
    with pytest.raises(SphereFaceError, match="x_param: the declaration is not valid"):
        schema.extend_layer_parameter(
            "x_param", "message X { optional int32 a = 1; optional int32 b = 1; }"
        )
    assert schema.message("LayerParameter") is made


def test_extension_number_is_the_same_in_every_process(own_pool):
    schema.extend_layer_parameter("gain_param", GAIN)
    code = (
        "from sphereface.proto import schema;"
        "schema.extend_layer_parameter('b_param', 'message B { optional float b = 1; }');"
        "schema.extend_layer_parameter('gain_param', 'message G { optional float g = 1; }');"
        "f = schema.message('LayerParameter').DESCRIPTOR.fields_by_name;"
        "print(f['gain_param'].number)"
    )
    printed = subprocess.check_output(
        [sys.executable, "-c", code], text=True, env={"PYTHONPATH": str(ROOT / "python")}
    )
    fields = schema.message("LayerParameter").DESCRIPTOR.fields_by_name
    assert int(printed) == fields["gain_param"].number


def test_existing_message_or_generated_class_as_parameter(own_pool):
    schema.extend_layer_parameter("second_scale_param", "ScaleParameter", number=7001)
    layer = schema.message("LayerParameter")()
    layer.second_scale_param.axis = 2
    # tag 7001 << 3 | 2, length, axis
    assert layer.SerializeToString() == b"\xca\xb5\x03\x02\x08\x02"

    file = descriptor_pb2.FileDescriptorProto(name="theirs.proto", package="theirs")
    file.message_type.extend(parse_declaration(GAIN.replace("optional Filler", "// ")).message_type)
    resolve_types(file.message_type, file)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    schema.extend_layer_parameter("their_param", pool.FindMessageTypeByName("theirs.GainParameter"))
    assert schema.message("LayerParameter")().their_param.mode == 1


def test_lives_beside_a_real_caffe_pb2():
    code = """
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from importlib import resources
data = resources.files("sphereface.proto").joinpath("caffe.desc").read_bytes()
file = descriptor_pb2.FileDescriptorSet.FromString(data).file[0]
descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
from sphereface.proto import schema
found = descriptor_pool.Default().FindMessageTypeByName("caffe.NetParameter")
if hasattr(message_factory, "GetMessageClass"):
    make = message_factory.GetMessageClass
else:
    make = message_factory.MessageFactory().GetPrototype
theirs = make(found)(name="theirs")
ours = schema.current(theirs)
assert type(ours) is schema.message("NetParameter") is not type(theirs)
print(ours.name)
"""
    printed = subprocess.check_output(
        [sys.executable, "-c", code], text=True, env={"PYTHONPATH": str(ROOT / "python")}
    )
    assert printed == "theirs\n"


def test_fields_are_added_to_a_message_of_caffe():
    declared = """optional float test_gain = 1500 [default = 2];
        enum TestKind { A = 0; B = 1; } optional TestKind test_kind = 1501 [default = B];
        repeated FillerParameter test_fillers = 1502;"""
    before = schema.message("TanHParameter")(engine=1)
    schema.extend_message("TanHParameter", declared)
    schema.extend_message("TanHParameter", declared)
    kept = schema.current(before)
    assert (kept.engine, kept.test_gain, kept.test_kind) == (1, 2.0, 1)
    net = parse(
        'layer { name: "t" type: "TanH" tanh_param { test_gain: 3 test_kind: A '
        'test_fillers { type: "xavier" } } }'
    ).message
    again = schema.decode("NetParameter", schema.encode(net))
    assert again.layer[0].tanh_param.test_gain == 3
    assert again.layer[0].tanh_param.test_fillers[0].type == "xavier"


@pytest.mark.parametrize(
    ("name", "fields", "problem"),
    [
        ("TanhParameter", "", 'unknown message "TanhParameter"; did you mean "TanHParameter"'),
        ("PReLUParameter", "optional int32 filler = 99;", "filler is taken: filler is there"),
        ("PReLUParameter", "optional int32 mine = 1;", "mine is taken: filler is there already"),
        ("PReLUParameter", "optional int32 mine = 0;", "the declaration is not valid"),
        ("PReLUParameter", "optional Strange mine = 99;", 'the unknown type "Strange"'),
        ("PReLUParameter", "mine = 99;", "PReLUParameter:1"),
    ],
)
def test_fields_that_cannot_be_added(name, fields, problem):
    with pytest.raises(SphereFaceError, match=problem):
        schema.extend_message(name, fields)
    assert "mine" not in schema.message("PReLUParameter").DESCRIPTOR.fields_by_name
