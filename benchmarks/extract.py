r"""What `extract` costs around the net: JPEG files to an .npz, against the net on ready batches.

Both sides take turns; a ratio is taken within a round, and its median and quartiles are printed.

    python benchmarks/extract.py [--images 256] [--rounds 5] [--json benchmarks/results/NAME.json]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from sphereface.caffe import load
from sphereface.images import Preprocessing, list_images
from sphereface.inference import ImageRecords, Predictor, extract
from sphereface.resources import prototxt_path

FORM = Preprocessing(size=(112, 96), mean=np.array([127.5]), scale=1 / 128)


def write_images(folder: Path, count: int) -> None:
    """Write JPEGs of 112 x 96 with the detail of a face crop (about 4 KB each)."""
    rng = np.random.default_rng(1)
    for index in range(count):
        pixels = cv2.resize(rng.integers(0, 256, (28, 24, 3), dtype=np.uint8), (96, 112))
        cv2.imwrite(str(folder / f"{index:06d}.jpg"), pixels)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--net", default="sphereface_20_deploy")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    predictor = Predictor(load(prototxt_path(args.net)))
    rounds = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "images")
        folder.mkdir()
        write_images(folder, args.images)
        files = list_images([folder])
        records = ImageRecords(files, "data", FORM)
        ready = [batch.forms[0] for batch in records.batches(args.batch)]
        predictor(ready[0])
        for number in range(args.rounds):
            begin = time.perf_counter()
            for inputs in ready:
                predictor(inputs)
            net = time.perf_counter() - begin
            begin = time.perf_counter()
            extract(predictor, records, Path(name, f"{number}.npz"), batch=args.batch)
            rounds.append({"net": net, "extract": time.perf_counter() - begin})
    ratios = sorted(entry["extract"] / entry["net"] for entry in rounds)
    low, median, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    print(
        f"{args.images} images through {args.net} at {args.batch} a batch: extract / net alone "
        f"{median:.3f} ({low:.3f} to {high:.3f})"
    )
    if args.json:
        result = {
            "date": dt.date.today().isoformat(),
            "machine": platform.processor() or platform.machine(),
            "cpus": len(os.sched_getaffinity(0)),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "images": args.images,
            "batch": args.batch,
            "net": args.net,
            "ratio": {"median": median, "low": low, "high": high},
            "rounds": rounds,
        }
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
