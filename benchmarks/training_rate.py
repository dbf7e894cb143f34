"""Print the seconds of iterations of one tree's solver, which `training.py --against` compares.

It runs alone in its process, with the `sphereface` and the benchmark of the tree that it is told.

    python benchmarks/training_rate.py TREE MODE DEPTH BATCH COUNT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Measure, after one iteration that allocates and picks kernels."""
    tree, mode, depth, batch, count = sys.argv[1:]
    sys.path[:0] = [str(Path(tree) / "python"), str(Path(tree) / "benchmarks")]
    import torch
    import training

    import sphereface

    if hasattr(sphereface, "tune_allocator"):
        sphereface.tune_allocator()  # as `sphereface train` does
    torch.manual_seed(0)
    images = {
        "data": torch.rand(int(batch), 3, 112, 96) * 2 - 1,
        "label": torch.randint(training.CLASSES, (int(batch),)).float(),
    }
    step = training.solver_step(depth, training.MODES[mode], images, "cpu")
    training.seconds(step, "cpu", 1)
    print(json.dumps([training.seconds(step, "cpu", 1) for _ in range(int(count))]))


if __name__ == "__main__":
    main()
