from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from random import Random

import pytest
from google.protobuf import text_format

from sphereface.errors import ProblemsError, SphereFaceError
from sphereface.proto import schema, text

PROTOTXTS = sorted((Path(__file__).parent / "prototxts").glob("*.prototxt"))


@pytest.mark.parametrize("path", PROTOTXTS, ids=lambda p: p.stem)
def test_original_files_parse_as_protobuf_parses_them(path):
    name = "SolverParameter" if path.stem.endswith("solver") else "NetParameter"
    expected = text_format.Parse(path.read_text(), schema.message(name)())
    found = text.read(path, name)
    assert found == expected
    assert found.ByteSize() > 20
    written = text.write(found)
    assert text.read(written, name) == expected
    assert text_format.Parse(written, schema.message(name)()) == expected
    assert text.write(text.read(written, name)) == written


def test_all_the_files_are_there():
    assert len(PROTOTXTS) == 38


def problem(source, name="NetParameter"):
    with pytest.raises(SphereFaceError) as error:
        text.parse(source, name, "net.prototxt")
    return str(error.value)


CONV = 'layer {\n  name: "conv1_1"\n  type: "Convolution"\n  convolution_param { %s }\n}\n'
POOL = 'layer { name: "p" type: "Pooling" pooling_param { %s } }'


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            CONV % "kernal_size: 3",
            'net.prototxt:4:23: layer "conv1_1" (Convolution): unknown field "kernal_size"; '
            'did you mean "kernel_size"?',
        ),
        (
            POOL % "pool: MAXX",
            'net.prototxt:1:57: layer "p" (Pooling): "pool" is MAXX; '
            'expected one of MAX, AVE, STOCHASTIC; did you mean "MAX"?',
        ),
        (
            POOL % 'pool: "MAX"',
            'net.prototxt:1:57: layer "p" (Pooling): "pool" is "MAX"; '
            "expected one of MAX, AVE, STOCHASTIC; write MAX without quotes",
        ),
        (
            POOL % "pool: 7",
            'net.prototxt:1:57: layer "p" (Pooling): "pool" is 7; '
            "expected one of MAX, AVE, STOCHASTIC",
        ),
        (
            POOL % "stride: -1",
            'net.prototxt:1:59: layer "p" (Pooling): "stride" is -1; '
            "expected a whole number (uint32)",
        ),
        (
            POOL % "stride: 4294967296",
            'net.prototxt:1:59: layer "p" (Pooling): "stride" is 4294967296; '
            "expected a whole number (uint32)",
        ),
        (
            POOL % "stride: 1.5",
            'net.prototxt:1:59: layer "p" (Pooling): "stride" is 1.5; '
            "expected a whole number (uint32)",
        ),
        (
            POOL % "stride: 1\n\tstride: 2",
            'net.prototxt:2:2: layer "p" (Pooling): "stride" is given more than once '
            "(first at line 1); expected a single value",
        ),
        (
            POOL % "} pooling_param { ",
            'net.prototxt:1:53: layer "p" (Pooling): "pooling_param" is given more than once '
            "(first at line 1); expected a single value",
        ),
        (
            POOL % "stride: [1, 2]",
            'net.prototxt:1:51: layer "p" (Pooling): "stride" is given more than once '
            "(first at line 1); expected a single value",
        ),
        (
            POOL % "global_pooling: yes",
            'net.prototxt:1:67: layer "p" (Pooling): "global_pooling" is yes; '
            "expected true or false",
        ),
        (
            'layer { name: "d" dropout_param { dropout_ratio: half } }',
            'net.prototxt:1:50: layer "d": "dropout_ratio" is half; expected a number',
        ),
        (
            'layer { dropout_param { dropout_ratio: "0.5" } name: "d" type: "Dropout" }',
            'net.prototxt:1:40: layer "d" (Dropout): "dropout_ratio" is "0.5"; expected a number',
        ),
        (
            'layer { dropout_param { ratio: 0.5 } name: "d" type: "Dropout" }',
            'net.prototxt:1:25: layer "d" (Dropout): unknown field "ratio"; '
            "expected one of dropout_ratio",
        ),
        (
            "layer { name: data }",
            'net.prototxt:1:15: layer "data": "name" is data; expected a string in quotes',
        ),
        (
            'layer { name: "x" param: 3 }',
            'net.prototxt:1:26: layer "x": "param" is 3; expected a block in { }',
        ),
        (
            'layer { name: "x" top { } }',
            'net.prototxt:1:23: layer "x": "top" is a block; expected a single value',
        ),
        (
            'layer { name: "c" type: "Clip" clip_param { min: 0 } }',
            'net.prototxt:1:43: layer "c" (Clip): ClipParameter needs max',
        ),
        (
            'layers { name: "c" type: CONVOLUTON }',
            'net.prototxt:1:26: layer "c" (CONVOLUTON): unknown layer type CONVOLUTON; '
            'did you mean "CONVOLUTION"?',
        ),
        (
            'layers { layer { name: "c" type: "conv" kernel_size: 3 } }',
            'net.prototxt:1:41: layer "c" (conv): unknown field "kernel_size"; '
            'did you mean "kernelsize"?',
        ),
        ("layr { }", 'net.prototxt:1:1: unknown field "layr"; did you mean "layer"?'),
        ('name: "é" nam: 1', 'net.prototxt:1:11: unknown field "nam"; did you mean "name"?'),
        ("layer { fork_148 { } }", 'net.prototxt:1:9: unknown field "fork_148"'),
        ('name: "a\n', 'net.prototxt:1:7: unterminated string; close it with "'),
        ("name: 'a\n", "net.prototxt:1:7: unterminated string; close it with '"),
        (
            'layer { name: "a"\n  pooling_param { pool: MAX\n',
            'net.prototxt:3:1: layer "a": block "pooling_param" opened at line 2 is not closed; '
            "add the missing }",
        ),
        (
            'layer { name: "a"\n  pooling_param { pool: MAX }\nlayer { name: "b" } }',
            'net.prototxt:3:7: layer "a": block "layer" opened at line 1 is not closed; '
            "add the missing }",
        ),
        ('layer { name: "a" } }', "net.prototxt:1:21: found }; expected a field name"),
        ("layer { name }", 'net.prototxt:1:14: found }; expected ":" or "{" after "name"'),
        ("layer { name: }", 'net.prototxt:1:15: found }; expected a value for "name"'),
        ("input_dim: [1 2]", 'net.prototxt:1:15: found 2; expected "," or "]"'),
        ("input_dim: [1, 2", 'net.prototxt:1:17: the text ends here; expected "," or "]"'),
        ("input_dim: 3x3", 'net.prototxt:1:12: unexpected "3x3"'),
        ("input_dim: ?", 'net.prototxt:1:12: unexpected "?"'),
        ("force_backward < debug_info: 1 }", "net.prototxt:1:32: found }; expected a field name"),
    ],
)
def test_errors_name_the_place_and_the_fix(source, message):
    assert problem(source).startswith(message)


