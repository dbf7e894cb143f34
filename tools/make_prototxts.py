"""Write models/prototxt: the SphereFace nets, their solvers, MTCNN and the demo's digits net.

    python tools/make_prototxts.py            write the files
    python tools/make_prototxts.py --check    exit with 1 if one is out of date

This is the single source of those files. SphereFace-20 and -64 are the definitions that the authors
released, layer by layer (their 64 has 62 convolutions); 4, 10, 36 and 64_paper follow the table of
the paper in the same style, 6 is the net that users published beside them. Those called _bn have
BatchNorm and Scale before each PReLU, as some users' files do, for training from scratch on little
data. det1 to det3 are the released MTCNN nets.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "models" / "prototxt"

# Residual units in the stages of 64, 128, 256 and 512 channels.
UNITS = {
    "4": (0, 0, 0, 0),
    "6": (0, 0, 1, 0),
    "10": (0, 1, 2, 0),
    "20": (1, 2, 4, 1),
    "36": (2, 4, 8, 2),
    "64": (3, 7, 16, 3),
    "64_paper": (3, 8, 16, 3),
}
NORMALISED = ("4", "6", "10")  # depths that have a variant with batch normalisation
CHANNELS = (64, 128, 256, 512)
CASIA_CLASSES = 10572

# (lr_mult, decay_mult) of weight and bias.
LEARNED = ((1, 1), (2, 0))
WITHOUT_BIAS = ((1, 1), (0, 0))  # the bias exists and stays zero
FROZEN = ((0, 0), (0, 0))
DECAYED_BIAS = ((1, 1), (2, 1))

XAVIER = 'type: "xavier"'
GAUSSIAN = 'type: "gaussian" std: 0.01'

CASIA_DATA = """
  transform_param {
    mean_value: 127.5
    mean_value: 127.5
    mean_value: 127.5
    scale: 0.0078125
    mirror: true
  }
  image_data_param {
    source: "data/CASIA-WebFace-112X96.txt"
    batch_size: 256
    shuffle: true
  }"""
DIGITS_DATA = """
  memory_data_param { batch_size: 64 channels: 1 height: 8 width: 8 }"""

SOLVER = """
base_lr: 0.1
lr_policy: "multistep"
gamma: 0.1
stepvalue: 16000
stepvalue: 24000
stepvalue: 28000
max_iter: 28000
momentum: 0.9
weight_decay: 0.0005
display: 100
solver_mode: GPU
"""
DIGITS_SOLVER = """
base_lr: 0.02
lr_policy: "multistep"
gamma: 0.1
stepvalue: 192
max_iter: 320
momentum: 0.9
weight_decay: 0.02
display: 20
random_seed: 0
solver_mode: CPU
"""
TWO_GPUS = """\
# The original was trained on two GPUs with batch_size 256 each, 512 images a step; on one GPU,
# iter_size: 2 gives that batch (and lets lambda fall twice as fast).
"""
NORMALISED_NOTE = """\
# BatchNorm's statistics are those of one batch on one device; iter_size does not enlarge it.
"""
NO_ORIGINAL = """\
# No solver of this depth was released; its authors used "basically the same" as for 20 layers.
"""
DEEP = """\
# Users saw 64 layers diverge from these values on smaller batches: start from a softmax or SINGLE
# model, or with a smaller base_lr.
"""


def header(title: str) -> str:
    """Return the comment that every file starts with."""
    return f"# {title}\n# Written by tools/make_prototxts.py; change it there.\n"


def layer(name: str, kind: str, bottoms: str, tops: str, body: str = "") -> str:
    """Return one layer; bottoms and tops are names separated by spaces."""
    lines = [f'  name: "{name}"', f'  type: "{kind}"']
    lines += [f'  bottom: "{blob}"' for blob in bottoms.split()]
    lines += [f'  top: "{blob}"' for blob in tops.split()]
    return "layer {\n" + "\n".join(lines) + body + "\n}\n"


def params(multipliers: tuple[tuple[int, int], ...]) -> str:
    """Return the `param` entries of a layer."""
    return "".join(f"\n  param {{ lr_mult: {lr} decay_mult: {d} }}" for lr, d in multipliers)


def options(field: str, weight_filler: str, **numbers: int | None) -> str:
    """Return the message of a layer with weight and bias; a number that is None is left out."""
    lines = [f"    {name}: {value}" for name, value in numbers.items() if value is not None]
    lines.append(f"    weight_filler {{ {weight_filler} }}")
    lines.append('    bias_filler { type: "constant" value: 0 }')
    return f"\n  {field} {{\n" + "\n".join(lines) + "\n  }"


def convolution(
    name: str,
    bottom: str,
    num_output: int,
    kernel_size: int = 3,
    stride: int | None = 1,
    pad: int | None = None,
    multipliers: tuple[tuple[int, int], ...] = LEARNED,
    weight_filler: str = XAVIER,
) -> str:
    """Return a convolution whose top has its name."""
    message = options(
        "convolution_param",
        weight_filler,
        num_output=num_output,
        kernel_size=kernel_size,
        stride=stride,
        pad=pad,
    )
    return layer(name, "Convolution", bottom, name, params(multipliers) + message)


def inner_product(
    name: str, bottom: str, num_output: int, multipliers: tuple[tuple[int, int], ...] = LEARNED
) -> str:
    """Return a fully connected layer."""
    message = options("inner_product_param", XAVIER, num_output=num_output)
    return layer(name, "InnerProduct", bottom, name, params(multipliers) + message)


def prelu(name: str, blob: str, body: str = "") -> str:
    """Return a PReLU in place; without `param` its slopes learn and decay with multipliers 1."""
    return layer(name, "PReLU", blob, blob, body)


def normalised(suffix: str, blob: str) -> str:
    """Return BatchNorm and Scale in place; BatchNorm's blobs are statistics, which do not learn."""
    scale = "\n  scale_param { bias_term: true }"
    norm = layer(f"batchnorm{suffix}", "BatchNorm", blob, blob, params(((0, 0),) * 3))
    return norm + layer(f"scale{suffix}", "Scale", blob, blob, scale)


