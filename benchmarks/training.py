"""Iterations a second of SphereFace-20's training against the same net written by hand.

One iteration is forward, backward and SGD update, MarginInnerProduct with 10572 classes and
softmax loss included, of images that are in memory already. Ours is the solver on the packaged
prototxt, plain and in its modes; by hand it is nn.Module, A-Softmax by autograd, torch.optim.SGD.
All take turns; a ratio is by hand over ours of the same round.

    python benchmarks/training.py [--device cuda] [--depth 64] [--batch 256] [--json FILE]
    python benchmarks/training.py --against TREE

The second line compares with another checkout, whose extensions are built: each side's solver in a
process of its own, in turn, float32 and bf16 on the CPU; a ratio is the other tree's seconds over
this one's.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from google.protobuf import text_format
from hand_written import UNITS, HandWritten
from margin_inner_product import plain_a_softmax
from torch import Tensor

from sphereface.data import open_source
from sphereface.proto import schema, text
from sphereface.resources import prototxt_path
from sphereface.solver import Solver
from sphereface.solver.distributed import Place, RankGroup
from sphereface.solver.modes import AMP_TYPES, Mode, ModeNets

CLASSES = 10572
BY_HAND = "by hand"
MODES = {
    "ours": Mode(),
    "channels_last": Mode(channels_last=True),
    "bf16": Mode(amp="bf16"),
    "bf16 channels_last": Mode(amp="bf16", channels_last=True),
}
COMPILED = {
    "compile": Mode(compile=True),
    "bf16 channels_last compile": Mode("bf16", channels_last=True, compile=True),
}


def solver_for(depth: str, mode: Mode, batch: int, device: str) -> Solver:
    """Return the packaged solver, fed by the program, for a batch size."""
    param = text.read(prototxt_path(f"sphereface_{depth}_solver"), "SolverParameter")
    net = text.read(prototxt_path(param.net))
    data = net.layer[0].image_data_param
    data.batch_size, data.new_height, data.new_width = batch, 112, 96
    param.ClearField("net")
    param.net_param.CopyFrom(net)
    # Noise as images: at the real rate the loss would soon be no number, and end the run.
    param.base_lr, param.display = 1e-4, 0
    return Solver(param, nets=ModeNets(mode, RankGroup(Place())), device=device)


def solver_step(
    depth: str, mode: Mode, batch: dict[str, Tensor], device: str
) -> Callable[[], None]:
    """Return one iteration of the solver."""
    solver = solver_for(depth, mode, len(batch["label"]), device)
    return lambda: solver.step(1, batch)


def hand_step(
    batch: dict[str, Tensor], device: str, depth: str = "20", mode: Mode | None = None
) -> Callable[[], None]:
    """Return one iteration as one writes it in PyTorch, in float32 unless `mode` says else."""
    mode = mode or Mode()
    order = torch.channels_last if mode.channels_last else torch.contiguous_format
    net = HandWritten(UNITS[depth]).to(device, memory_format=order)
    weight = F.normalize(torch.randn(CLASSES, 512, device=device)).requires_grad_()
    optimizer = torch.optim.SGD(
        [*net.parameters(), weight], lr=1e-4, momentum=0.9, weight_decay=5e-4
    )
    images, label = batch["data"].to(memory_format=order), batch["label"].long()
    forward = torch.compile(net) if mode.compile else net
    kind = torch.device(device).type

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(kind, AMP_TYPES.get(mode.amp), enabled=bool(mode.amp)):
            embedding = forward(images)
        logits = plain_a_softmax(embedding.float(), weight, label, 5.0)
        F.cross_entropy(logits, label).backward()
        optimizer.step()

    return step


def data_batches(source: Path, batch: int) -> Iterator[dict[str, object]]:
    """Yield batches of ImageData for ever, as `sphereface train` reads them."""
    param = schema.message("LayerParameter")()
    text_format.Parse(
        f"""name: "data" type: "ImageData" top: "data" top: "label"
        transform_param {{ mean_value: 127.5 scale: 0.0078125 mirror: true }}
        image_data_param {{ source: "{source}" batch_size: {batch} shuffle: true }}""",
        param,
    )
    with open_source(param, seed=0) as images:
        while True:
            yield images.next_batch()


def seconds(step: Callable[[], None], device: str, count: int) -> float:
    """Return the seconds of an iteration."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else contextlib.nullcontext
    wait()
    begin = time.perf_counter()
    for _ in range(count):
        step()
    wait()
    return (time.perf_counter() - begin) / count


