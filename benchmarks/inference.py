r"""SphereFace-20 forward from prototxt and caffemodel, against a hand-written module and OpenCV.

All sides take turns (A B C A B C ...), so that a slow phase of the machine hits all of them; a
ratio is taken within a round, and its median and quartiles over the rounds are printed. Every side
has the same weights; its error is the relative norm of fc5's difference from the net in float64.

    python -m venv build/opencv-4.14
    build/opencv-4.14/bin/pip install opencv-python-headless==4.14.0.94
    python benchmarks/inference.py --opencv-python build/opencv-4.14/bin/python \
        [--rounds 21] [--compile] [--json benchmarks/results/NAME.json]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sphereface.caffe import Net, load
from sphereface.inference import Predictor
from sphereface.resources import prototxt_path

PROTOTXT = prototxt_path("sphereface_20_deploy")
UNITS = {"20": (1, 2, 4, 1), "64": (3, 7, 16, 3)}  # residual units of the four stages
PASSES = {1: 8, 16: 1}  # passes in a turn, by batch size

Run = Callable[[int], float]  # number of passes -> seconds


class Unit(nn.Module):
    """Two convolutions and PReLUs, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu1 = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu2 = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + f(x)."""
        return x + self.relu2(self.conv2(self.relu1(self.conv1(x))))


class HandWritten(nn.Module):
    """SphereFace-20, or another depth, as one would write it in PyTorch."""

    def __init__(self, units: tuple[int, ...] = UNITS["20"]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs, count in zip((64, 128, 256, 512), units, strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.PReLU(outputs)]
            layers += [Unit(outputs) for _ in range(count)]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.fc5 = nn.Linear(512 * 7 * 6, 512)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embedding."""
        return self.fc5(self.features(x).flatten(1))


class Side:
    """One way to run the net: passes are timed, and the last output is kept."""

    def __init__(self, forward: Callable[[Tensor], Tensor], channels_last: bool = False) -> None:
        self.forward = forward
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.images = self.output = torch.empty(0)

    def set(self, images: Tensor) -> None:
        """Take the images of the next passes."""
        self.images = images.to(memory_format=self.format)

    def run(self, passes: int) -> float:
        """Return the seconds of some passes."""
        begin = time.perf_counter()
        with torch.inference_mode():
            for _ in range(passes):
                self.output = self.forward(self.images)
        return time.perf_counter() - begin

    def result(self) -> np.ndarray:
        """Return the last output."""
        return self.output.float().numpy()


class OpenCV:
    """OpenCV's dnn in a process of its own, since its Python has no torch."""

    def __init__(self, python: Path, caffemodel: Path, threads: int, folder: Path) -> None:
        server = Path(__file__).with_name("opencv_server.py")
        command = [str(python), str(server), str(PROTOTXT), str(caffemodel), str(threads)]
        self.file = folder / "opencv.npy"
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.version = self._answer()

    def set(self, images: Tensor) -> None:
        """Take the images of the next passes."""
        np.save(self.file, images.numpy())
        self._ask(f"set {self.file}")

    def run(self, passes: int) -> float:
        """Return the seconds of some passes."""
        return float(self._ask(f"run {passes}"))

    def result(self) -> np.ndarray:
        """Return the last output."""
        self._ask(f"save {self.file}")
        return np.load(self.file)

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()

    def _ask(self, line: str) -> str:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("OpenCV's process ended; see its message above")
        return line.strip()


def hand_written(net: Net, channels_last: bool) -> Side:
    """Return the hand-written module with the weights of `net`."""
    module = HandWritten().eval()
    ours = [blob.tensor for blob in net.learnable_blobs()]
    with torch.no_grad():
        for theirs, own in zip(module.parameters(), ours, strict=True):
            theirs.copy_(own)
    module.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    return Side(module, channels_last)


def from_prototxt(caffemodel: Path, channels_last: bool) -> Side:
    """Return the net called as a module."""
    net = load(PROTOTXT, caffemodel)
    net.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    return Side(lambda images: net(images)["fc5"], channels_last)


def predictor(caffemodel: Path, **options: bool) -> Side:
    """Return the net as `sphereface run` runs it, conversions of the images included."""
    run = Predictor(load(PROTOTXT, caffemodel), **options)
    return Side(lambda images: run({"data": images})["fc5"])


