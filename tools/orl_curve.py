"""Train SphereFace-4 on photographs and compare the loss with the original Caffe's on the same.

The recording (tests/golden/orl_sphereface4) is of people 1 to 30 of the ORL faces (AT&T), 300
iterations. Fillers and order are other draws, so curves are compared after smoothing: by the
iterations at which they have fallen to given losses. Ends with 1 if those differ.

    python tools/orl_curve.py FOLDER_WITH_s1_TO_s40 [--seeds 3] [--picture curves.png]
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.caffe import DataOptions
from sphereface.errors import SphereFaceError
from sphereface.progress import Progress
from sphereface.proto import text
from sphereface.resources import prototxt_path
from sphereface.solver import IterationRecord, Solver, SolverCallback
from sphereface.solver.nets import SolverNets
from sphereface.solver.plot_log import log_figure, save_figure
from sphereface.solver.read_log import TrainingLog

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "orl_sphereface4" / "orl_golden.npz"
PEOPLE, PHOTOGRAPHS = 30, 10
SOLVER = """
base_lr: 0.01 lr_policy: "multistep" gamma: 0.1 stepvalue: 240 max_iter: 300 momentum: 0.9
weight_decay: 0.0005 solver_mode: CPU snapshot_after_train: false
"""
LEVELS = (3.0, 2.0, 1.0, 0.5, 0.25)
WINDOW = 10
TOLERANCE = 10  # iterations; two draws of ours differ by 9


class Losses(SolverCallback):
    """Keeps loss and lambda of every iteration."""

    def __init__(self, progress: Progress) -> None:
        self.rows: list[tuple[float, float]] = []
        self._progress = progress

    def on_iteration(self, record: IterationRecord) -> None:
        """Keep the iteration's."""
        self.rows.append((record.loss, float(record.outputs["lambda"])))
        self._progress.update(note=f"loss {record.loss:.4f}")


def train_net(folder: Path, listed: Path) -> Any:
    """Return sphereface_4_train for the photographs: 64 features, 30 people, batches of 32."""
    net = text.read(prototxt_path("sphereface_4_train"))
    layers = {layer.name: layer for layer in net.layer}
    data = layers["data"].image_data_param
    data.source, data.root_folder, data.batch_size = str(listed), f"{folder}/", 32
    data.new_height, data.new_width = 112, 96
    layers["fc5"].inner_product_param.num_output = 64
    layers["fc6"].margin_inner_product_param.num_output = PEOPLE
    return net


def run(folder: Path, seed: int, progress: Progress) -> NDArray[np.float64]:
    """Train; return (iterations, 2): loss and lambda."""
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as stack:
        listed = Path(work, "train.txt")
        listed.write_text(
            "".join(
                f"s{person}/{photograph}.pgm {person - 1}\n"
                for person in range(1, PEOPLE + 1)
                for photograph in range(1, PHOTOGRAPHS + 1)
            )
        )
        param = text.read(SOLVER, "SolverParameter")
        param.net_param.CopyFrom(train_net(folder, listed))
        param.random_seed = seed
        losses = Losses(progress)
        nets = stack.enter_context(SolverNets(DataOptions(seed=seed)))
        solver = Solver(param, nets=nets, callbacks=[losses])
        solver.solve()
        return np.array(losses.rows)


def smooth(loss: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of neighbouring iterations."""
    return np.convolve(loss, np.ones(WINDOW) / WINDOW, "valid")


def falls(loss: NDArray[np.float64]) -> list[int]:
    """Return the iteration at which the smoothed loss is first below each level."""
    smoothed = smooth(loss)
    return [int(np.argmax(smoothed < level)) for level in LEVELS]


def main() -> int:
    """Run the command; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds s1 to s40")
    parser.add_argument("--seeds", type=int, default=1, help="trainings (default: 1)")
    parser.add_argument("--picture", type=Path, help="write the curves as .png or .svg")
    args = parser.parse_args()
    recorded = np.load(GOLDEN)["loss"]
    with Progress(args.seeds * len(recorded), "training") as progress:
        runs = [run(args.folder, seed, progress) for seed in range(args.seeds)]
    curves = {"original": recorded, **{f"seed {seed}": rows for seed, rows in enumerate(runs)}}
    print("smoothed loss below  " + "".join(f"{level:>7}" for level in LEVELS) + "    last 50")
    for name, rows in curves.items():
        at = "".join(f"{iteration:7}" for iteration in falls(rows[:, 0]))
        print(f"{name:21}{at}    {rows[-50:, 0].mean():.4f}")
    if args.picture:
        logs = [
            TrainingLog(name, name, {"loss": list(enumerate(smooth(rows[:, 0]).tolist(), WINDOW))})
            for name, rows in curves.items()
        ]
        save_figure(log_figure(logs), args.picture)
    worst = max(
        int(np.abs(np.subtract(falls(rows[:, 0]), falls(recorded[:, 0]))).max()) for rows in runs
    )
    same_lambda = all(np.allclose(rows[:, 1], recorded[:, 1], rtol=1e-5) for rows in runs)
    learnt = all(rows[-50:, 0].mean() < 0.02 for rows in runs)
    print(f"largest difference {worst} iterations (allowed: {TOLERANCE}); lambda "
          f"{'equal' if same_lambda else 'NOT equal'} at every iteration")  # fmt: skip
    return 0 if worst <= TOLERANCE and same_lambda and learnt else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SphereFaceError as error:
        sys.exit(str(error))
