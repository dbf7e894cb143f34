r"""float32, bfloat16 and int8 on LFW: a pass's time against float32's, and the accuracy left.

int8 is torch's own quantisation after training (torchao's PT2E with its X86InductorQuantizer, a
scale an output channel, activations calibrated on pictures of people of no pair) of the folded net,
compiled by inductor with frozen weights. The three take turns, batch by batch.

    pip install torchao --no-deps
    python benchmarks/precision.py ../shared/lfw [--per-fold 60] \
        [--json benchmarks/results/NAME.json]

The folder holds `lfw-112x112.tar`, `pairs.txt` and `mobilefacenet.caffemodel`. `--per-fold` takes
the first pairs of each fold alone, half of them of one person.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import statistics
import tarfile
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sphereface.caffe import Net, load
from sphereface.caffe.layers.convolution import Convolution
from sphereface.evaluation import read_pairs, ten_fold
from sphereface.inference import Predictor
from sphereface.inference.fused import fold
from sphereface.progress import Progress

BATCH, CALIBRATED = 32, 4  # pictures in a pass, passes

Run = Callable[[Tensor], Tensor]


class Folded(nn.Module):
    """The folded net by torch.nn.functional, which the quantiser knows."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.input = net.graph.inputs["data"]
        folded = fold(net, [net.graph.blobs[net.outputs[0]]])
        self.output = folded.source[net.graph.blobs[net.outputs[0]]]
        self.operations = [part for o in folded.operations for part in o.parts or (o,)]
        for index, operation in enumerate(self.operations):
            if not operation.product:
                if operation.after is not None:
                    self.register_buffer(f"weight{index}", operation.after.scale.float())
                    self.register_buffer(f"bias{index}", operation.after.shift.float())
                continue
            self.register_buffer(f"weight{index}", operation.weight().clone())
            bias = operation.bias()
            self.register_buffer(f"bias{index}", None if bias is None else bias.clone())
            if operation.slopes is not None:
                self.register_buffer(f"slopes{index}", operation.slopes.float())

    def forward(self, x: Tensor) -> Tensor:
        """Return the features."""
        values = {self.input: x}
        for index, operation in enumerate(self.operations):
            x = values[operation.bottoms[0]]
            if operation.is_layer:
                values[operation.tops[0]] = operation.layer(x)
                continue
            weight, bias = getattr(self, f"weight{index}"), getattr(self, f"bias{index}")
            layer = operation.layer
            if isinstance(layer, Convolution):
                y = F.conv2d(x, weight, bias, layer.stride, layer.pad, layer.dilation, layer.group)
            elif operation.product:
                y = F.linear(x.flatten(1), weight, bias)
            else:
                shape = (-1, *[1] * (x.dim() - 2))
                y = x * weight.view(shape) + bias.view(shape)
            if operation.residual and operation.residual_first:
                y = y + values[operation.bottoms[-1]]
            if operation.slopes is not None:
                y = F.prelu(y, getattr(self, f"slopes{index}"))
            if operation.residual and not operation.residual_first:
                y = y + values[operation.bottoms[-1]]
            values[operation.tops[0]] = y
        return values[self.output]


def quantised(net: Net, calibration: Tensor) -> Run:
    """Return the net in int8."""
    import torch._inductor.config
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    # Strict, or no node says which function it comes from, and the quantiser takes none.
    program = torch.export.export(Folded(net).eval(), (calibration[:BATCH],), strict=True)
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(program.module(), quantizer)
    if not any(node.op == "call_module" for node in prepared.graph.nodes):
        raise SystemExit("torchao found nothing to quantise in the net")
    with torch.no_grad():
        for images in calibration.split(BATCH):
            prepared(images)
    torch._inductor.config.freezing = True
    compiled = torch.compile(convert_pt2e(prepared), dynamic=False)
    return torch.no_grad()(compiled)