def max_pooling(name: str, bottom: str, kernel_size: int) -> str:
    """Return a maximum over windows two apart."""
    body = f"\n  pooling_param {{ pool: MAX kernel_size: {kernel_size} stride: 2 }}"
    return layer(name, "Pooling", bottom, name, body)


def softmax(name: str, bottom: str) -> str:
    """Return a softmax over the channels."""
    return layer(name, "Softmax", bottom, name)


def inputs(*dims: int) -> str:
    """Return the input lines of a deploy file."""
    return 'input: "data"\n' + "".join(f"input_dim: {dim}\n" for dim in dims)


def margin_head(num_output: int, base: int = 1000, lambda_min: int = 5) -> str:
    """Return the classifier on fc5 and its loss."""
    body = params(LEARNED[:1]) + (
        "\n  margin_inner_product_param {"
        f"\n    num_output: {num_output}"
        "\n    type: QUADRUPLE"
        f"\n    weight_filler {{ {XAVIER} }}"
        f"\n    base: {base}"
        "\n    gamma: 0.12"
        "\n    power: 1"
        f"\n    lambda_min: {lambda_min}"
        "\n    iteration: 0"
        "\n  }"
    )
    head = layer("fc6", "MarginInnerProduct", "fc5 label", "fc6 lambda", body)
    return head + layer("softmax_loss", "SoftmaxWithLoss", "fc6 label", "softmax_loss")


