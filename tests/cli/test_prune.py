from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sphereface import caffe
from sphereface.cli.main import main
from sphereface.evaluation import ten_fold
from sphereface.weights import load_weights

NET = """name: "tiny"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 112 dim: 96 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"  # not this: num_output: 8
  convolution_param { num_output: 8 kernel_size: 16 stride: 16
    weight_filler { type: "gaussian" std: 0.05 } } }
layer { name: "relu" type: "PReLU" bottom: "conv" top: "conv" }
layer { name: "fc5" type: "InnerProduct" bottom: "conv" top: "fc5"
  inner_product_param { num_output: 24 weight_filler { type: "gaussian" std: 0.1 } } }
"""
TRAIN = (
    NET.replace(
        'type: "Input" top: "data"\n  input_param { shape { dim: 1 dim: 3 dim: 112 dim: 96 } }',
        'type: "ImageData" top: "data" top: "label"\n'
        "  transform_param { scale: 0.0078125 mean_value: 127.5 }\n"
        '  image_data_param { source: "list.txt" batch_size: 6 }',
    )
    + """
layer { name: "fc6" type: "MarginInnerProduct" bottom: "fc5" bottom: "label" top: "fc6"
  margin_inner_product_param { num_output: 6 type: DOUBLE
    weight_filler { type: "xavier" } base: 1000 gamma: 0.12 power: 1 lambda_min: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }
"""
)


@pytest.fixture
def model(folder, monkeypatch):
    """A net of a convolution and a product, its weights, and pairs of the people in `folder`."""
    monkeypatch.chdir(folder)
    Path("net.prototxt").write_text(NET)
    Path("train.prototxt").write_text(TRAIN)
    caffe.load("net.prototxt").save("net.caffemodel")
    lines = []
    for p in range(6):
        lines += [f"p{p}/0.png p{p}/1.png 1", f"p{p}/0.png p{(p + 1) % 6}/2.png 0"]
    Path("pairs.txt").write_text("\n".join(lines[:10]) + "\n")
    Path("more.txt").write_text("".join(f"{line}\n" for line in [*lines, "p9/0.png p1/0.png 0"]))
    Path("list.txt").write_text("".join(f"people/p{p}/0.png {p}\n" for p in range(6)))
    return ["net.prototxt", "net.caffemodel"]


def accuracy(net):
    """Return the accuracy of `net` on the pairs, its pictures read by OpenCV."""

    def features(name):
        pixels = (np.float32(cv2.imread(f"people/{name}")) - 127.5) * 0.0078125
        return net(torch.from_numpy(pixels.transpose(2, 0, 1)[None]))["fc5"][0].detach().numpy()

    rows = [line.split() for line in Path("pairs.txt").read_text().splitlines()]
    left, right = ([features(row[side]) for row in rows] for side in (0, 1))
    return ten_fold(left, right, np.array([r[2] == "1" for r in rows]), np.arange(10)).mean


