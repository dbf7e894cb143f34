"""What `sphereface.tune_allocator` brings: forward of a large batch, and training.

Each side runs in a process of its own, because the C library's settings cannot be taken back, and
the sides take turns. Printed are the median of the rounds' ratios with their quartiles, and the
peak of resident memory.

    python benchmarks/allocator.py [--rounds 5] [--json benchmarks/results/NAME.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import sphereface
from sphereface.caffe import load
from sphereface.inference import Predictor
from sphereface.nn import MarginInnerProduct
from sphereface.resources import prototxt_path

BATCH, CLASSES, STEPS = 64, 1000, 4


def forward() -> None:
    """Run SphereFace-20 on a batch as `sphereface run` does."""
    predictor = Predictor(load(prototxt_path("sphereface_20_deploy")))
    images = {"data": torch.randn(BATCH, 3, 112, 96)}
    timed(lambda: predictor(images))


def training() -> None:
    """Run forward and backward of SphereFace-4 with A-Softmax."""
    net = load(prototxt_path("sphereface_4_deploy")).train()
    head = MarginInnerProduct(512, CLASSES)
    images, label = torch.randn(BATCH, 3, 112, 96), torch.randint(0, CLASSES, (BATCH,))

    def step() -> None:
        embedding = next(iter(net(images).values()))
        F.cross_entropy(head(embedding, label), label).backward()

    timed(step)


def timed(step: object) -> None:
    """Print seconds a step, after one to warm up, and the peak of resident memory in MiB."""
    assert callable(step)
    step()
    begin = time.perf_counter()
    for _ in range(STEPS):
        step()
    seconds = (time.perf_counter() - begin) / STEPS
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


CASES = {"forward": forward, "training": training}


def measure(case: str, tuned: bool) -> tuple[float, float]:
    """Run a case in a new process."""
    command = [sys.executable, __file__, "--case", case, *(["--tuned"] if tuned else [])]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(found[0]), float(found[1])


def main() -> None:
    """Compare the sides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--case", choices=CASES, help="run one alone, in this process")
    parser.add_argument("--tuned", action="store_true", help="with --case")
    args = parser.parse_args()
    if args.case:
        if args.tuned and not sphereface.tune_allocator():
            raise SystemExit("the allocator of this process cannot be tuned")
        CASES[args.case]()
        return
    machine = {"cpu": platform.processor() or platform.machine(), "torch": torch.__version__,
               "threads": torch.get_num_threads()}  # fmt: skip
    report: dict[str, object] = {"machine": machine}
    for case in CASES:
        rounds = [(measure(case, False), measure(case, True)) for _ in range(args.rounds)]
        ratios = [tuned[0] / plain[0] for plain, tuned in rounds]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else 3 * ratios
        plain, tuned = (
            [statistics.median(values) for values in zip(*side, strict=True)]
            for side in zip(*rounds, strict=True)
        )
        report[case] = {
            "plain": dict(zip(("seconds", "peak_mib"), plain, strict=True)),
            "tuned": dict(zip(("seconds", "peak_mib"), tuned, strict=True)),
            "ratio": middle,
            "ratio_q1": low,
            "ratio_q3": high,
        }
        print(
            f"{case}: tuned / plain {middle:.3f} [{low:.3f}, {high:.3f}], "
            f"peak {tuned[1]:.0f} / {plain[1]:.0f} MiB",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