def sphereface_body(units: tuple[int, ...], batch_norm: bool) -> str:
    """Return the layers from conv1_1 to fc5."""

    def activation(place: str) -> str:
        norm = normalised(place.removesuffix("_1"), f"conv{place}") if batch_norm else ""
        return norm + prelu(f"relu{place}", f"conv{place}")

    text, blob = "", "data"
    for stage, (channels, count) in enumerate(zip(CHANNELS, units, strict=True), 1):
        name = f"conv{stage}_1"
        text += convolution(name, blob, channels, stride=2, pad=1) + activation(f"{stage}_1")
        blob = name
        for unit in range(count):
            bottom = blob
            for index in (2 * unit + 2, 2 * unit + 3):
                name = f"conv{stage}_{index}"
                text += convolution(
                    name, bottom, channels, pad=1, multipliers=WITHOUT_BIAS, weight_filler=GAUSSIAN
                )
                text += activation(f"{stage}_{index}")
                bottom = name
            total = f"res{stage}_{index}"
            sum_of = "\n  eltwise_param { operation: SUM }"
            text += layer(total, "Eltwise", f"{blob} {name}", total, sum_of)
            blob = total
    return text + inner_product("fc5", blob, 512)


def sphereface_files(depth: str, batch_norm: bool = False) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of the train, deploy and solver files of a depth."""
    units = UNITS[depth]
    depth += "_bn" if batch_norm else ""
    title = header(f"SphereFace-{depth.replace('_', ', ')}: {units} residual units in its stages")
    name = f'name: "SpherefaceNet-{depth.replace("_", "-")}"\n'
    body = sphereface_body(units, batch_norm)
    data = layer("data", "ImageData", "", "data label", CASIA_DATA)
    yield f"sphereface_{depth}_train", title + name + data + body + margin_head(CASIA_CLASSES)
    yield f"sphereface_{depth}_deploy", title + name + inputs(1, 3, 112, 96) + body
    title = header(f"Solver of SphereFace-{depth.replace('_', ', ')} on CASIA-WebFace") + TWO_GPUS
    if depth != "20":
        title += NO_ORIGINAL
    if batch_norm:
        title += NORMALISED_NOTE
    if depth.startswith("64"):
        title += DEEP
    yield f"sphereface_{depth}_solver", title + solver(f"sphereface_{depth}", SOLVER)


def solver(stem: str, settings: str) -> str:
    """Return a solver of the train net beside it."""
    return f'net: "{stem}_train.prototxt"' + settings + f'snapshot_prefix: "{stem}"\n'


def digits_files() -> Iterator[tuple[str, str]]:
    """Yield (name, text) of the demo's files: handwritten digits of 8 x 8 pixels.

    The embedding is narrower than the number of classes, as it is for faces (512 for 10572).
    """
    title = header("The demo's net on 8 x 8 handwritten digits, six classes of them")
    name = 'name: "digits"\n'
    body = (
        convolution("conv1", "data", 16, pad=1)
        + prelu("relu1", "conv1")
        + convolution("conv2", "conv1", 32, stride=2, pad=1)
        + prelu("relu2", "conv2")
        + convolution("conv3", "conv2", 64, stride=2, pad=1)
        + prelu("relu3", "conv3")
        + inner_product("fc5", "conv3", 4)
    )
    data = layer("data", "MemoryData", "", "data label", DIGITS_DATA)
    yield "digits_train", title + name + data + body + margin_head(6, base=100, lambda_min=2)
    yield "digits_deploy", title + name + inputs(1, 1, 8, 8) + body
    yield "digits_solver", header("Solver of the demo's net") + solver("digits", DIGITS_SOLVER)


def mtcnn_files() -> Iterator[tuple[str, str]]:
    """Yield (name, text) of MTCNN's three nets (Zhang et al., 2016; MIT licence)."""
    title = "MTCNN {}; sees transposed RGB images, (pixel - 127.5) * 0.0078125"
    yield (
        "det1",
        header(title.format("P-Net"))
        + 'name: "PNet"\n'
        + inputs(1, 3, 12, 12)
        + convolution("conv1", "data", 10)
        + prelu("PReLU1", "conv1")
        + max_pooling("pool1", "conv1", 2)
        + convolution("conv2", "pool1", 16)
        + prelu("PReLU2", "conv2")
        + convolution("conv3", "conv2", 32)
        + prelu("PReLU3", "conv3")
        + convolution("conv4-1", "conv3", 2, 1)
        + convolution("conv4-2", "conv3", 4, 1)
        + softmax("prob1", "conv4-1"),
    )
    propagated = "\n  propagate_down: true"
    yield (
        "det2",
        header(title.format("R-Net"))
        + 'name: "RNet"\n'
        + inputs(1, 3, 24, 24)
        + convolution("conv1", "data", 28, multipliers=FROZEN)
        + prelu("prelu1", "conv1", propagated)
        + max_pooling("pool1", "conv1", 3)
        + convolution("conv2", "pool1", 48, multipliers=FROZEN)
        + prelu("prelu2", "conv2", propagated)
        + max_pooling("pool2", "conv2", 3)
        + convolution("conv3", "pool2", 64, 2, multipliers=FROZEN)
        + prelu("prelu3", "conv3", propagated)
        + inner_product("conv4", "conv3", 128, FROZEN)
        + prelu("prelu4", "conv4")
        + inner_product("conv5-1", "conv4", 2, FROZEN)
        + inner_product("conv5-2", "conv4", 4, DECAYED_BIAS)
        + softmax("prob1", "conv5-1"),
    )
    yield (
        "det3",
        header(title.format("O-Net"))
        + 'name: "ONet"\n'
        + inputs(1, 3, 48, 48)
        + convolution("conv1", "data", 32, multipliers=DECAYED_BIAS)
        + prelu("prelu1", "conv1")
        + max_pooling("pool1", "conv1", 3)
        + convolution("conv2", "pool1", 64, multipliers=DECAYED_BIAS)
        + prelu("prelu2", "conv2")
        + max_pooling("pool2", "conv2", 3)
        + convolution("conv3", "pool2", 64, stride=None, multipliers=DECAYED_BIAS)
        + prelu("prelu3", "conv3")
        + max_pooling("pool3", "conv3", 2)
        + convolution("conv4", "pool3", 128, 2, stride=None, multipliers=DECAYED_BIAS)
        + prelu("prelu4", "conv4")
        + inner_product("conv5", "conv4", 256, DECAYED_BIAS)
        + layer("drop5", "Dropout", "conv5", "conv5", "\n  dropout_param { dropout_ratio: 0.25 }")
        + prelu("prelu5", "conv5")
        + inner_product("conv6-1", "conv5", 2, DECAYED_BIAS)
        + inner_product("conv6-2", "conv5", 4, DECAYED_BIAS)
        + inner_product("conv6-3", "conv5", 10, DECAYED_BIAS)
        + softmax("prob1", "conv6-1"),
    )


def files() -> dict[str, str]:
    """Return file name to text of everything in the folder."""
    texts = [entry for depth in UNITS for entry in sphereface_files(depth)]
    texts += [entry for depth in NORMALISED for entry in sphereface_files(depth, batch_norm=True)]
    texts += [*digits_files(), *mtcnn_files()]
    return {f"{name}.prototxt": text for name, text in texts}


def main() -> int:
    """Run the command; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    texts = files()
    present = {path.name: path for path in FOLDER.glob("*.prototxt")}
    if check:
        stale = [n for n, t in texts.items() if n not in present or present[n].read_text() != t]
        stale += sorted(set(present) - set(texts))
        for name in stale:
            print(f"{name} is out of date; run python tools/make_prototxts.py", file=sys.stderr)
        return 1 if stale else 0
    for name, text in texts.items():
        (FOLDER / name).write_text(text)
    for name in sorted(set(present) - set(texts)):
        present[name].unlink()
    print(f"{FOLDER}: {len(texts)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