def test_deep_nesting_is_an_error():
    assert "nested more than 64 deep" in problem("layer {" + "a {" * 100_000)


def test_everything_that_caffe_accepts(tmp_path):
    source = (
        "\ufeffname: 'a\\'b' \"c\\x41\\101\\n\\u00e9\"; # comment } {\r\n"
        "input: [\"data\", 'label'], input_dim: [1, 0x10, 010]\r\n"
        "input_dim :5\tforce_backward: t debug_info: 0\n"
        'layer <type:"Convolution" convolution_param: {kernel_size: [3,2] pad: 1 group:2\n'
        " weight_filler { std: 1e-2f min: - 1 max: inf mean: -.5 value: 3. sparse: -1 }}>\n"
        "layer { eltwise_param { operation: 2 coeff: [-1, nan] } }\n"
        'layer [{name: "x"}, {name: "y"}]'
    )
    path = tmp_path / "odd.prototxt"
    path.write_bytes(source.encode())
    net = text.read(path)
    assert net.name == "a'bcAA\né"
    assert list(net.input) == ["data", "label"]
    assert list(net.input_dim) == [1, 16, 8, 5]
    assert (net.force_backward, net.debug_info) == (True, False)
    assert net.HasField("debug_info")
    conv = net.layer[0].convolution_param
    assert (list(conv.kernel_size), list(conv.pad), conv.group) == ([3, 2], [1], 2)
    filler = conv.weight_filler
    assert (filler.min, filler.max, filler.mean, filler.value) == (-1, float("inf"), -0.5, 3)
    assert filler.std == pytest.approx(0.01)
    assert (
        net.layer[1].eltwise_param.operation
        == schema.enum_values("EltwiseParameter.EltwiseOp")["MAX"]
    )
    assert str(net.layer[1].eltwise_param.coeff[1]) == "nan"
    assert [layer.name for layer in net.layer] == ["", "", "x", "y"]


