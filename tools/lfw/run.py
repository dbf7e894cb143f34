"""One training: from the lists to a net, its embeddings and what they are worth."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfw.lists import PAIRS, write_lines
from lfw.nets import Settings, prototxts
from sphereface.cli.main import main as sphereface
from sphereface.evaluation import area, read_features, read_pairs, ten_fold
from sphereface.proto import text
from sphereface.solver import newest_snapshot
from sphereface.solver.read_log import read_log


class Run:
    """A method with a seed, in a folder of its own."""

    def __init__(self, work: Path, settings: Settings, method: str, seed: int) -> None:
        self.work, self.settings, self.method, self.seed = work, settings, method, seed
        self.folder = work / f"{method.replace('=', '')}-seed{seed}"
        labels = (work / "train.txt").read_text().split()[1::2]
        self.classes = max(map(int, labels)) + 1
        self.iterations = settings.epochs * max(1, len(labels) // settings.batch)

    @property
    def result(self) -> Path:
        """What a finished run leaves."""
        return self.folder / "result.json"

    def train(self, gpu: str) -> None:
        """Train, embed and judge; nothing, if that is done."""
        if self.result.exists():
            print(f"{self.method}, seed {self.seed}: {self.result} is there")
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        files = prototxts(
            self.settings, self.method, self.seed, self.classes, self.iterations, self.folder
        )
        for name, message in files.items():
            write_lines(self.folder / name, text.write(message).splitlines())
        begun = newest_snapshot(str(self.folder / "net"))
        model = self.folder / f"net_iter_{self.iterations}.caffemodel"
        log = self.folder / "log"
        words = ["--solver", str(self.folder / "solver.prototxt"), "--gpu", gpu]
        words += ["--log-dir", str(log), "--verify-blob", "fc5"]
        words += ["--verify", str(self.work / PAIRS["drawn"])]
        words += ["--verify-root", str(self.work / "verify")]
        words += ["--verify-interval", str(max(1, self.iterations // 5))]
        start = time.process_time()
        if not model.exists():
            _command("train", *words, *(["--snapshot", str(begun)] if begun else []))
            if not model.exists():
                raise KeyboardInterrupt  # it was stopped, and has written a snapshot
        seconds = None if begun else round(time.process_time() - start, 1)
        _command(
            *("extract", str(self.folder / "deploy.prototxt"), str(model)),
            *(str(self.work / "verify.txt"), "--root", str(self.work / "verify")),
            *("--mean", "127.5", "--scale", "0.0078125", "--size", "native", "--batch", "64"),
            *("--device", "cpu" if gpu == "none" else "cuda"),
            *("--output", str(self.folder / "features.npz"), "--overwrite"),
        )
        told = read_log(log / "solver.log").tests
        curve = next(test["verification_accuracy"] for test in told.values())
        found: dict[str, Any] = {"method": self.method, "seed": self.seed, "cpu_seconds": seconds}
        found["curve"] = [[iteration, round(value, 4)] for iteration, value in curve]
        for name in PAIRS:
            accuracy, scores, same = self.judge(name)
            found[name] = {
                "accuracy": accuracy,
                "auc": area(scores[same], scores[~same]).value,
            }
        write_lines(self.result, [json.dumps(found)])

    def judge(self, name: str) -> tuple[float, NDArray[np.float64], NDArray[np.bool_]]:
        """Return accuracy, scores and truth of a list of pairs, by the finished net."""
        features = read_features(self.folder / "features.npz")
        pairs = read_pairs(self.work / PAIRS[name])
        sides = [features.features[features.rows(side)] for side in (pairs.left, pairs.right)]
        folds = ten_fold(*sides, pairs.same, pairs.fold)
        known = ~np.isnan(folds.scores)
        return folds.mean, folds.scores[known], pairs.same[known]


def _command(*words: str) -> None:
    print(f"sphereface {' '.join(words)}", flush=True)
    if code := sphereface(words):
        raise SystemExit(code)
