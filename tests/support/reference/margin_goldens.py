"""The margin recordings of the original Caffe, as plain records."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[2] / "golden" / "layers"
FILES = sorted(FOLDER.glob("margin_*.npz"))


@dataclass
class MarginGolden:
    type: str
    num_output: int
    annealing: dict
    iteration: int
    x: np.ndarray
    weight: np.ndarray
    label: np.ndarray
    grad: np.ndarray
    y: np.ndarray
    lambda_: np.ndarray
    weight_after: np.ndarray
    dx: np.ndarray
    dweight: np.ndarray


def read(path):
    data = np.load(path)
    prototxt = str(data["prototxt"])

    def number(key):
        return float(re.search(rf"\b{key}: ([\d.]+)", prototxt).group(1))

    return MarginGolden(
        type=re.search(r"\btype: ([A-Z]+)", prototxt).group(1),
        num_output=int(number("num_output")),
        annealing={key: number(key) for key in ("base", "gamma", "power", "lambda_min")},
        iteration=int(number("iteration")),
        x=data["in/x"],
        weight=data["param/l/0"],
        label=data["in/l"].astype(np.int64),
        grad=data["dout/y"],
        y=data["out/y"],
        lambda_=data["out/lambda"],
        weight_after=data["param_after/l/0"],
        dx=data["din/x"],
        dweight=data["dparam/l/0"],
    )
