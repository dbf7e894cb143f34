"""Step training: images a second of SphereFace-20 and -64, and how long a step waits for data."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from training import data_batches, hand_step, seconds, solver_for, solver_step

from gpu import pictures
from gpu.results import figure
from gpu.step import options
from sphereface.solver.modes import Mode

MODES = {
    "fp32": (Mode(channels_last=True), False),
    "TF32": (Mode(channels_last=True), True),
    "bf16": (Mode(amp="bf16", channels_last=True), True),
    "bf16 compiled": (Mode(amp="bf16", channels_last=True, compile=True), True),
}


class Timed:
    """Batches, and the seconds that were waited for them."""

    def __init__(self, batches: Iterator[dict[str, torch.Tensor]]) -> None:
        self.batches, self.waited = batches, 0.0

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            begin = time.perf_counter()
            batch = next(self.batches)
            self.waited += time.perf_counter() - begin
            yield batch


def set_tf32(on: bool) -> None:
    """Let products and convolutions round to TF32, or not."""
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


def wait_share(pack: Path, batch: int, device: str, iterations: int) -> None:
    """Train on the packed pictures; print the share of the time that was spent waiting for data."""
    if not (pack / "lfw.tar").exists():
        figure("share of a step waiting for data", "the pack is absent (make gpu-pack)")
        return
    with tempfile.TemporaryDirectory() as folder:
        source = pictures.unpack(pack, Path(folder)).train
        solver = solver_for("20", MODES["bf16"][0], batch, device)
        timed = Timed(data_batches(source, batch))
        feed = iter(timed)
        solver.step(2, feed)
        timed.waited, begin = 0.0, time.perf_counter()
        solver.step(iterations, feed)
        if device == "cuda":
            torch.cuda.synchronize()
        total = time.perf_counter() - begin
    figure("share of a step waiting for data, bf16", 100 * timed.waited / total, "%")
    figure("training on packed pictures, bf16", batch * iterations / total, "images/s")


def main() -> None:
    """Measure; the solver and the net written by hand take turns."""
    args = options(__doc__)
    size, count, rounds = (2, 1, 2) if args.rehearse else (256, 5, 3)
    torch.manual_seed(0)
    batch = {
        "data": torch.rand(size, 3, 112, 96, device=args.device) * 2 - 1,
        "label": torch.randint(10572, (size,), device=args.device).float(),
    }
    for depth in ("20",) if args.rehearse else ("20", "64"):
        for name, (mode, tf32) in MODES.items():
            if mode.compile and (args.rehearse or depth != "20"):
                continue
            set_tf32(tf32)
            steps = {
                "sphereface": solver_step(depth, mode, batch, args.device),
                "by hand": hand_step(batch, args.device, depth, mode),
            }
            rates: dict[str, list[float]] = {side: [] for side in steps}
            for step in steps.values():
                seconds(step, args.device, 2)
            for _ in range(rounds):
                for side, step in steps.items():
                    rates[side].append(size / seconds(step, args.device, count))
            for side, values in rates.items():
                figure(f"SphereFace-{depth} {name}, {side}", statistics.median(values), "images/s")
            ratios = [a / b for a, b in zip(rates["sphereface"], rates["by hand"], strict=True)]
            figure(f"SphereFace-{depth} {name}, to by hand", statistics.median(ratios), "x")
    wait_share(args.pack, size, args.device, 1 if args.rehearse else 20)


if __name__ == "__main__":
    main()
