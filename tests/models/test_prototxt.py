"""models/prototxt against the released definitions: structure, options, parameters, MACs."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path

import pytest

from sphereface.caffe import Net
from sphereface.caffe.load import load_graph
from sphereface.proto.net_file import read_net
from sphereface.proto.text import read

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "models" / "prototxt"

# net: convolutions, units, deploy parameters, MACs (counted by hand and in the authors' files)
FIGURES = {
    "4": (4, 0, 12_562_496, 164_290_560),
    "6": (6, 1, 13_743_168, 362_471_424),
    "10": (10, 3, 15_219_264, 758_833_152),
    "20": (20, 8, 22_670_656, 1_749_737_472),
    "36": (36, 16, 32_778_816, 3_335_184_384),
    "64": (62, 29, 47_905_088, 5_911_535_616),
    "64_paper": (64, 30, 48_200_512, 6_109_716_480),
}
# With BatchNorm, which has no learned parameters, and a Scale of a gain and a bias a channel.
CHANNELS = {"4": 960, "6": 960 + 2 * 256, "10": 960 + 2 * 128 + 4 * 256}
NORMALISED = {
    f"{depth}_bn": (*FIGURES[depth][:2], FIGURES[depth][2] + 2 * channels, FIGURES[depth][3])
    for depth, channels in CHANNELS.items()
}
FIGURES.update(NORMALISED)

# Convolutions of the released SphereFace-20: name, bottom, channels, opens a stage.
RELEASED_20 = [
    ("conv1_1", "data", 64, True),
    ("conv1_2", "conv1_1", 64, False),
    ("conv1_3", "conv1_2", 64, False),
    ("conv2_1", "res1_3", 128, True),
    ("conv2_2", "conv2_1", 128, False),
    ("conv2_3", "conv2_2", 128, False),
    ("conv2_4", "res2_3", 128, False),
    ("conv2_5", "conv2_4", 128, False),
    ("conv3_1", "res2_5", 256, True),
    ("conv3_2", "conv3_1", 256, False),
    ("conv3_3", "conv3_2", 256, False),
    ("conv3_4", "res3_3", 256, False),
    ("conv3_5", "conv3_4", 256, False),
    ("conv3_6", "res3_5", 256, False),
    ("conv3_7", "conv3_6", 256, False),
    ("conv3_8", "res3_7", 256, False),
    ("conv3_9", "conv3_8", 256, False),
    ("conv4_1", "res3_9", 512, True),
    ("conv4_2", "conv4_1", 512, False),
    ("conv4_3", "conv4_2", 512, False),
]
RELEASED_20_SUMS = [
    ("res1_3", "conv1_1", "conv1_3"),
    ("res2_3", "conv2_1", "conv2_3"),
    ("res2_5", "res2_3", "conv2_5"),
    ("res3_3", "conv3_1", "conv3_3"),
    ("res3_5", "res3_3", "conv3_5"),
    ("res3_7", "res3_5", "conv3_7"),
    ("res3_9", "res3_7", "conv3_9"),
    ("res4_3", "conv4_1", "conv4_3"),
]
OPENS_STAGE = """
  param {{ lr_mult: 1 decay_mult: 1 }} param {{ lr_mult: 2 decay_mult: 0 }}
  convolution_param {{ num_output: {} kernel_size: 3 stride: 2 pad: 1
    weight_filler {{ type: "xavier" }} bias_filler {{ type: "constant" value: 0 }} }}
"""
IN_UNIT = """
  param {{ lr_mult: 1 decay_mult: 1 }} param {{ lr_mult: 0 decay_mult: 0 }}
  convolution_param {{ num_output: {} kernel_size: 3 stride: 1 pad: 1
    weight_filler {{ type: "gaussian" std: 0.01 }} bias_filler {{ type: "constant" value: 0 }} }}
"""
FC5 = """
  name: "fc5" type: "InnerProduct" bottom: "{}" top: "fc5"
  param {{ lr_mult: 1 decay_mult: 1 }} param {{ lr_mult: 2 decay_mult: 0 }}
  inner_product_param {{ num_output: 512
    weight_filler {{ type: "xavier" }} bias_filler {{ type: "constant" value: 0 }} }}
