r"""Where a folded net's time goes: each operation alone, against the least that it can take.

The floor is what its multiplications, those of padding left out, take at the rate that the
machine's registers sustain on the same threads (benchmarks/fma_rate.py); what `torch.mm` of
1024 x 1024 matrices reaches is printed beside it. The operations run over the whole batch and, the
last line, as `Predictor` runs them.

    python benchmarks/forward_profile.py --models build/nets [--nets mobilefacenet ...] [--batch 1]

`--models` is the folder that benchmarks/inference.py keeps.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from fma_rate import fma_rate
from forward_nets import NETS, prepare

from sphereface.caffe.layers.convolution import Convolution
from sphereface.inference import Predictor
from sphereface.inference.fused import Operation, fold
from sphereface.inference.fused.constants import Constants
from sphereface.inference.fused.native import can_run, make_segment
from sphereface.inference.fused.torch_steps import torch_step
from sphereface.ops.forward_program import run_program

SECONDS = 0.05  # an operation is repeated for so long


def seconds_of(call: Callable[[], Any]) -> float:
    """Return the median time of a call."""
    call()
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < 3:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def gemm_rate() -> float:
    """Return multiplications a second of a large matrix product."""
    a, b, c = torch.randn(3, 1024, 1024)
    return 1024**3 / seconds_of(lambda: torch.mm(a, b, out=c))


def multiplications(operation: Operation, shapes: list[tuple[int, ...]]) -> float:
    """Return how many a product needs, without those of padding; 0 of other operations."""
    if operation.parts:
        return sum(multiplications(part, shapes) for part in operation.parts)
    if not operation.product:
        return 0
    layer, top = operation.layer, shapes[operation.tops[0]]
    count = torch.Size(top).numel() // top[1] * layer.weight.numel()
    if not isinstance(layer, Convolution):
        return count
    sizes = shapes[operation.bottoms[0]][2:]
    window = (layer.kernel, layer.stride, layer.pad, layer.dilation)
    return count * math.prod(inside(*axis) for axis in zip(sizes, top[2:], *window, strict=True))


def inside(size: int, out: int, kernel: int, stride: int, pad: int, dilation: int) -> float:
    """Return the part of the taps along an axis that read the picture."""
    reads = [y * stride - pad + tap * dilation for y in range(out) for tap in range(kernel)]
    return sum(0 <= read < size for read in reads) / len(reads)


def kind_of(operation: Operation) -> str:
    """Return a word for the table."""
    if operation.parts:
        return f"{type(operation).__name__.lower()} {kind_of(operation.parts[0])}"
    layer = operation.layer
    if isinstance(layer, Convolution):
        size = "x".join(str(side) for side in layer.kernel)
        return f"{'depthwise' if layer.group > 1 else 'convolution'} {size}"
    return layer.type if layer is not None else "channelwise"


def empty(shape: tuple[int, ...]) -> torch.Tensor:
    """Return random images in the order that steps read."""
    value = torch.randn(shape)
    return value.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else value


def call_of(
    operation: Operation,
    constants: Constants,
    shapes: list[tuple[int, ...]],
    images: Collection[int],
) -> Callable[[], Any]:
    """Return one operation as the folded net runs it."""
    if constants.of(operation) is None:
        step = torch_step(operation, torch.empty(0), torch.channels_last)
        given = [empty(shapes[slot]) for slot in operation.bottoms]
        return lambda: step(*given)
    segment = make_segment([operation], constants, shapes, set(operation.tops), images)
    memory = [torch.empty(segment.scratch)]
    memory += [empty(shapes[slot]) for slot in (*segment.reads, *segment.writes)]
    return lambda: run_program(memory, constants.values, segment.program)


def profile(title: str, models: Path, batch: int, rate: float) -> None:
    """Print a table of one net."""
    name, _, given_size = title.partition(":")
    size = int(given_size or 0)
    net = prepare(name, models / name).eval()
    (given,) = net.inputs
    _, channels, height, width = net.blob_shapes[given]
    shapes = net.infer_shapes({given: (batch, channels, size or height, size or width)})
    results = net.program(()).results
    folded = fold(net, [slot for _, slot in results])
    operations = folded.operations
    shapes = [*shapes, *(shapes[slot] for slot in folded.added)]
    single = [part for o in operations for part in (o, *o.parts)]
    constants = Constants([o for o in single if can_run(o, shapes)], shapes)
    totals: dict[str, list[float]] = {}
    print(f"\n{title}, batch {batch}: the floor at {2e-9 * rate:.0f} GFLOP/s,"
          f" torch.mm reaches {2e-9 * gemm_rate():.0f}")  # fmt: skip
    with torch.inference_mode():
        for operation in operations:
            seconds = seconds_of(call_of(operation, constants, shapes, net.graph.inputs.values()))
            floor = multiplications(operation, shapes) / rate
            kind = kind_of(operation)
            top = "x".join(str(size) for size in shapes[operation.tops[0]])
            print(f"  {kind:24}{top:>18}{1e3 * seconds:9.3f} ms, floor {1e3 * floor:8.3f} ms"
                  f"{floor / seconds:7.0%}  {operation.names[0]}")  # fmt: skip
            total = totals.setdefault(kind, [0, 0, 0])
            for index, value in enumerate((1, seconds, floor)):
                total[index] += value
    for kind, (count, seconds, floor) in totals.items():
        print(f"{count:4} {kind:24}{1e3 * seconds:9.3f} ms, floor {1e3 * floor:8.3f} ms")
    seconds, floor = (sum(total[i] for total in totals.values()) for i in (1, 2))
    print(f"     all                     {1e3 * seconds:9.3f} ms, floor {1e3 * floor:8.3f} ms")
    run, images = (
        Predictor(net),
        {given: torch.randn(batch, channels, size or height, size or width)},
    )
    seconds = seconds_of(lambda: run(images))
    print(f"     Predictor               {1e3 * seconds:9.3f} ms, floor {1e3 * floor:8.3f} ms")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument(
        "--nets", nargs="+", metavar="NET", default=["mobilefacenet"],
        help=f"of {', '.join(NETS)}; NET:SIZE runs a net on other images",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rate = fma_rate(args.threads)
    for name in args.nets:
        profile(name, args.models, args.batch, rate)


if __name__ == "__main__":
    main()