def test_a_pruned_net_is_written_run_judged_and_finetuned(model, capfd):
    options = ["--ratio", "0.5", "--output", "small", "--also", "train.prototxt"]
    judged = [
        "--pairs",
        "pairs.txt",
        "--crops",
        "people",
        "--mean",
        "127.5",
        "--scale",
        "0.0078125",
    ]
    assert main(["prune", *model, *options, *judged]) == 0
    output = capfd.readouterr().out.splitlines()
    text = Path("small/net.prototxt").read_text()
    assert text == NET.replace("{ num_output: 8 k", "{ num_output: 4 k")
    small = caffe.load("small/net.prototxt", "small/net.caffemodel")
    kept = json.loads(Path("small/channels.json").read_text())["kept"]["conv"]
    whole = load_weights("net.caffemodel")
    norms = np.abs(whole["conv"][0]).sum(axis=(1, 2, 3))
    assert kept == sorted(np.argsort(norms)[4:].tolist())
    assert np.array_equal(small.layer("conv").weight.detach(), whole["conv"][0][kept])
    columns = whole["fc5"][0].reshape(24, 8, 42)[:, kept].reshape(24, -1)
    assert np.array_equal(small.layer("fc5").weight.detach(), columns)
    before, after = accuracy(caffe.load(*model)), accuracy(small)
    assert output[0] == "conv      8 -> 4"
    assert output[1:3] == [
        f"MACs        {8 * 768 * 42 + 336 * 24:,} -> {4 * 768 * 42 + 168 * 24:,} (-50.0 %)",
        f"parameters  {8 * 770 + 337 * 24:,} -> {4 * 770 + 169 * 24:,} (-49.9 %)",
    ]
    assert output[3] == "wrote small: net.prototxt, train.prototxt, net.caffemodel, channels.json"
    assert output[-1] == (
        f"accuracy    {100 * before:.2f} % -> {100 * after:.2f} % on 10 pairs, not finetuned"
    )
    assert main(["run", "small/net.prototxt", "small/net.caffemodel", "people/p0/0.png"]) == 0
    Path("solver.prototxt").write_text(
        'net: "small/train.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 2 display: 1'
        ' snapshot: 2 snapshot_prefix: "fine" solver_mode: CPU\n'
    )
    assert main(["train", "--solver", "solver.prototxt", "--weights", "small/net.caffemodel"]) == 0
    assert load_weights("fine_iter_2.caffemodel")["conv"][0].shape == (4, 3, 16, 16)


def test_only_named_convolutions(model, capsys):
    assert main(["prune", *model, "--keep", "conv=3", "--output", "out"]) == 0
    assert capsys.readouterr().out.startswith("conv      8 -> 3\n")


def test_a_caffemodel_is_a_net_of_its_own(model, capsys):
    weights = model[1]
    assert main(["prune", weights, weights, "--ratio", "0.25", "--output", "out"]) == 0
    assert caffe.load("out/net.prototxt", "out/net.caffemodel").layer("conv").num_output == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "o"], "nothing to remove; expected --ratio R or --keep NAME=N"),
        (["--ratio", "0.5"], "no output; expected --output"),
        (["--keep", "conv", "--output", "o"], '--keep: "conv"; expected CONVOLUTION=CHANNELS'),
        (["--ratio", "2", "--output", "o"], "--ratio: 2; expected 0 or more, and less than 1"),
        (["--ratio", "0.5", "--output", "people"], "people: a folder that holds p0"),
        (["--ratio", "0.5", "--output", "o", "--pairs", "pairs.txt"], "one of --pairs and --crops"),
        (
            ["--ratio", "0.5", "--output", "o", "--pairs", "more.txt", "--crops", "people"],
            'more.txt: no image for "p9/0.png"; expected all of them in people',
        ),
        (["--ratio", "0.5", "--output", "o", "--also", "net.prototxt"], "two prototxts named net"),
    ],
)  # fmt: skip
def test_what_is_refused_leaves_nothing(model, arguments, message, capsys):
    assert main(["prune", *model, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not Path("o").exists()


def test_the_net_that_is_read_and_others_beside_it_stay(model, capsys):
    Path("mine").mkdir()
    for name in model:
        Path(name).rename(Path("mine", name))
    mine = [str(Path("mine", name)) for name in model]
    before = {path.name: path.read_bytes() for path in Path("mine").iterdir()}
    prune = ["prune", *mine, "--ratio", "0.5", "--overwrite", "--output"]
    assert main([*prune, "mine"]) == 2
    assert "mine: the output holds an input, net.prototxt" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("mine").iterdir()} == before
    # A folder of other models is none that this command wrote.
    Path("models").mkdir()
    Path("models/precious.caffemodel").write_bytes(b"weeks of training")
    assert main([*prune, "models"]) == 2
    assert "a folder that holds precious.caffemodel" in capsys.readouterr().err
    assert Path("models/precious.caffemodel").read_bytes() == b"weeks of training"
    for _ in range(2):
        assert main([*prune, "small"]) == 0


def test_weights_of_another_net(model, capsys):
    Path("other.prototxt").write_text(NET.replace('"fc5"', '"fc7"'))
    assert main(["prune", "other.prototxt", model[1], "--ratio", "0.5", "--output", "o"]) == 2
    assert "net.caffemodel: no weights for fc7" in capsys.readouterr().err
