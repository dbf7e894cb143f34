"""Images a second of ImageData against a plain torch DataLoader with OpenCV decoding.

JPEGs in the page cache, of 112 x 96 and of 250 x 250 that are resized to 112 x 96, become batches
of (128, 3, 112, 96) float32: mirror, mean 127.5, scale 0.0078125, shuffled. Ours has as many
threads as there are cores, the DataLoader as many worker processes (kept alive) or none; all take
turns.
A ratio is our images a second over the faster DataLoader's of the same round. The pictures are
smooth noise with grain, with about as many bytes as aligned faces.

    python benchmarks/data_pipeline.py [--rounds 11] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from google.protobuf import text_format
from torch.utils.data import DataLoader, Dataset

from sphereface.data import open_source
from sphereface.proto import schema

IMAGES, BATCH, HEIGHT, WIDTH = 2048, 128, 112, 96
SIZES = {"112x96": (112, 96), "250x250 -> 112x96": (250, 250)}
CORES = len(os.sched_getaffinity(0))


def make(folder: Path, size: tuple[int, int]) -> Path:
    """Write the JPEGs and their list."""
    rng = np.random.default_rng(0)
    lines = []
    for index in range(IMAGES):
        coarse = rng.integers(0, 256, (size[0] // 12, size[1] // 12, 3)).astype(np.uint8)
        smooth = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        grain = rng.integers(-6, 7, smooth.shape)
        path = folder / f"{index}.jpg"
        cv2.imwrite(str(path), np.clip(smooth + grain, 0, 255).astype(np.uint8))
        lines.append(f"{path} {index % 100}\n")
    (folder / "list.txt").write_text("".join(lines))
    return folder / "list.txt"


class Images(Dataset):
    """What one writes without thinking about it."""

    def __init__(self, source: Path) -> None:
        self.entries = [line.rsplit(" ", 1) for line in source.read_text().splitlines()]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.entries[index]
        image = cv2.imread(path)
        if image.shape[:2] != (HEIGHT, WIDTH):
            image = cv2.resize(image, (WIDTH, HEIGHT))
        if torch.rand(()) < 0.5:
            image = image[:, ::-1]
        values = (image.astype(np.float32) - 127.5) * 0.0078125
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1))), int(label)


def ours(source: Path, workers: int) -> Iterator[object]:
    """Yield batches of ImageData for ever."""
    param = schema.message("LayerParameter")()
    text_format.Parse(
        f"""name: "data" type: "ImageData" top: "data" top: "label"
        transform_param {{ mean_value: 127.5 scale: 0.0078125 mirror: true }}
        image_data_param {{ source: "{source}" batch_size: {BATCH} shuffle: true
                            new_height: {HEIGHT} new_width: {WIDTH} }}""",
        param,
    )
    with open_source(param, seed=0, workers=workers) as images:
        while True:
            yield images.next_batch()


def loader(source: Path, workers: int) -> Iterator[object]:
    """Yield batches of the DataLoader for ever."""
    batches = DataLoader(
        Images(source),
        BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
    )
    while True:
        yield from batches


def rate(batches: Iterator[object]) -> float:
    """Return images a second over one epoch; what the first wait leaves ready is not counted."""
    next(batches)
    begin = time.perf_counter()
    for _ in range(IMAGES // BATCH - 1):
        next(batches)
    return (IMAGES - BATCH) / (time.perf_counter() - begin)


def measure(source: Path, rounds: int) -> dict[str, list[float]]:
    """Return images a second of each way, a value a round."""
    ways: dict[str, Callable[[], Iterator[object]]] = {
        f"ImageData, {CORES} threads": lambda: ours(source, CORES),
        "ImageData, no threads": lambda: ours(source, 0),
        f"DataLoader, {CORES} workers": lambda: loader(source, CORES),
        "DataLoader, no workers": lambda: loader(source, 0),
    }
    running = {name: make() for name, make in ways.items()}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, batches in running.items():
            value = rate(batches)
            if turn:
                rates[name].append(value)
    return rates


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, object] = {
        "cores": CORES, "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__, "opencv": cv2.__version__, "rounds": options.rounds,
        "load_average_before": os.getloadavg()[0],
    }  # fmt: skip
    for title, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            rates = measure(make(Path(folder), size), options.rounds)
        names = list(rates)
        print(f"{title}, {CORES} cores, {options.rounds} rounds in turn")
        for name, values in rates.items():
            low, high = min(values), max(values)
            print(
                f"  {name:24} {statistics.median(values):7.0f} images/s [{low:.0f} .. {high:.0f}]"
            )
        best = [max(pair) for pair in zip(rates[names[2]], rates[names[3]], strict=True)]
        ratios = sorted(a / b for a, b in zip(rates[names[0]], best, strict=True))
        print(
            f"  ratio to the faster DataLoader: {statistics.median(ratios):.2f}"
            f" [{ratios[0]:.2f} .. {ratios[-1]:.2f}]"
        )
        results[title] = {"images_per_second": rates, "ratios": ratios}
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