def test_damaged_text_is_read_or_refused_in_words():
    random = Random(0)
    source = (PROTOTXTS[0].parent / "mtcnn_det3.prototxt").read_text()
    places = []
    for _ in range(300):
        start = random.randrange(len(source))
        end = start + random.choice((1, 1, 2, 40))
        filling = random.choice(("", "{", "}", '"', "\\", ":", "-", "[", "9" * 30, "\x00", "é"))
        try:
            text.read(source[:start] + filling + source[end:])
        except SphereFaceError as error:
            places.append(error.where)
    assert len(places) > 100
    assert all(place.startswith("prototxt:") for place in places)


def test_lines_of_layers():
    assert text.parse('name: "n"\nlayer {\n}\n\nlayer {}\nlayer [{},{}]').layer_lines == (
        2,
        5,
        6,
        6,
    )
    assert text.parse("\nlayers {}\nlayers {}").layer_lines == (2, 3)


def test_text_in_another_encoding(tmp_path):
    path = tmp_path / "gbk.prototxt"
    path.write_bytes("# 人脸\nname: 'n'\n".encode("gbk"))
    assert text.read(path).name == "n"
    path.write_bytes("\nname: '人脸'\n".encode("gbk"))
    with pytest.raises(SphereFaceError, match=r'gbk\.prototxt:2:7: "name" is not UTF-8; save'):
        text.read(path)


def test_missing_file_and_text_without_line_end(tmp_path):
    with pytest.raises(SphereFaceError, match=r"no\.prototxt: no such prototxt"):
        text.read(tmp_path / "no.prototxt")
    solver = text.read(
        "base_lr: 0.1 stepvalue: 16000 stepvalue: 24000 solver_mode: CPU", "SolverParameter"
    )
    assert list(solver.stepvalue) == [16000, 24000]
    assert solver.solver_mode == 0


def test_solver_errors():
    assert problem("base_lr: 0.1\nmomentun: 0.9", "SolverParameter") == (
        'net.prototxt:2:1: unknown field "momentun"; did you mean "momentum"?'
    )
    assert problem('net_param { layer { name: "c" tpye: "ReLU" } }', "SolverParameter") == (
        'net.prototxt:1:31: layer "c": unknown field "tpye"; did you mean "type"?'
    )


def test_written_text_looks_like_caffes():
    net = schema.message("NetParameter")(name='a"b\\\n\té')
    layer = net.layer.add(name="c", type="Convolution", bottom=["data"], phase=1)
    layer.loss_weight.extend([1, 0.1])
    layer.param.add(lr_mult=1, decay_mult=0)
    layer.convolution_param.num_output = 64
    layer.convolution_param.weight_filler.std = 1e-5
    layer.convolution_param.bias_term = False
    layer.pooling_param.pool = 1
    layer.pooling_param.engine = 2
    layer.power_param.power = float("inf")
    layer.power_param.scale = 16777216
    layer.input_param.SetInParent()
    assert text.write(net) == (
        'name: "a\\"b\\\\\\n\\té"\n'
        "layer {\n"
        '  name: "c"\n'
        '  type: "Convolution"\n'
        '  bottom: "data"\n'
        "  loss_weight: 1\n"
        "  loss_weight: 0.1\n"
        "  param {\n"
        "    lr_mult: 1\n"
        "    decay_mult: 0\n"
        "  }\n"
        "  phase: TEST\n"
        "  convolution_param {\n"
        "    num_output: 64\n"
        "    bias_term: false\n"
        "    weight_filler {\n"
        "      std: 1e-05\n"
        "    }\n"
        "  }\n"
        "  pooling_param {\n"
        "    pool: AVE\n"
        "    engine: CUDNN\n"
        "  }\n"
        "  power_param {\n"
        "    power: inf\n"
        "    scale: 16777216\n"
        "  }\n"
        "  input_param {\n"
        "  }\n"
        "}\n"
    )
    assert text.read(text.write(net)) == net


