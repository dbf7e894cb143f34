"""Evaluation: 6000 pairs of 1024 numbers by LFW's protocol, and all pairs of 13,233 images.

The first is timed against the loop of evaluation.m over folds and thresholds, written in numpy. The
second is timed against scikit-learn: the same cosines made with numpy at once, then `roc_curve` of
all 87 million, which is what one writes by hand. Both sides run in turn in one process and give the
same rates; the ratio is the median over the rounds, with its least and greatest. Peak memory beyond
the features is that of a fresh process a side (VmHWM).

    python benchmarks/evaluation.py [--rounds 3] [--images 13233] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_curve

from sphereface.evaluation import ten_fold
from sphereface.evaluation.all_pairs import all_pairs

TARGETS = (1e-3, 1e-4, 1e-5, 1e-6)
PEOPLE, WIDTH = 5749, 128


def lfw_like(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features of people with as uneven numbers of images as LFW's."""
    rng = np.random.default_rng(0)
    people = min(PEOPLE, count // 2)
    share = 1 / np.arange(1, people + 1)
    more = rng.choice(people, count - people, p=share / share.sum())
    label = np.concatenate([np.arange(people), more])
    centre = rng.normal(size=(people, WIDTH))
    return (centre[label] + 0.8 * rng.normal(size=(count, WIDTH))).astype(np.float32), label


def by_scikit_learn(features: np.ndarray, label: np.ndarray) -> list[float]:
    """Return TAR at the targets by all cosines at once and roc_curve."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    upper = np.triu(np.ones((len(label), len(label)), bool), k=1)
    scores = (unit @ unit.T)[upper]
    same = (label[:, None] == label)[upper]
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    return [float(tar[np.searchsorted(far, target, "right") - 1]) for target in TARGETS]


def by_sphereface(features: np.ndarray, label: np.ndarray) -> list[float]:
    """Return the same by all_pairs."""
    return [point.tar or 0.0 for point in all_pairs(features, label, TARGETS).points]


def evaluation_m(left: np.ndarray, right: np.ndarray, same: np.ndarray, fold: np.ndarray) -> float:
    """Return the mean accuracy as evaluation.m computes it."""
    thresholds, accuracies = np.arange(-10000, 10001) / 10000, []
    for number in np.unique(fold):
        kept, held = fold != number, fold == number
        mu = np.concatenate([left[kept], right[kept]]).mean(axis=0)
        a, b = left - mu, right - mu
        scores = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        mates, others = scores[kept & same], scores[kept & ~same]
        hits = np.array([(mates > t).sum() + (others < t).sum() for t in thresholds])
        t = thresholds[hits == hits.max()].mean()
        accuracies.append(np.mean(np.where(same, scores > t, scores < t)[held]))
    return float(np.mean(accuracies))


def seconds(call: Callable[[], object]) -> tuple[float, object]:
    """Return the time of one call and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def peak(side: str, images: int) -> float:
    """Return MiB that a fresh process needs beyond its features."""
    script = (
        "import re, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import evaluation\n"
        "high = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        f"data = evaluation.lfw_like({images})\n"
        "before = high()\n"
        f"evaluation.by_{side}(*data)\n"
        "print((high() - before) / 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def main() -> None:
    """Run both parts and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=13233)
    parser.add_argument("--json", help="write the figures")
    args = parser.parse_args()
    figures: dict[str, object] = {"cpus": os.cpu_count(), "rounds": args.rounds}

    rng = np.random.default_rng(0)
    same = np.arange(6000) % 2 == 0
    left = rng.normal(size=(6000, 1024)).astype(np.float32)
    noise = rng.normal(size=left.shape).astype(np.float32)
    right = left + np.where(same, 3.0, 30.0)[:, None].astype(np.float32) * noise
    fold = np.repeat(np.arange(1, 11), 600)
    ours = [seconds(lambda: ten_fold(left, right, same, fold)) for _ in range(max(5, args.rounds))]
    loop, accuracy = seconds(lambda: evaluation_m(left, right, same, fold))
    assert abs(ours[0][1].mean - accuracy) < 1e-12
    times = sorted(t for t, _ in ours)
    figures["ten_fold_seconds"], figures["evaluation_m_seconds"] = times, loop
    print(
        f"6000 pairs x 1024, ten folds: {statistics.median(times):.3f} s"
        f" ({times[0]:.3f} .. {times[-1]:.3f}); evaluation.m's loop in numpy: {loop:.1f} s"
    )

    features, label = lfw_like(args.images)
    ratios, own, other = [], [], []
    for _ in range(args.rounds):
        first, found = seconds(lambda: by_sphereface(features, label))
        second, expected = seconds(lambda: by_scikit_learn(features, label))
        np.testing.assert_allclose(found, expected, atol=2e-5)
        own.append(first)
        other.append(second)
        ratios.append(second / first)
    figures["all_pairs_seconds"], figures["scikit_learn_seconds"] = own, other
    memory = {side: peak(side, args.images) for side in ("sphereface", "scikit_learn")}
    figures["peak_mib"] = memory
    print(
        f"all pairs of {args.images:,} images: {statistics.median(own):.2f} s, scikit-learn"
        f" {statistics.median(other):.2f} s: {statistics.median(ratios):.1f} times as fast"
        f" ({min(ratios):.1f} .. {max(ratios):.1f}); {memory['sphereface']:.0f} MiB against"
        f" {memory['scikit_learn']:.0f} MiB"
    )
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