"""
FC6 = """
  name: "fc6" type: "MarginInnerProduct" bottom: "fc5" bottom: "label" top: "fc6" top: "lambda"
  param { lr_mult: 1 decay_mult: 1 }
  margin_inner_product_param { num_output: 10572 type: QUADRUPLE weight_filler { type: "xavier" }
    base: 1000 gamma: 0.12 power: 1 lambda_min: 5 iteration: 0 }
"""
LOSS = (
    'name: "softmax_loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "softmax_loss"'
)
DATA = """
  name: "data" type: "ImageData" top: "data" top: "label"
  transform_param { mean_value: [127.5, 127.5, 127.5] scale: 0.0078125 mirror: true }
  image_data_param { source: "data/CASIA-WebFace-112X96.txt" batch_size: 256 shuffle: true }
"""


def layers(name: str) -> list:
    return list(read(FOLDER / f"{name}.prototxt").layer)


def expected_layer(text: str):
    return read(text + "\n", "LayerParameter")


def expected_20() -> list:
    texts = []
    sums = {top: (first, second) for top, first, second in RELEASED_20_SUMS}
    for name, bottom, channels, opens in RELEASED_20:
        body = (OPENS_STAGE if opens else IN_UNIT).format(channels)
        texts.append(f'name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"{body}')
        relu = name.replace("conv", "relu")
        texts.append(f'name: "{relu}" type: "PReLU" bottom: "{name}" top: "{name}"')
        if (total := name.replace("conv", "res")) in sums:
            first, second = sums[total]
            texts.append(
                f'name: "{total}" type: "Eltwise" bottom: "{first}" bottom: "{second}" '
                f'top: "{total}" eltwise_param {{ operation: 1 }}'
            )
    texts.append(FC5.format("res4_3"))
    return [expected_layer(text) for text in texts]


def test_20_is_the_released_definition_layer_by_layer() -> None:
    deploy, train = layers("sphereface_20_deploy"), layers("sphereface_20_train")
    assert len(deploy) == 49
    assert deploy == expected_20()
    assert train[0] == expected_layer(DATA)
    assert train[1:] == [*expected_20(), expected_layer(FC6), expected_layer(LOSS)]
    assert len(train) - 1 == 51
    for kind in ("train", "deploy"):
        assert read(FOLDER / f"sphereface_20_{kind}.prototxt").name == "SpherefaceNet-20"
    net = read(FOLDER / "sphereface_20_deploy.prototxt")
    assert (list(net.input), list(net.input_dim)) == (["data"], [1, 3, 112, 96])


def test_64_is_the_released_definition() -> None:
    deploy, train = layers("sphereface_64_deploy"), layers("sphereface_64_train")
    assert len(deploy) == 154
    assert len(train) - 1 == 156
    assert read(FOLDER / "sphereface_64_train.prototxt").name == "SpherefaceNet-64"
    kinds = {"Convolution": 62, "PReLU": 62, "Eltwise": 29, "InnerProduct": 1}
    assert Counter(layer.type for layer in deploy) == kinds
    by_name = {layer.name: layer for layer in deploy}
    for stage, (units, channels) in enumerate(
        zip((3, 7, 16, 3), (64, 128, 256, 512), strict=True), 1
    ):
        first = by_name[f"conv{stage}_1"]
        before = {1: "data", 2: "res1_7", 3: "res2_15", 4: "res3_33"}[stage]
        assert first == expected_layer(
            f'name: "conv{stage}_1" type: "Convolution" bottom: "{before}" top: "conv{stage}_1"'
            + OPENS_STAGE.format(channels)
        )
        assert f"conv{stage}_{2 * units + 2}" not in by_name
        for index in range(2, 2 * units + 2):
            name = f"conv{stage}_{index}"
            unit_input = f"res{stage}_{index - 1}" if index > 2 else f"conv{stage}_1"
            bottom = unit_input if index % 2 == 0 else f"conv{stage}_{index - 1}"
            assert by_name[name] == expected_layer(
                f'name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"'
                + IN_UNIT.format(channels)
            )
            if index % 2:
                unit_input = f"res{stage}_{index - 2}" if index > 3 else f"conv{stage}_1"
                assert list(by_name[f"res{stage}_{index}"].bottom) == [unit_input, name]
    assert by_name["fc5"] == expected_layer(FC5.format("res4_7"))
    assert train[1:155] == deploy
    assert train[155:] == [expected_layer(FC6), expected_layer(LOSS)]
    assert train[0] == expected_layer(DATA)


@pytest.mark.parametrize("depth", NORMALISED)
def test_batch_norm_and_scale_stand_before_each_prelu(depth: str) -> None:
    plain, normalised = (
        layers(f"sphereface_{name}_deploy") for name in (depth.removesuffix("_bn"), depth)
    )
    assert [layer for layer in normalised if layer.type not in ("BatchNorm", "Scale")] == plain
    for position, layer in enumerate(normalised):
        if layer.type != "PReLU":
            continue
        blob = layer.top[0]
        place = blob.removeprefix("conv").removesuffix("_1")
        assert normalised[position - 2] == expected_layer(
            f'name: "batchnorm{place}" type: "BatchNorm" bottom: "{blob}" top: "{blob}"'
            + " param { lr_mult: 0 decay_mult: 0 }" * 3
        )
        assert normalised[position - 1] == expected_layer(
            f'name: "scale{place}" type: "Scale" bottom: "{blob}" top: "{blob}"'
            " scale_param { bias_term: true }"
        )


@pytest.mark.parametrize("depth", FIGURES)
def test_figures(depth: str) -> None:
    convolutions, units, params, macs = FIGURES[depth]
    net = Net(load_graph(FOLDER / f"sphereface_{depth}_deploy.prototxt"), fill=False)
    kinds = Counter(layer.type for layer in net.layers)
    assert (kinds["Convolution"], kinds["Eltwise"]) == (convolutions, units)
    assert sum(p.numel() for p in net.parameters()) == params
    assert net.blob_shapes["fc5"] == (1, 512)
    shapes = net.blob_shapes
    counted = sum(
        prod(layer.weight.shape) * prod(shapes[layer.name][2:])
        for layer in net.layers
        if layer.type in ("Convolution", "InnerProduct")
    )
    assert counted == macs


@pytest.mark.parametrize("depth", FIGURES)
def test_train_is_deploy_with_a_head(depth: str) -> None:
    train = layers(f"sphereface_{depth}_train")
    assert train[1:-2] == layers(f"sphereface_{depth}_deploy")
    assert train[-2:] == [expected_layer(FC6), expected_layer(LOSS)]
    graph = load_graph(FOLDER / f"sphereface_{depth}_train.prototxt", "TRAIN")
    assert list(graph.inputs) == ["data", "label"]
    assert list(graph.outputs) == ["lambda", "softmax_loss"]


@pytest.mark.parametrize("depth", FIGURES)
def test_solver(depth: str) -> None:
    solver = read(FOLDER / f"sphereface_{depth}_solver.prototxt", "SolverParameter")
    assert solver == read(
        f"""net: "sphereface_{depth}_train.prototxt" base_lr: 0.1 lr_policy: "multistep" gamma: 0.1
        stepvalue: [16000, 24000, 28000] max_iter: 28000 momentum: 0.9 weight_decay: 0.0005
        display: 100 solver_mode: GPU snapshot_prefix: "sphereface_{depth}"
        """,
        "SolverParameter",
    )
    assert (FOLDER / solver.net).is_file()


@pytest.mark.parametrize("name", ["det1", "det2", "det3"])
def test_mtcnn_equals_the_released_files(name: str) -> None:
    released = ROOT / "tests" / "golden" / "mtcnn" / f"{name}.prototxt"
    assert read_net(FOLDER / f"{name}.prototxt").net == read_net(released).net


def test_digits() -> None:
    train = Net(load_graph(FOLDER / "digits_train.prototxt", "TRAIN"), fill=False)
    assert (train.inputs, train.outputs) == (("data", "label"), ("lambda", "softmax_loss"))
    deploy = Net(load_graph(FOLDER / "digits_deploy.prototxt"), fill=False)
    assert deploy.blob_shapes["data"] == (1, 1, 8, 8)
    shapes = {key: value.shape for key, value in deploy.state_dict().items()}
    assert shapes == {key: train.state_dict()[key].shape for key in shapes}
    assert set(train.state_dict()) - set(shapes) == {"fc6.weight", "fc6.iteration"}
    solver = read(FOLDER / "digits_solver.prototxt", "SolverParameter")
    assert (FOLDER / solver.net).is_file()
