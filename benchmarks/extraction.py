r"""What `sphereface extract` costs around the net: crops from files, against arrays that are ready.

Both sides take turns on the same crops: the bare net gets batches that are blobs already; extract
reads, decodes and prepares JPEG crops of 112 x 96 and writes an .npz. The net is SphereFace-20 with
weights of its fillers, as fast as with any others.

    python benchmarks/extraction.py [--images 128] [--batch 16] [--rounds 5] [--threads 1] \
        [--json benchmarks/results/NAME.json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from sphereface.caffe import load
from sphereface.faces.presets import find_preset
from sphereface.images import Preprocessing, list_images, write_image
from sphereface.inference import ImageRecords, Predictor, extract
from sphereface.resources import prototxt_path


def write_crops(folder: Path, count: int) -> None:
    """Write JPEG crops that are as hard to decode as faces are: smooth, with some noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:112, :96]
    for index in range(count):
        waves = [np.sin(x / rng.uniform(5, 30) + y / rng.uniform(5, 30)) for _ in range(3)]
        image = 127 + 90 * np.stack(waves, axis=2) + rng.normal(scale=6, size=(112, 96, 3))
        pixels = np.clip(image, 0, 255).astype(np.uint8)
        write_image(folder / f"{index:05}.jpg", pixels, quality=75)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    predictor = Predictor(load(prototxt_path("sphereface_20_deploy")))
    preset = find_preset("sphereface")
    form = Preprocessing(
        size=(112, 96), color=preset.color, mean=np.array([preset.mean]), scale=preset.scale
    )
    seconds: dict[str, list[float]] = {"bare net": [], "extract": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_crops(folder, arguments.images)
        files = list_images([folder])
        blobs = np.stack([form.read(file.path) for file in files])
        for turn in range(arguments.rounds + 1):
            begin = time.perf_counter()
            for start in range(0, len(blobs), arguments.batch):
                predictor({"data": blobs[start : start + arguments.batch]})
            middle = time.perf_counter()
            records = ImageRecords(files, "data", form)
            extract(predictor, records, folder / "features.npz", batch=arguments.batch)
            end = time.perf_counter()
            if turn:  # the first warms up
                seconds["bare net"].append(middle - begin)
                seconds["extract"].append(end - middle)
    ratios = [own / bare for bare, own in zip(*seconds.values(), strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    print(f"extract takes {ratio:.3f} times the bare net's time ({low:.3f} to {high:.3f})")
    if arguments.json:
        record = {
            "threads": arguments.threads,
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "images": arguments.images,
            "seconds": seconds,
            "ratio": round(ratio, 3),
            "quartiles": [round(low, 3), round(high, 3)],
        }
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
