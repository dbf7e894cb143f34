"""What pruning without finetuning costs a released MobileFaceNet: accuracy on pairs of LFW.

Every tenth pair of each kind in each fold of view 2 is judged, 600 in all, one crop an image. LFW
holds `lfw-112x112.tar`, `pairs.txt` and `mobilefacenet.caffemodel`.

    python benchmarks/prune_lfw.py LFW [--json benchmarks/results/NAME.json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sphereface.caffe import load
from sphereface.evaluation import PairList, read_pairs
from sphereface.faces.datasets.unpack import unpack
from sphereface.faces.presets import find_preset
from sphereface.images import Preprocessing, list_images
from sphereface.inference import PairImages, Predictor, judge_pairs
from sphereface.inspection import summarize
from sphereface.pruning import plan_pruning

STEP = 10
CASES = [(ratio, residual) for residual in ("together", "keep") for ratio in (0.05, 0.1, 0.2, 0.3)]


def every_tenth(path: Path) -> PairList:
    """Return the pairs that are judged."""
    pairs = read_pairs(path)
    rows = np.arange(0, len(pairs.same), STEP)
    left, right = ([side[row] for row in rows.tolist()] for side in (pairs.left, pairs.right))
    return PairList(left, right, pairs.same[rows], pairs.fold[rows])


def unpacked(archive: Path, pairs: PairList, folder: str) -> PairImages:
    """Unpack the pictures of the pairs."""
    wanted = {f"lfw-112X112/{name}.jpg" for name in (*pairs.left, *pairs.right)}
    unpack(archive, folder, wanted)
    return PairImages(list_images([folder]), pairs)


def main() -> None:
    """Prune, judge and print, case by case."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("lfw", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model = args.lfw / "mobilefacenet.caffemodel"
    preset = find_preset("mobilefacenet")
    form = Preprocessing(
        size=(112, 112), color=preset.color, mean=np.array([preset.mean]), scale=preset.scale
    )
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        images = unpacked(args.lfw / "lfw-112x112.tar", every_tenth(args.lfw / "pairs.txt"), folder)
        for ratio, residual in [(0.0, "together"), *CASES]:
            net = load(model)
            plan = plan_pruning(net, ratio=ratio, residual=residual)
            small = load(plan.prototxt(model))
            small.copy_from(plan.weights, strict=True)
            size = summarize(small, 1)
            folds = judge_pairs(Predictor(small), images, form, batch=32)
            rows.append(
                {
                    "ratio": ratio,
                    "residual": residual,
                    "macs": size.macs,
                    "params": size.params,
                    "accuracy": folds.mean,
                    "standard_error": folds.standard_error,
                }
            )
            print(rows[-1], flush=True)
    if args.json:
        result = {"model": model.name, "pairs": len(images.pairs.same), "rows": rows}
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
