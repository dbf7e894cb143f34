"""Forward + backward of margin_softmax_loss against F.linear alone and the layers in sequence.

All sides run in this process, in turn, so that a slow phase of the machine hits all of them; a
ratio is taken within a round, and its median and quartiles over the rounds are printed. Memory is
what a forward + backward holds at its peak beyond dx and dweight, in parts of M x N logits.

    python benchmarks/margin_softmax.py [--shape 256,512,10572] [--json NAME.json]

``--against torch`` measures torch's chunked linear_cross_entropy, the losses without a margin, and
the bare products that a loss with kept logits (3) or without (4) cannot do without, on pieces of
the classes. ``--against metric-learning`` measures pytorch-metric-learning's losses. ``--step
fast|lean|layers`` takes one step alone in this process and prints its peak resident memory;
``--limit GIB`` lets it ask the system for so much and no more.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import resource
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from margin_inner_product import describe, peak_bytes, seconds, summary

import sphereface
from sphereface.margin_policy import ArcFace, CosFace

Step = Callable[[], None]
PIECE = 1024  # classes whose products stay in cache


class Problem:
    """One shape's tensors and the ways to run it."""

    def __init__(self, m: int, k: int, n: int, dtype: torch.dtype, logits: bool = True) -> None:
        torch.manual_seed(0)
        self.x = torch.randn(m, k, dtype=dtype).requires_grad_()
        weight = torch.randn(n, k)
        self.weight = weight.div_(weight.norm(dim=1, keepdim=True)).to(dtype).requires_grad_()
        if logits:
            self.raw = (1.01 * self.weight.detach()).to(dtype)
            self.grad = torch.randn(m, n, dtype=dtype)
        self.label = torch.randint(n, (m,))
        self.lambda_ = torch.tensor(5.0)

    def restore(self) -> None:
        """Move the weight off the unit sphere, as an optimiser's step does."""
        with torch.no_grad():
            self.weight[:] = self.raw

    def linear(self) -> None:
        """Run the floor."""
        F.linear(self.x, self.weight).backward(self.grad)
        self.clear()

    def linear_and_cross_entropy(self) -> None:
        """Run a classifier without a margin."""
        F.cross_entropy(F.linear(self.x, self.weight), self.label).backward()
        self.clear()

    def layers(self, gradient: str) -> None:
        """Run the margin layer and cross entropy."""
        logits = sphereface.margin_inner_product(
            self.x, self.weight, self.label, self.lambda_, 4, gradient
        )
        F.cross_entropy(logits, self.label).backward()
        self.clear()

    def fused(self, **options: object) -> None:
        """Run the fused loss."""
        loss = sphereface.margin_softmax_loss(
            self.x, self.weight, self.label, self.lambda_, **options
        )
        loss.backward()
        self.clear()

    def clear(self) -> None:
        """Drop the gradients."""
        self.x.grad = self.weight.grad = None

    def sides(self) -> dict[str, Step]:
        """Return every side by its name."""
        sides: dict[str, Step] = {
            "F.linear": self.linear,
            "F.linear + CE": self.linear_and_cross_entropy,
            "layers, caffe": partial(self.layers, "caffe"),
            "layers, exact": partial(self.layers, "exact"),
        }
        for memory in ("fast", "lean"):
            for gradient in ("caffe", "exact"):
                sides[f"{memory}, {gradient}"] = partial(
                    self.fused, memory=memory, gradient=gradient
                )
            sides[f"{memory}, CosFace"] = partial(self.fused, memory=memory, margin=CosFace())
        return sides

    def against_torch(self) -> dict[str, Step]:
        """Return torch's saving form, ours for the same problem and the floors of both of ours."""
        return {
            "F.linear": self.linear,
            "torch chunked": self.chunked,
            "default, m = 1": partial(self.fused, margin=1),
            "fast, m = 1": partial(self.fused, memory="fast", margin=1),
            "lean, m = 1": partial(self.fused, memory="lean", margin=1),
            "3 bare products": partial(self.products, 1),
            "4 bare products": partial(self.products, 2),
        }

    def against_metric_learning(self) -> dict[str, Step]:
        """Return pytorch-metric-learning's losses and ours."""
        from pytorch_metric_learning import losses

        n, k = self.weight.shape
        sides: dict[str, Step] = {"F.linear": self.linear}
        for name, theirs, ours in (
            ("SphereFace", losses.SphereFaceLoss(n, k, margin=4, scale=1), 4),
            ("CosFace", losses.CosFaceLoss(n, k, margin=0.35, scale=64), CosFace()),
            ("ArcFace", losses.ArcFaceLoss(n, k, margin=math.degrees(0.5), scale=64), ArcFace()),
        ):
            sides[f"metric-learning {name}"] = partial(self.metric_learning, theirs)
            sides[f"fast, {name}"] = partial(
                self.fused, memory="fast", margin=ours, gradient="exact"
            )
        return sides

    def products(self, forwards: int) -> None:
        """Run a step's products alone, piece by piece, the forward's so many times."""
        x, w = self.x.detach(), self.weight.detach()
        dx, dweight = torch.zeros_like(x), torch.empty_like(w)
        logits = x.new_empty(len(x), PIECE)
        for begin in range(0, len(w), PIECE):
            rows = w[begin : begin + PIECE]
            piece = logits[:, : len(rows)]
            for _ in range(forwards):
                torch.mm(x, rows.t(), out=piece)
            torch.mm(piece.t(), x, out=dweight[begin : begin + PIECE])
            torch.addmm(dx, piece, rows, out=dx)

    def chunked(self) -> None:
        """Run torch's cross entropy in pieces of the batch, without a margin."""
        options = torch.nn.LinearCrossEntropyOptions()
        F.linear_cross_entropy(self.x, self.weight, self.label, options=options).backward()
        self.clear()

    def metric_learning(self, loss: torch.nn.Module) -> None:
        """Run a loss of pytorch-metric-learning, which has a weight of its own."""
        loss(self.x, self.label).backward()
        loss.zero_grad(set_to_none=True)
        self.clear()