def make_sides(caffemodel: Path, compiled: bool) -> dict[str, Side]:
    """Return every way to run the model with torch."""
    net = load(PROTOTXT, caffemodel)
    sides = {
        "hand-written": hand_written(net, False),
        "net": from_prototxt(caffemodel, False),
        "hand-written, channels_last": hand_written(net, True),
        "net, channels_last": from_prototxt(caffemodel, True),
        "sphereface run": predictor(caffemodel),
        "sphereface run, not packed": predictor(caffemodel, pack=False),
        "sphereface run, not channels_last": predictor(caffemodel, channels_last=False),
        "sphereface run --bfloat16": predictor(caffemodel, bfloat16=True),
    }
    if compiled:
        sides["sphereface run --compile"] = predictor(caffemodel, compile=True)
        sides["sphereface run --compile --bfloat16"] = predictor(
            caffemodel, compile=True, bfloat16=True
        )
    return sides


def measure(
    sides: dict[str, Side | OpenCV], batch: int, rounds: int, exact: Net
) -> dict[str, dict[str, object]]:
    """Return seconds a pass of every side and round, and errors."""
    torch.manual_seed(batch)
    images = torch.randn(batch, 3, 112, 96)
    with torch.inference_mode():
        expected = exact(images.double())["fc5"].numpy()
    passes = PASSES[batch]
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side.set(images)
        side.run(2)  # the first pass allocates and compiles
    for _ in range(rounds):
        for name, side in sides.items():
            seconds[name].append(side.run(passes) / passes)
    results = {}
    for name, side in sides.items():
        error = np.linalg.norm(side.result() - expected) / np.linalg.norm(expected)
        results[name] = {"seconds": seconds[name], "error": float(error)}
    return results


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile."""
    if len(values) < 2:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


RATIOS = [
    ("net", "hand-written"),
    ("net, channels_last", "hand-written, channels_last"),
    ("sphereface run", "hand-written"),
    ("sphereface run", "OpenCV"),
    ("sphereface run", "sphereface run, not packed"),
    ("sphereface run", "sphereface run, not channels_last"),
    ("sphereface run --bfloat16", "sphereface run"),
    ("sphereface run --compile", "sphereface run"),
]


def report(batch: int, results: dict[str, dict[str, object]]) -> list[dict[str, object]]:
    """Print one batch size; return the ratios."""
    print(f"\nbatch {batch}{'ms a pass':>43}{'error':>12}")
    for name, result in results.items():
        low, middle, high = (1e3 * value for value in quartiles(result["seconds"]))
        print(f"  {name:38}{middle:8.1f} [{low:.1f} .. {high:.1f}]  {result['error']:.1e}")
    ratios = []
    for ours, theirs in RATIOS:
        if ours in results and theirs in results:
            pairs = zip(results[ours]["seconds"], results[theirs]["seconds"], strict=True)
            low, middle, high = quartiles([a / b for a, b in pairs])
            print(f"  {ours} / {theirs}: {middle:.3f} [{low:.3f} .. {high:.3f}]")
            ratios.append({"of": ours, "to": theirs, "ratio": middle, "quartiles": [low, high]})
    return ratios


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--opencv-python", type=Path, help="a Python that has OpenCV 4.14")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batches", type=int, nargs="+", choices=PASSES, default=list(PASSES))
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too (slow)")
    parser.add_argument("--json", type=Path, help="also write the results here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    facts = {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "threads": args.threads,
        "torch": torch.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        caffemodel = Path(folder) / "sphereface_20.caffemodel"
        load(PROTOTXT, generator=torch.Generator().manual_seed(0)).save(caffemodel)
        sides: dict[str, Side | OpenCV] = dict(make_sides(caffemodel, args.compile))
        opencv = None
        if args.opencv_python:
            opencv = OpenCV(args.opencv_python, caffemodel, args.threads, Path(folder))
            sides["OpenCV"], facts["opencv"] = opencv, opencv.version
        print(", ".join(f"{name} {value}" for name, value in facts.items()))
        exact = load(PROTOTXT, caffemodel).double()
        batches = {}
        for batch in args.batches:
            results = measure(sides, batch, args.rounds, exact)
            batches[batch] = {"sides": results, "ratios": report(batch, results)}
        if opencv:
            opencv.close()
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({**facts, "batches": batches}, indent=1) + "\n")


if __name__ == "__main__":
    main()
