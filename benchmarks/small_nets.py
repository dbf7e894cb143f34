r"""What a pass costs beyond its arithmetic: pycaffe and `net(x)` on small nets, and the first net.

Passes take turns (A B A B ...) in one process, so that a slow phase of the machine hits both; a
ratio is taken within a round, and its median and quartiles over the rounds are printed. First nets
are built in a fresh process each, whose time is split into torch's import and the rest.

    python benchmarks/small_nets.py [--rounds 31] [--json benchmarks/results/NAME.json]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sphereface import pycaffe
from sphereface.caffe import load

SIDE = 12
LAYERS = 1000

CONV = """layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"
  convolution_param {{ num_output: {outputs} kernel_size: {kernel}
    weight_filler {{ type: "xavier" }} }} }}
"""
PRELU = 'layer {{ name: "{name}" type: "PReLU" bottom: "{bottom}" top: "{bottom}" }}\n'
INPUT = 'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}\n'
POOL = """layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
"""
PROB = 'layer { name: "prob1" type: "Softmax" bottom: "conv4-1" top: "prob1" }\n'

# The first net of MTCNN (Zhang et al., 2016).
PNET = "".join(
    [
        INPUT.format(dims=f"dim: 1 dim: 3 dim: {SIDE} dim: {SIDE}"),
        CONV.format(name="conv1", bottom="data", outputs=10, kernel=3),
        PRELU.format(name="prelu1", bottom="conv1"),
        POOL,
        CONV.format(name="conv2", bottom="pool1", outputs=16, kernel=3),
        PRELU.format(name="prelu2", bottom="conv2"),
        CONV.format(name="conv3", bottom="conv2", outputs=32, kernel=3),
        PRELU.format(name="prelu3", bottom="conv3"),
        CONV.format(name="conv4-1", bottom="conv3", outputs=2, kernel=1),
        CONV.format(name="conv4-2", bottom="conv3", outputs=4, kernel=1),
        PROB,
    ]
)

FIRST = """
import time
start = time.perf_counter()
import torch
torch_seconds = time.perf_counter() - start
import sphereface
net = sphereface.caffe.load({net!r})
print(torch_seconds, time.perf_counter() - start - torch_seconds)
"""


def chain(kind: str) -> tuple[str, nn.Sequential]:
    """Return a chain of tiny layers as prototxt and as torch writes it."""
    text, modules = INPUT.format(dims="dim: 1 dim: 4 dim: 1 dim: 1"), []
    bottom = "data"
    for index in range(LAYERS):
        name = f"layer{index}"
        if kind == "Convolution" and index % 2 == 0:
            text += CONV.format(name=name, bottom=bottom, outputs=4, kernel=1)
            modules.append(nn.Conv2d(4, 4, 1))
        else:
            text += f'layer {{ name: "{name}" type: "ReLU" bottom: "{bottom}" top: "{name}" }}\n'
            modules.append(nn.ReLU())
        bottom = name
    return text, nn.Sequential(*modules).eval()


def pnet_sides(folder: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return pycaffe's forward of PNet and the same arithmetic by torch's functions."""
    path = folder / "pnet.prototxt"
    path.write_text(PNET)
    net = pycaffe.Net(str(path), pycaffe.TEST)
    x = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    net.blobs["data"].data[...] = x.numpy()
    w = {name: [torch.tensor(blob.data) for blob in blobs] for name, blobs in net.params.items()}

    def plain() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            y = F.prelu(F.conv2d(x, *w["conv1"]), *w["prelu1"])
            y = F.max_pool2d(y, 2, 2, ceil_mode=True)
            y = F.prelu(F.conv2d(y, *w["conv2"]), *w["prelu2"])
            y = F.prelu(F.conv2d(y, *w["conv3"]), *w["prelu3"])
            return F.softmax(F.conv2d(y, *w["conv4-1"]), 1), F.conv2d(y, *w["conv4-2"])

    out = net.forward()
    for name, expected in zip(("prob1", "conv4-2"), plain(), strict=True):
        np.testing.assert_allclose(out[name], expected.numpy(), rtol=1e-5, atol=1e-6)
    return net.forward, plain


def chain_sides(kind: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return `net(x)` of a chain and nn.Sequential's."""
    text, sequential = chain(kind)
    net = load(text)
    x = torch.randn(1, 4, 1, 1, generator=torch.Generator().manual_seed(0))
    parameters = dict(zip(sequential.state_dict(), net.parameters(), strict=True))
    sequential.load_state_dict(parameters)
    with torch.no_grad():
        torch.testing.assert_close(next(iter(net(x).values())), sequential(x))

    def ours() -> object:
        with torch.no_grad():
            return net(x)

    def theirs() -> object:
        with torch.no_grad():
            return sequential(x)

    return ours, theirs


def seconds(run: Callable[[], object], passes: int) -> float:
    """Return the mean time of a pass."""
    start = time.perf_counter()
    for _ in range(passes):
        run()
    return (time.perf_counter() - start) / passes


def compare(
    sides: tuple[Callable[[], object], Callable[[], object]], passes: int, rounds: int
) -> dict[str, object]:
    """Time two sides in turn; return medians and the ratio's quartiles."""
    for side in sides:
        seconds(side, passes)
    pairs = [[seconds(side, passes) for side in sides] for _ in range(rounds)]
    ratios = [ours / theirs for ours, theirs in pairs]
    return {
        "ours_us": round(1e6 * statistics.median(ours for ours, _ in pairs), 1),
        "theirs_us": round(1e6 * statistics.median(theirs for _, theirs in pairs), 1),
        "ratio": [round(q, 3) for q in statistics.quantiles(ratios, n=4)],
    }


def first_net(rounds: int) -> dict[str, object]:
    """Build a net in fresh processes."""
    command = [sys.executable, "-c", FIRST.format(net=PNET)]
    times = []
    for _ in range(rounds):
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append([float(word) for word in run.stdout.split()])
    torch_import, build = (statistics.median(column) for column in zip(*times, strict=True))
    return {"import_torch_s": round(torch_import, 3), "import_and_build_s": round(build, 3)}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        results = {
            "pycaffe forward of PNet at 12 px / torch's functions": compare(
                pnet_sides(Path(folder)), 200, args.rounds
            ),
            "net(x) of 1,000 ReLU / nn.Sequential": compare(chain_sides("ReLU"), 10, args.rounds),
            "net(x) of 500 Convolution + 500 ReLU / nn.Sequential": compare(
                chain_sides("Convolution"), 10, args.rounds
            ),
        }
    first = first_net(5)
    for name, result in results.items():
        low, middle, high = result["ratio"]  # type: ignore[misc]
        print(
            f"{name}: {middle:.2f}x ({low:.2f} ... {high:.2f}), "
            f"{result['ours_us']} and {result['theirs_us']} us"
        )
    print(
        f"first net of a process: {first['import_and_build_s']} s beside "
        f"{first['import_torch_s']} s of torch's import"
    )
    if args.json:
        record = {
            "date": dt.date.today().isoformat(),
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": 1,
            "torch": torch.__version__,
            "passes": results,
            "first_net": first,
        }
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
