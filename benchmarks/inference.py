r"""Forward of nets from Caffe's files: `Predictor` against engines and torch, in turn.

Every side is a process of its own (benchmarks/forward_server.py) with the same weights and as many
threads. All sides take turns (A B C A B C ...), so that a slow phase of the machine hits all of
them, and all but the one whose turn it is are stopped (SIGSTOP): threads of a side that waits would
spin for a while and take its time. Ratios are taken within a round, and their quartiles over the
rounds are kept. Outputs are compared with the net's in float64.

    python -m venv build/engines
    build/engines/bin/pip install numpy openvino onnxruntime opencv-python-headless==4.14.0.94
    python benchmarks/inference.py --engines build/engines/bin/python --models build/nets \
        --json benchmarks/results/NAME.json [--missing] [--nets det1 det1:480 ...] [--batches 1 16]

`--json` is written after every net and batch, and keeps what the file has of others and of other
sides; with `--missing` what it has is not measured again, so that the same command goes on after a
cut. `--first-call` measures new processes instead: the first result after a load and the peak of
memory. `--plot` draws cost against depth and batch from the file, without measuring.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from forward_nets import DEPTHS, NETS, prepare
from forward_server import SIDES

from sphereface.files import atomic_path

ENGINES = ("openvino", "onnxruntime", "opencv")
MEASURED = (
    "sphereface_20", "sphereface_64", "mobilefacenet", "det1", "det1:48", "det1:240", "det1:480",
    "det2", "det3", "resnet_50",
)  # fmt: skip
TURN = 0.1  # seconds that a turn should take
TOLERANCE = 1e-3  # of an output's norm: bfloat16 would be over it
FIRST = ("predictor", "no-fuse")


class Server:
    """A side in its process, which is stopped unless it was asked something."""

    def __init__(self, side: str, python: str, threads: int) -> None:
        server = Path(__file__).with_name("forward_server.py")
        self.side = side
        self.process = subprocess.Popen(
            [python, str(server), side, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: str) -> str:
        """Send a request; return the answer."""
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> str:
        """Return the next line; stop the process."""
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.side}'s process ended; see its message above")
        self.process.send_signal(signal.SIGSTOP)
        return line.strip()

    def run(self, passes: int) -> float:
        """Return the seconds of a pass."""
        return float(self.ask(f"run {passes}")) / passes

    def close(self) -> None:
        """End the process."""
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()


def python_of(side: str, args: argparse.Namespace) -> str:
    """Return the Python that has a side."""
    return str(args.engines) if side in ENGINES else sys.executable


def images_of(net: Any, size: int, batch: int) -> np.ndarray:
    """Return random images for a net, square ones of `size` if it is not 0."""
    _, channels, height, width = net.blob_shapes[net.inputs[0]]
    shape = (batch, channels, size or height, size or width)
    return np.random.default_rng(batch).normal(size=shape).astype(np.float32)


def largest_error(exact: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> float:
    """Return the largest relative norm of a difference; a single output needs no name."""
    if len(exact) == 1:
        found = dict(zip(exact, found.values(), strict=True))
    return max(
        float(np.linalg.norm(found[name][: len(value)] - value) / np.linalg.norm(value))
        for name, value in exact.items()
    )


def quartiles(values: list[float], digits: int = 4) -> list[float]:
    """Return lower quartile, median and upper quartile."""
    if len(values) < 2:
        return [round(values[0], digits)] * 3
    return [round(v, digits) for v in statistics.quantiles(values, n=4, method="inclusive")]


def measure(
    servers: list[Server],
    images: np.ndarray,
    exact: dict[str, np.ndarray],
    rounds: int,
    folder: Path,
) -> dict[str, dict[str, Any]]:
    """Return times, ratios and errors of the sides for a batch."""
    file = folder / "images.npy"
    np.save(file, images)
    passes, seconds = {}, {server.side: [] for server in servers}
    errors = {}
    for server in servers:
        server.ask(f"set {file}")
        server.run(2)  # the first pass allocates and compiles
        passes[server.side] = int(min(max(TURN / server.run(1), 1), 500))
        server.ask(f"save {folder / 'output.npz'}")
        with np.load(folder / "output.npz") as output:
            errors[server.side] = error = largest_error(exact, dict(output))
        if not error <= TOLERANCE:
            raise SystemExit(f"{server.side}'s outputs differ from the net's by {error:.1e}")
    for _ in range(rounds):
        for server in servers:
            if passes[server.side] > 1:
                server.run(1)
            seconds[server.side].append(server.run(passes[server.side]))
    found: dict[str, dict[str, Any]] = {}
    for side, values in seconds.items():
        found[side] = {
            "ms": quartiles([1e3 * value for value in values]),
            "error": float(f"{errors[side]:.1e}"),
            "rounds": rounds,
        }
        if side != "predictor" and "predictor" in seconds:
            pairs = zip(seconds["predictor"], values, strict=True)
            found[side]["predictor_ratio"] = quartiles([ours / its for ours, its in pairs])
    return found


def show(title: str, found: dict[str, dict[str, Any]]) -> None:
    """Print what `measure` returned."""
    print(f"\n{title:30}{'ms':>10}{'quartiles':>22}{'error':>9}   Predictor's time / its")
    for side, result in found.items():
        low, middle, high = result["ms"]
        line = f"  {side:28}{middle:10.3f}{low:12.3f}{high:10.3f}{result['error']:9.0e}"
        if "predictor_ratio" in result:
            low, middle, high = result["predictor_ratio"]
            line += f"   {middle:.3f} [{low:.3f} .. {high:.3f}]"
        print(line, flush=True)


def measure_all(args: argparse.Namespace, results: dict[str, Any], folder: Path) -> None:
    """Measure every net and batch into `results`."""
    servers = [Server(side, python_of(side, args), args.threads) for side in args.sides]
    for server in servers:
        results["versions"][server.side] = server.answer()
    for title in args.nets:
        name, _, size = title.partition(":")
        done = results["nets"].setdefault(title, {})
        batches = [
            batch
            for batch in args.batches
            if not args.missing or not done.get(str(batch), {}).keys() >= set(args.sides)
        ]
        if not batches:
            continue
        net = prepare(name, args.models / name)
        for server in servers:
            server.ask(f"load {args.models / name}")
        for batch in batches:
            images = images_of(net, int(size or 0), batch)
            with torch.inference_mode():
                some = torch.from_numpy(images[:2]).double()
                outputs = net.double()(some).items()
            exact = {key: value.numpy() for key, value in outputs}
            found = measure(servers, images, exact, args.rounds, folder)
            done.setdefault(str(batch), {}).update(found)
            show(f"{title}, batch {batch}", found)
            save(args, results)
    for server in servers:
        server.close()


def measure_first_calls(args: argparse.Namespace, results: dict[str, Any], folder: Path) -> None:
    """Measure new processes into `results`."""
    for title in args.nets:
        name, _, size = title.partition(":")
        net = prepare(name, args.models / name)
        for batch in args.batches:
            np.save(folder / "images.npy", images_of(net, int(size or 0), batch))
            seconds: dict[str, list[float]] = {side: [] for side in FIRST}
            peaks: dict[str, list[float]] = {side: [] for side in FIRST}
            for _ in range(args.rounds):
                for side in FIRST:
                    server = Server(side, python_of(side, args), args.threads)
                    server.answer()
                    server.ask(f"load {args.models / name}")
                    server.ask(f"set {folder / 'images.npy'}")
                    seconds[side].append(server.run(1))
                    server.run(2)
                    peaks[side].append(float(server.ask("peak")))
                    server.close()
            ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
            found = {
                "ms": {side: quartiles([1e3 * v for v in seconds[side]]) for side in FIRST},
                "peak_mib": {side: round(statistics.median(peaks[side]), 1) for side in FIRST},
                "ratio": quartiles(ratios),
            }
            results["first_call"].setdefault(title, {})[str(batch)] = found
            print(f"{title}, batch {batch}: {json.dumps(found)}", flush=True)
            save(args, results)


def save(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Write the results so far."""
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n")


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw cost against depth, and cost of an image against the batch."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    nets = results["nets"]

    def points(side: str, name: str, batch: str) -> float | None:
        found = nets.get(name, {}).get(batch, {}).get(side)
        return found["ms"][1] / int(batch) if found else None

    figure, (by_depth, by_batch) = plt.subplots(1, 2, figsize=(9, 3.6))
    batches = sorted(nets.get("sphereface_20", {}), key=int)
    for side in SIDES:
        costs = [(depth, points(side, f"sphereface_{depth}", "1")) for depth in DEPTHS]
        draw(by_depth, costs, side)
        draw(by_batch, [(int(b), points(side, "sphereface_20", b)) for b in batches], side)
    by_depth.set(title="batch 1", xlabel="SphereFace's depth", ylabel="ms an image")
    by_batch.set(title="SphereFace-20", xlabel="batch", ylabel="ms an image", xscale="log")
    by_batch.set_xticks([int(batch) for batch in batches], batches)
    by_batch.minorticks_off()
    for axis in (by_depth, by_batch):
        axis.set_ylim(bottom=0)
    by_depth.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def draw(axis: Any, costs: list[tuple[int, float | None]], side: str) -> None:
    """Draw one side's costs, those that were measured."""
    measured = [cost for cost in costs if cost[1] is not None]
    if measured:
        axis.plot(*zip(*measured, strict=True), marker="o", markersize=3, label=side)


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", type=Path, help="a Python that has the engines")
    parser.add_argument("--models", type=Path, help="folder that keeps the nets' files")
    parser.add_argument(
        "--nets", nargs="+", metavar="NET", default=MEASURED,
        help=f"of {', '.join(NETS)}; NET:SIZE runs a net on other images",
    )  # fmt: skip
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--sides", nargs="+", choices=SIDES, help="default: all that can run")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, help="file of results, which is added to")
    parser.add_argument("--missing", action="store_true", help="keep what --json has")
    parser.add_argument("--first-call", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    args = parser.parse_args()
    if args.sides is None:
        args.sides = [side for side in SIDES if side not in ENGINES or args.engines]
    if not args.engines and set(args.sides) & set(ENGINES):
        parser.error("engines need --engines")
    return args


def main() -> None:
    """Measure and print."""
    args = parsed()
    results: dict[str, Any] = {"versions": {}, "nets": {}, "first_call": {}}
    if args.json and args.json.is_file():
        results = json.loads(args.json.read_text())
    if args.plot:
        plot(results, args.plot)
        return
    results["date"] = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    results["threads"] = args.threads
    with tempfile.TemporaryDirectory() as folder:
        args.models = args.models or Path(folder) / "nets"
        run = measure_first_calls if args.first_call else measure_all
        run(args, results, Path(folder))


if __name__ == "__main__":
    main()
