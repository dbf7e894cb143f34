"""Step margin: the operator against F.linear and plain A-Softmax."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from margin_inner_product import Problem, graph_of, peak_bytes, seconds

from gpu.results import figure
from gpu.step import options

SHAPES = [(256, 512, 10572), (1024, 512, 85742), (1024, 512, 1_000_000)]
KINDS = [("fp32", torch.float32, False), ("TF32", torch.float32, True),
         ("bf16", torch.bfloat16, False)]  # fmt: skip


def kernel_ms(step: Callable[[], None]) -> float:
    """Return the milliseconds between two events around a call."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    step()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def sides(problem: Problem) -> dict[str, Callable[[], None]]:
    """Return the ways to run forward and backward; F.linear, the floor, first."""
    return {
        "F.linear": problem.linear,
        "sphereface caffe": problem.caffe,
        "sphereface exact": problem.exact,
        "plain compiled": problem.compiled,
        "plain eager": problem.eager,
    }


def measure(problem: Problem, prefix: str, device: str, rounds: int) -> None:
    """Print wall and kernel time, the ratio to F.linear and the memory of each side."""
    floors: dict[str, float] = {}
    for name, step in sides(problem).items():
        for mode in ("eager", "graph") if device == "cuda" else ("eager",):
            if mode == "graph" and name.startswith("plain"):
                continue
            title = f"{prefix}, {name}, {mode}"
            try:
                run = graph_of(step) if mode == "graph" else step
                run()
                walls, kernels = [], []
                for _ in range(rounds):
                    problem.restore()
                    walls.append(1e3 * seconds(run, device))
                    if device == "cuda":
                        problem.restore()
                        kernels.append(kernel_ms(run))
            except torch.OutOfMemoryError:
                figure(title, "out of memory")
                continue
            wall = statistics.median(walls)
            floors.setdefault(mode, wall)
            figure(title, wall, "ms")
            if kernels:
                figure(f"{title}, between events", statistics.median(kernels), "ms")
            figure(f"{title}, to F.linear", wall / floors[mode], "x")
            if mode == "eager":
                extra = peak_bytes(step, device) - problem.result_bytes()
                figure(f"{title}, memory beyond the results", extra / 2**20, "MiB")


def main() -> None:
    """Measure the shapes, smallest first."""
    args = options(__doc__)
    rounds = 2 if args.rehearse else 11
    for shape in [(8, 16, 40)] if args.rehearse else SHAPES:
        for kind, dtype, tf32 in KINDS:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            torch._dynamo.reset()  # so that each shape is compiled for itself
            problem = Problem(*shape, args.device, dtype)
            prefix = f"{shape} {kind}".replace(" ", "")
            measure(problem, prefix, args.device, rounds)
            del problem


if __name__ == "__main__":
    main()
