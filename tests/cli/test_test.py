from __future__ import annotations

import re

import pytest

from reference.tiny_training import write_training
from sphereface.cli.main import main


@pytest.fixture
def trained(tmp_path, capsys):
    solver = write_training(tmp_path, "max_iter: 20 display: 0 test_iter: 5 test_interval: 20")
    assert main(["train", "--solver", str(solver), "--gpu", "none"]) == 0
    log = capsys.readouterr().err
    return tmp_path, dict(re.findall(r"Test net output #\d+: (\S+) = (\S+)", log))


def test_scores_are_those_of_the_solver(trained, capsys):
    folder, expected = trained
    net, weights = str(folder / "net.prototxt"), str(folder / "tiny_iter_20.caffemodel")
    assert main(["test", net, weights, "--iterations", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    accuracy = [float(line.split()[-1]) for line in lines if re.match(r"Batch \d, accuracy", line)]
    assert len(accuracy) == 5
    # 40 images in 5 batches of 8: each once, in whatever order.
    means = dict(re.findall(r"^(\S+) = (\S+)", "\n".join(lines), re.MULTILINE))
    assert float(means["accuracy"]) == pytest.approx(float(expected["accuracy"]))
    assert float(means["accuracy"]) == pytest.approx(sum(accuracy) / 5, rel=1e-5)
    assert any(re.match(r"loss = \S+ \(\* 1 = \S+ loss\)", line) for line in lines)


def test_lambda(trained, capsys):
    folder, _ = trained
    files = [str(folder / "net.prototxt"), str(folder / "tiny_iter_20.caffemodel")]
    losses = []
    for more in ([], ["--lambda", "100"], ["--lambda", "5"], ["--lambda", "0"]):
        assert main(["test", *files, "--iterations", "5", *more]) == 0
        told = capsys.readouterr()
        means = dict(re.findall(r"^(\S+) = (\S+)", told.out, re.MULTILINE))
        losses.append(float(means["loss"]))
        assert ('lambda of layer "fc6" is 100 here' in told.err) is not bool(more)
        assert float(means["lambda"]) == (float(more[1]) if more else 100)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[1] < losses[2] < losses[3]
    assert main(["test", *files, "--lambda", "-1"]) == 2
    assert "--lambda" in capsys.readouterr().err


def test_lambda_of_a_net_without_one(trained, capsys):
    folder, _ = trained
    net = folder / "net.prototxt"
    head = re.compile(r'layer { name: "fc6".*?} }\n', re.DOTALL)
    net.write_text(
        head.sub(
            'layer { name: "fc6" type: "InnerProduct" bottom: "fc5" top: "fc6"'
            " inner_product_param { num_output: 4 bias_term: false } }\n",
            net.read_text(),
        )
    )
    weights = str(folder / "tiny_iter_20.caffemodel")
    assert main(["test", str(net), weights, "--lambda", "5"]) == 2
    assert "has a lambda" in capsys.readouterr().err


def test_weights_of_another_net(trained, capsys):
    folder, _ = trained
    net = folder / "net.prototxt"
    net.write_text(net.read_text().replace("num_output: 6", "num_output: 7"))
    assert main(["test", str(net), str(folder / "tiny_iter_20.caffemodel")]) == 2
    assert "fc5" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["-model", "{net}", "-weights", "{weights}", "-iterations", "2"],
        ["--model={net}", "--weights={weights}", "--iterations=2"],
        ["-weights={weights}", "-iterations", "2", "{net}"],
        ["{net}", "--iterations", "2", "{weights}"],
    ],
)
def test_caffes_command_lines(trained, capsys, arguments):
    folder, _ = trained
    files = {"net": folder / "net.prototxt", "weights": folder / "tiny_iter_20.caffemodel"}
    assert main(["test", *map(str, files.values()), "--iterations", "2"]) == 0
    expected = capsys.readouterr().out
    assert "Batch 1, accuracy" in expected
    assert "Batch 2" not in expected
    assert main(["test", *(text.format(**files) for text in arguments)]) == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no prototxt; expected PROTOTXT or --model FILE"),
        (["a.prototxt"], "no weights; expected WEIGHTS or --weights FILE"),
        (["a", "b", "--model", "c"], '"b" is one file too many'),
    ],
)
def test_files_that_are_missing_or_too_many(capsys, arguments, message):
    assert main(["test", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        ('"ImageData" image_data_param { source: "gone.txt" batch_size: 2 }', "gone.txt"),
        ('"Data" data_param { source: "gone_lmdb" batch_size: 2 backend: LMDB }', "gone_lmdb"),
        ('"HDF5Data" hdf5_data_param { source: "gone_h5.txt" batch_size: 2 }', "gone_h5.txt"),
    ],
)
@pytest.mark.parametrize("command", ["test", "time"])
def test_data_that_are_gone_are_named(tmp_path, capsys, layer, found, command):
    net = tmp_path / "net.prototxt"
    net.write_text(f'layer {{ name: "d" top: "data" top: "label" type: {layer} }}')
    weights = tmp_path / "w.caffemodel"
    weights.touch()
    assert main([command, str(net), str(weights)]) == 2
    error = capsys.readouterr().err
    assert found in error
    assert 'layer "d"' in error
    if command == "time":
        assert "pass it: --input-shape data=N,C,H,W" in error