def predictor(net: Net, bfloat16: bool = False) -> Run:
    """Return the net as `sphereface run` runs it."""
    run = Predictor(net, bfloat16=bfloat16)
    return lambda images: run({"data": images})[net.outputs[0]]


def pictures(archive: Path) -> dict[str, bytes]:
    """Return the files of the archive by their names without folders and suffix."""
    with tarfile.open(archive) as files:
        return {
            PurePosixPath(member.name).stem: files.extractfile(member).read()
            for member in files
            if member.isfile()
        }


def blob(files: list[bytes]) -> Tensor:
    """Return pictures as the net's input."""
    decoded = [cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR) for file in files]
    images = np.stack(decoded)[:, :, :, ::-1].transpose(0, 3, 1, 2)
    return torch.from_numpy((images.astype(np.float32) - 128) / 128)


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lfw", type=Path)
    parser.add_argument("--per-fold", type=int, default=600)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    files, pairs = pictures(args.lfw / "lfw-112x112.tar"), read_pairs(args.lfw / "pairs.txt")
    names = [np.array([Path(n).stem for n in side]) for side in (pairs.left, pairs.right)]
    chosen = np.zeros(len(pairs.same), bool)
    for number in np.unique(pairs.fold):
        for same in (False, True):
            of_both = np.flatnonzero((pairs.fold == number) & (pairs.same == same))
            chosen[of_both[: args.per_fold // 2]] = True
    needed = sorted({*names[0][chosen], *names[1][chosen]})
    paired = {name[:-5] for side in names for name in side}  # PERSON_0001
    others = sorted(name for name in files if name[:-5] not in paired)
    calibration = blob([files[name] for name in others[: BATCH * CALIBRATED]])

    model = args.lfw / "mobilefacenet.caffemodel"
    sides: dict[str, Run] = {
        "float32": predictor(load(model, model)),
        "bfloat16": predictor(load(model, model), bfloat16=True),
        "int8": quantised(load(model, model), calibration),
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    features: dict[str, list[Tensor]] = {side: [] for side in sides}
    for run in sides.values():
        run(calibration[:BATCH])
        run(calibration[:BATCH])
    with Progress(len(needed), "pictures") as progress:
        for start in range(0, len(needed), BATCH):
            part = needed[start : start + BATCH]
            filled = part + part[:1] * (BATCH - len(part))  # int8 is compiled for one size
            images = blob([files[name] for name in filled])
            for side, run in sides.items():
                begin = time.perf_counter()
                found = run(images)
                seconds[side].append(time.perf_counter() - begin)
                features[side].append(found[: len(part)].clone())
            progress.update(len(part))

    rows = {}
    row_of = {name: row for row, name in enumerate(needed)}
    exact = torch.cat(features["float32"])
    for side, found in features.items():
        array = torch.cat(found)
        left, right = (array[[row_of[n] for n in side_[chosen]]].numpy() for side_ in names)
        result = ten_fold(left, right, pairs.same[chosen], pairs.fold[chosen])
        ratios = [ours / base for ours, base in zip(seconds[side], seconds["float32"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows[side] = {
            "accuracy_percent": 100 * float(result.mean),
            "ratio": middle,
            "quartiles": [low, high],
            "milliseconds": 1000 * statistics.median(seconds[side]),
            "difference": float((array - exact).norm() / exact.norm()),
        }
        accuracy, difference = rows[side]["accuracy_percent"], rows[side]["difference"]
        print(
            f"{side:9} {accuracy:6.2f} %  {middle:.2f}x [{low:.2f}, {high:.2f}]"
            f"  differs by {difference:.1e}"
        )
    if args.json:
        import torchao

        record = {
            "date": str(dt.date.today()),
            "torch": torch.__version__,
            "torchao": torchao.__version__,
            "threads": torch.get_num_threads(),
            "pairs": int(chosen.sum()),
            "batch": BATCH,
            "sides": rows,
        }
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