def test_floats_and_bytes_survive_the_text():
    values = [0.1, 1 / 3, 1e-45, 3.4028234e38, 16777217, -0.0, 123456.79, 5e-324]
    blob = schema.message("BlobProto")(data=values[:-1], double_data=values)
    found = text.read(text.write(blob), "BlobProto")
    assert found.SerializeToString() == blob.SerializeToString()
    datum = schema.message("Datum")(data=bytes(range(256)))
    assert text.read(text.write(datum), "Datum") == datum
    assert text_format.Parse(text.write(datum), schema.message("Datum")()) == datum


def test_a_message_of_ones_own_reads_and_has_nearest_names(monkeypatch):
    monkeypatch.setattr(schema, "_pool", schema._pool)
    schema.extend_layer_parameter("tone_param", "message ToneParameter { optional int32 key = 1; }")
    net = text.read('layer { name: "t" type: "Tone" tone_param { key: 3 } }')
    assert net.layer[0].tone_param.key == 3
    assert 'unknown field "tone_parm"; did you mean "tone_param"?' in problem(
        'layer { name: "t" tone_parm { } }'
    )


@pytest.mark.parametrize("piece", ["a:1 ", 'layer{name:"" "" ""}'])
def test_a_text_far_larger_than_any_net_is_refused_early(piece, tmp_path):
    path = tmp_path / "huge.prototxt"
    path.write_text(piece * (10_000_000 // len(piece)))
    tracemalloc.start()
    try:
        with pytest.raises(SphereFaceError, match="huge.prototxt:.*more than 1,000,000 names"):
            text.read(path, "SolverParameter")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300e6


def test_lines_cost_little(tmp_path):
    path = tmp_path / "lines.prototxt"
    path.write_text("\n" * 10_000_000 + "a: 1")
    tracemalloc.start()
    try:
        with pytest.raises(SphereFaceError, match='prototxt:10000001:1: unknown field "a"'):
            text.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150e6


def test_what_is_no_file_of_a_nets_size_is_not_read(tmp_path):
    path = tmp_path / "big.prototxt"
    with path.open("wb") as stream:
        stream.truncate((1 << 24) + 1)
    with pytest.raises(SphereFaceError, match=r"prototxt of 16,777,217 bytes; expected at most"):
        text.read(path)
    os.mkfifo(tmp_path / "pipe")
    for name, found in ((tmp_path / "pipe", "a pipe"), ("/dev/zero", "a device")):
        with pytest.raises(SphereFaceError, match=f"{found}; expected a prototxt: a regular file"):
            text.read(name)


def test_all_problems_of_a_text_are_told():
    with pytest.raises(ProblemsError) as caught:
        text.parse(
            'name: 3\nlayer { name: "a" typo: 1 top: "x" }\n'
            'layer { name: "b" type: "Pooling" pooling_param { pool: MAXX stride: x } }'
            "\nlayers { type: PERMUTE permute_param { } }\nlayers { type: PERMUTE }",
            source="n",
        )
    assert [(error.where, error.problem) for error in caught.value.problems] == [
        ("n:1:7", '"name" is 3'),
        ('n:2:19: layer "a"', 'unknown field "typo"'),
        ('n:3:57: layer "b" (Pooling)', '"pool" is MAXX'),
        ('n:3:70: layer "b" (Pooling)', '"stride" is x'),
        ("n:4:16: layer (PERMUTE)", "unknown layer type PERMUTE"),
        ("n:5:16: layer (PERMUTE)", "unknown layer type PERMUTE"),
    ]


def test_a_million_problems_end_early():
    with pytest.raises(ProblemsError, match="n: 1000 problems"):
        text.parse("".join(f"a{i % 50}: 1 " for i in range(100_000)), source="n")