def against(tree: Path, args: argparse.Namespace) -> list[dict[str, object]]:
    """Compare this tree with another, round by round; print and return a row for each mode."""
    script = Path(__file__).with_name("training_rate.py")

    def rate(side: Path, mode: str) -> float:
        command = [sys.executable, script, side, mode, args.depth, str(args.batch), str(args.count)]
        # Else a PYTHONPATH of the caller's would come before the tree's own.
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        found = subprocess.run(command, check=True, capture_output=True, text=True, env=clean)
        return statistics.median(json.loads(found.stdout))

    here, rows = Path(__file__).parents[1], []
    for mode in args.modes or ("ours", "bf16"):
        sides = [(rate(tree, mode), rate(here, mode)) for _ in range(args.rounds)]
        ratios = [other / own for other, own in sides]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else 3 * ratios
        other, own = (statistics.median(side) for side in zip(*sides, strict=True))
        print(f"{mode:10} {own:.3f} s/iteration, the other tree {other:.3f} s: "
              f"{middle:.2f} times its rate ({low:.2f} to {high:.2f})", flush=True)  # fmt: skip
        rows.append({"name": mode, "other_seconds": [s[0] for s in sides],
                     "seconds": [s[1] for s in sides], "ratios": ratios})  # fmt: skip
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--depth", default="20", choices=UNITS, help="20 (default) or 64")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=1, help="iterations of a round (default: 1)")
    parser.add_argument("--compile", action="store_true", help="torch.compile, too")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--against", type=Path, metavar="TREE", help="another checkout")
    parser.add_argument(
        "--modes", nargs="+", choices=MODES, help="default: all; ours and bf16 with --against"
    )
    args = parser.parse_args()
    if args.against:
        write(args, against(args.against.resolve(), args))
        return
    torch.manual_seed(0)
    batch = {
        "data": torch.rand(args.batch, 3, 112, 96, device=args.device) * 2 - 1,
        "label": torch.randint(CLASSES, (args.batch,), device=args.device).float(),
    }
    chosen = {name: MODES[name] for name in args.modes or MODES}
    steps = {BY_HAND: hand_step(batch, args.device, args.depth)}
    for name, mode in {**chosen, **(COMPILED if args.compile else {})}.items():
        steps[name] = solver_step(args.depth, mode, batch, args.device)
    for step in steps.values():
        seconds(step, args.device, 2)  # the first ones allocate, pick kernels and compile
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(args.rounds):
        for name, step in steps.items():
            times[name].append(seconds(step, args.device, args.count))
    print(f"SphereFace-{args.depth}, batch {args.batch}, {args.device}, torch {torch.__version__}")
    print(f"{'':28} s/iteration     it/s    img/s   by hand / this (quartiles)")
    rows = []
    for name, values in times.items():
        median = statistics.median(values)
        line = f"{name:28} {median:11.4f} {1 / median:8.2f} {args.batch / median:8.1f}"
        ratios = [hand / own for hand, own in zip(times.get(BY_HAND, []), values, strict=False)]
        if len(ratios) > 1:
            low, middle, high = statistics.quantiles(ratios, n=4)
            line += f"   {middle:.2f} ({low:.2f} to {high:.2f})"
        print(line)
        rows.append({"name": name, "seconds": values, "ratios": ratios})
    write(args, rows)


def write(args: argparse.Namespace, rows: list[dict[str, object]]) -> None:
    """Write the results to the file of ``--json``, if any."""
    if not args.json:
        return
    report = {
        "date": dt.date.today().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, "
        f"{len(os.sched_getaffinity(0))} cores",
        "device": args.device,
        "torch": torch.__version__,
        "depth": args.depth,
        "batch": args.batch,
        "rows": rows,
    }
    args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
