from __future__ import annotations

import json

import pytest

from sphereface.cli.main import main


def test_table(capsys):
    assert main(["summary", "sphereface_20_deploy"]) == 0
    output = capsys.readouterr().out
    assert "parameters   22,670,656" in output
    assert "MACs         1,749,737,472\n" in output


def test_batch_shape_and_json(capsys):
    arguments = ["--phase", "train", "--input-shape", "data=2,3,112,96", "--batch", "4", "--json"]
    assert main(["summary", "sphereface_4_train.prototxt", *arguments]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["phase"], summary["batch"]) == ("TRAIN", 4)
    assert summary["layers"][0]["shapes"] == [[4, 3, 112, 96], [4]]
    assert summary["params"] == 12_562_496 + 512 * 10572


def test_level_and_stage(capsys, tmp_path):
    net = tmp_path / "net.prototxt"
    net.write_text("""
      input: "x" input_shape { dim: 1 }
      layer { name: "staged" type: "TanH" bottom: "x" top: "y" include { stage: "s" min_level: 2 } }
      layer { name: "end" type: "Silence" bottom: "x" }""")
    for options, expected in ([], False), (["--stage", "s", "--level", "2"], True):
        assert main(["summary", str(net), *options]) == 0
        assert ("staged" in capsys.readouterr().out) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sphereface_20_deploi"], 'did you mean "sphereface_20_deploy"?'),
        (["det1", "--batch", "0"], "--batch: 0; expected at least 1"),
        (["det1", "--input-shape", "data"], '--input-shape: "data"; expected BLOB=N,C,H,W'),
        (["det1", "--input-shape", "data=1,0,2,2"], "positive sizes"),
        (["det1", "--input-shape", "date=1,3,12,12"], 'did you mean "data"?'),
    ],
)
def test_errors_are_one_line(arguments, message, capsys):
    assert main(["summary", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sphereface summary: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


UNREADABLE = """name: "n"
layer { name: "d" type: "%s" top: "data" top: "label" %s }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


@pytest.mark.parametrize(
    ("type_", "options", "image"),
    [
        (
            "Data",
            'transform_param { crop_size: 9 } data_param { source: "gone" batch_size: 2 }',
            "2x3x9x9",
        ),
        (
            "ImageData",
            'image_data_param { source: "gone" batch_size: 2 new_height: 5 new_width: 6 }',
            "2x3x5x6",
        ),
        ("ImageData", 'image_data_param { source: "gone" batch_size: 2 }', ""),
        ("HDF5Data", 'hdf5_data_param { source: "gone" batch_size: 2 }', ""),
        ("ImageData", 'image_data_param { source: "broken" batch_size: 2 }', ""),
    ],
)
def test_data_that_cannot_be_read(capsys, tmp_path, monkeypatch, type_, options, image):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").write_text("no_such_image.png 0\n")
    net = tmp_path / "net.prototxt"
    net.write_text(UNREADABLE % (type_, options))
    assert main(["summary", str(net)]) == 0
    shown = capsys.readouterr()
    assert "SoftmaxWithLoss" in shown.out
    if image:
        assert image in shown.out
        assert ("coloured" in shown.err) == (type_ == "Data")
    else:
        assert "sizes unknown" in shown.out
        assert "note: shown without sizes" in shown.err
        assert "--input-shape data=N,C,H,W" in shown.err
        assert ("gone" if "gone" in options else "no_such_image.png") in shown.err
    assert main(["summary", str(net), "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert [layer["name"] for layer in layers] == ["d", "conv", "fc", "loss"]
    assert main(["draw", str(net), "net.svg"]) == 0
    capsys.readouterr()
    drawing = (tmp_path / "net.svg").read_text()
    assert "conv" in drawing
    assert ("2×4×" in drawing) == bool(image)
    sizes = ["--input-shape", "data=1,3,4,4", "--input-shape", "label=1"]
    assert main(["summary", str(net), *sizes]) == 0
    shown = capsys.readouterr()
    assert "1x4x2x2" in shown.out
    assert "note" not in shown.err


def test_fused(capsys):
    assert main(["summary", "sphereface_4_bn_deploy", "--fused"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("conv1_1 + ")
    assert len(lines) == 5
    assert last.endswith("layers run as 5 operations")
    assert main(["summary", "sphereface_4_deploy", "--fused", "--json"]) == 2
    assert "without --json" in capsys.readouterr().err