def measure(problem: Problem, sides: dict[str, Step], rounds: int) -> dict[str, dict[str, float]]:
    """Time every side in turn; return milliseconds, ratios to F.linear and extra memory."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    peaks = {name: peak_bytes(step, "cpu") for name, step in sides.items()}  # warms up, too
    for _ in range(rounds):
        for name, step in sides.items():
            problem.restore()
            times[name].append(seconds(step, "cpu"))
    logits = problem.grad.numel() * problem.grad.element_size()
    given = sum(t.numel() * t.element_size() for t in (problem.x, problem.weight))
    results = {
        name: summary(times[name], times["F.linear"])
        | {"extra_of_logits": (peaks[name] - given) / logits}
        for name in sides
    }
    if "torch chunked" in sides:
        for name, result in results.items():
            result["times_faster_than_chunked"] = statistics.median(
                a / b for a, b in zip(times["torch chunked"], times[name], strict=True)
            )
    return results


def one_step(problem: Problem, way: str, limit: float | None) -> None:
    """Take one step and print what the process held at its peak beyond the tensors given."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = partial(problem.layers, "exact")
    if way != "layers":
        step = partial(problem.fused, memory=way, gradient="exact")
    if limit is not None:
        status = Path("/proc/self/status").read_text()
        held = 1024 * int(re.search(r"VmData:\s*(\d+)", status)[1])
        resource.setrlimit(resource.RLIMIT_DATA, (held + int(limit * 2**30),) * 2)
    try:
        took = seconds(step, "cpu")
    except RuntimeError as error:
        if limit is None:
            raise
        sys.exit(f"{way}: no step within {limit} GiB: {str(error).splitlines()[0]}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = (peak - before) / 2**20
    print(f"{way}: one step in {took:.1f} s, peak {peak / 2**20:.2f} GiB, grown by {grown:.2f} GiB")


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", action="append", metavar="M,K,N")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--against", choices=["torch", "metric-learning"])
    parser.add_argument("--side", action="append", help="only these, by name, and F.linear")
    parser.add_argument("--step", choices=["fast", "lean", "layers"])
    parser.add_argument("--limit", type=float, metavar="GIB", help="of memory that --step may take")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report = {"machine": describe("cpu", args.rounds), "dtype": args.dtype, "runs": {}}
    for shape in args.shape or ["256,512,10572"]:
        m, k, n = map(int, shape.split(","))
        problem = Problem(m, k, n, getattr(torch, args.dtype), logits=args.step is None)
        if args.step:
            one_step(problem, args.step, args.limit)
            continue
        sides = {
            None: problem.sides,
            "torch": problem.against_torch,
            "metric-learning": problem.against_metric_learning,
        }[args.against]()
        if args.side:
            sides = {name: sides[name] for name in ("F.linear", *args.side)}
        results = measure(problem, sides, args.rounds)
        report["runs"][shape] = results
        print(f"\n(M, K, N) = ({shape}), {args.dtype}")
        print(f"  {'':26} {'median':>9}  {'x F.linear [quartiles]':26} extra / logits")
        for name, r in results.items():
            ratio = f"{r['ratio']:.3f} [{r['ratio_q1']:.3f}, {r['ratio_q3']:.3f}]"
            extra = f"{100 * r['extra_of_logits']:.1f} %"
            if "times_faster_than_chunked" in r:
                extra += f"  {r['times_faster_than_chunked']:.1f}x faster than torch chunked"
            print(f"  {name:26} {r['ms_median']:7.1f}ms  {ratio:26} {extra}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
