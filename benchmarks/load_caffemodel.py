"""Loading a 90 MB caffemodel: time against numpy reading the same bytes, and peak memory.

The file has SphereFace-20's layers (22.7 million floats). Timed in turn in one process, warm page
cache: `np.fromfile` of the file; `load_weights` alone (views); the same with every value copied
into new arrays, and into arrays that exist already, as filling a net does; and, for scale,
protobuf's own parser. Peak memory is what a fresh process needs beyond its start, by VmHWM; the
destination of the copy counts.

    python benchmarks/load_caffemodel.py [--rounds 21]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sphereface.proto import schema
from sphereface.weights import copy_blob, load_weights, write_caffemodel

UNITS = (1, 2, 4, 1)


def shapes() -> dict[str, list[tuple[int, ...]]]:
    """Return SphereFace-20's parameters."""
    layers: dict[str, list[tuple[int, ...]]] = {}
    channels = 3
    for stage, (units, width) in enumerate(zip(UNITS, (64, 128, 256, 512), strict=True), 1):
        for index in range(1, 2 * units + 2):
            layers[f"conv{stage}_{index}"] = [(width, channels, 3, 3), (width,)]
            layers[f"relu{stage}_{index}"] = [(width,)]
            channels = width
    layers["fc5"] = [(512, 512 * 7 * 6), (512,)]
    return layers


def make(path: Path) -> None:
    """Write the file."""
    rng = np.random.default_rng(0)
    layers = []
    for name, blobs in shapes().items():
        header = schema.message("LayerParameter")(name=name, type="Convolution")
        arrays = [rng.standard_normal(shape, np.float32) for shape in blobs]
        layers.append((header.SerializeToString(), arrays))
    write_caffemodel(path, "SpherefaceNet-20", layers)


def destinations() -> dict[str, list[np.ndarray]]:
    """Return a net's parameters, each page touched as its fillers do."""
    return {name: [np.full(s, 0.5, np.float32) for s in blobs] for name, blobs in shapes().items()}


def fill(path: Path, into: dict[str, list[np.ndarray]]) -> None:
    """Load the file into parameters that exist."""
    for name, arrays in load_weights(path).items():
        for source, out in zip(arrays, into[name], strict=True):
            if source is not None:
                copy_blob(source, out)


def parse(path: Path) -> None:
    """Parse the file with protobuf."""
    schema.message("NetParameter").FromString(path.read_bytes())


def touch(path: Path) -> None:
    """Load the file and read every value where it lies."""
    for arrays in load_weights(path).values():
        for array in arrays:
            if array is not None:
                array.max()


def copy(path: Path) -> list[np.ndarray]:
    """Load the file into arrays of their own."""
    copies = []
    for arrays in load_weights(path).values():
        for array in arrays:
            if array is not None:
                copies.append(np.empty(array.shape, array.dtype))
                copy_blob(array, copies[-1])
    return copies


MEMORY = {
    "np.fromfile": lambda path: np.fromfile(path, np.uint8),
    "load_weights, every value read": touch,
    "load_weights into new arrays": copy,
    "load_weights into allocated parameters": lambda path: fill(path, destinations()),
    "protobuf's parser": parse,
}


def high_water() -> int:
    """Return the most resident memory that this process has had, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM in /proc/self/status")


def measure_memory(path: Path, name: str) -> None:
    """Print the peak of one way, in this (fresh) process, beyond its start."""
    tiny = path.with_name("tiny")
    header = schema.message("LayerParameter")(name="a").SerializeToString()
    write_caffemodel(tiny, "tiny", [(header, [np.ones(1, np.float32)])])
    load_weights(tiny)  # imports are not the file's memory
    before = high_water()
    MEMORY[name](path)
    print(high_water() - before)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--memory", nargs=2, metavar=("PATH", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        measure_memory(Path(options.memory[0]), options.memory[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sphereface_20.caffemodel"
        make(path)
        size = path.stat().st_size
        into = destinations()
        ways: dict[str, Callable[[], object]] = {
            "np.fromfile": lambda: np.fromfile(path, np.uint8),
            "load_weights (views)": lambda: load_weights(path),
            "load_weights, every value read": lambda: touch(path),
            "load_weights into new arrays": lambda: copy(path),
            "load_weights into allocated parameters": lambda: fill(path, into),
            "protobuf's parser": lambda: parse(path),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds + 1):
            for name, work in ways.items():
                seconds[name].append(timed(work))
        base = seconds["np.fromfile"][1:]
        print(f"{size / 1e6:.1f} MB, {options.rounds} rounds in turn; ratio to np.fromfile")
        for name, taken in seconds.items():
            ratios = sorted(t / b for t, b in zip(taken[1:], base, strict=True))
            print(
                f"  {name:40} {1e3 * statistics.median(taken[1:]):8.2f} ms   ratio "
                f"{statistics.median(ratios):6.3f} [{ratios[0]:.3f} .. {ratios[-1]:.3f}]"
            )
        print("peak memory beyond the start of a fresh process, over the file's size")
        for name in MEMORY:
            command = [sys.executable, __file__, "--memory", str(path), name]
            peaks = [
                int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                for _ in range(3)
            ]
            low, middle, high = (peak / size for peak in sorted(peaks))
            print(f"  {name:40} {middle:6.3f} [{low:.3f} .. {high:.3f}]")


if __name__ == "__main__":
    main()
