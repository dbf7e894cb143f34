"""Forward + backward of MarginInnerProduct against F.linear and plain PyTorch A-Softmax.

All sides run in this process, in turn (A B C A B C ...), so that a slow phase of the machine hits
all of them; a ratio is taken within a round, and its median and quartiles over the rounds are
printed. Memory is what a forward + backward holds at its peak beyond its results (y, dx, dweight).

    python benchmarks/margin_inner_product.py [--device cuda] [--dtype bfloat16] [--json NAME.json]
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import itertools
import json
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

import sphereface

SHAPES = [(64, 512, 10572), (256, 512, 10572), (256, 512, 85742)]
CUDA_SHAPES = [(256, 512, 10572), (1024, 512, 85742)]
FLOAT = 4  # bytes

Step = Callable[[], None]


def plain_a_softmax(
    x: torch.Tensor, weight: torch.Tensor, label: torch.Tensor, lambda_: float
) -> torch.Tensor:
    """A-Softmax, m = 4, as the formulas read: over all M x N angles, by autograd."""
    w = F.normalize(weight)
    length = x.norm(dim=1, keepdim=True)
    cos = (x @ w.t()) / length
    cos_m = 8 * cos**4 - 8 * cos**2 + 1
    k = (4 * cos.detach().clamp(-1, 1).acos() / math.pi).floor()
    phi = (-1) ** k * cos_m - 2 * k
    with_margin = (phi + lambda_ * cos) / (1 + lambda_)
    one_hot = F.one_hot(label, weight.shape[0]).bool()
    return length * torch.where(one_hot, with_margin, cos)


class Problem:
    """One shape's tensors and the four ways to run it."""

    def __init__(self, m: int, k: int, n: int, device: str, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        options = {"device": device, "dtype": dtype}
        self.x = torch.randn(m, k, **options).requires_grad_()
        self.weight = F.normalize(torch.randn(n, k, **options)).requires_grad_()
        self.raw = 1.01 * self.weight.detach()
        self.grad = torch.randn(m, n, **options)
        self.label = torch.randint(n, (m,), device=device)
        self.lambda_ = torch.tensor(5.0, device=device)

    def _backward(self, y: torch.Tensor) -> None:
        y.backward(self.grad)
        self.x.grad = self.weight.grad = None

    def linear(self) -> None:
        """Run the floor."""
        self._backward(F.linear(self.x, self.weight))

    def restore(self) -> None:
        """Move the weight off the unit sphere, as an optimiser's step does."""
        with torch.no_grad():
            self.weight[:] = self.raw

    def caffe(self) -> None:
        """Run ours with the original's gradient."""
        self._backward(
            sphereface.margin_inner_product(self.x, self.weight, self.label, self.lambda_)
        )

    def exact(self) -> None:
        """Run ours with the true gradient."""
        y = sphereface.margin_inner_product(
            self.x, self.weight, self.label, self.lambda_, gradient="exact"
        )
        self._backward(y)

    def eager(self) -> None:
        """Run the plain PyTorch form."""
        self._backward(plain_a_softmax(self.x, self.weight, self.label, 5.0))

    def compiled(self) -> None:
        """Run the plain form through torch.compile."""
        self._backward(_compiled(self.x, self.weight, self.label, 5.0))

    def result_bytes(self) -> int:
        """Size of y, dx and dweight."""
        tensors = (self.grad, self.x, self.weight)
        return sum(t.numel() * t.element_size() for t in tensors)


_compiled = torch.compile(plain_a_softmax, fullgraph=True)


def seconds(step: Step, device: str) -> float:
    """Time one call."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_bytes(step: Step, device: str) -> int:
    """Peak of torch's allocations during one call beyond what is held before it."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = [(e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]"]
    return max(itertools.accumulate((size for _, size in sorted(changes)), initial=0))


def graph_of(step: Step) -> Step:
    """Capture a step in a CUDA graph and return its replay."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def summary(times: list[float], floor: list[float]) -> dict[str, float]:
    """Return a side's milliseconds and its ratio to the floor of the same round."""
    ratios = [a / b for a, b in zip(times, floor, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else 3 * ratios
    return {
        "ms_median": 1e3 * statistics.median(times),
        "ms_min": 1e3 * min(times),
        "ratio": middle,
        "ratio_q1": low,
        "ratio_q3": high,
    }


def measure(
    problem: Problem, rounds: int, device: str, graphs: bool
) -> dict[str, dict[str, float]]:
    """Time every side in turn; return milliseconds, ratios to F.linear and extra memory."""
    sides: dict[str, Step] = {
        "F.linear": problem.linear,
        "sphereface caffe": problem.caffe,
        "sphereface exact": problem.exact,
    }
    if graphs:
        sides = {name: graph_of(step) for name, step in sides.items()}
    else:
        sides |= {"plain eager": problem.eager, "plain compiled": problem.compiled}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for step in sides.values():
        step()
    for _ in range(rounds):
        for name, step in sides.items():
            problem.restore()  # so that the rows are normalised, not found normalised
            times[name].append(seconds(step, device))
    mn = problem.grad.numel() * problem.grad.element_size()
    results = {}
    for name, step in sides.items():
        results[name] = summary(times[name], times["F.linear"])
        if not graphs:
            extra = peak_bytes(step, device) - problem.result_bytes()
            results[name]["extra_of_y"] = extra / mn
    return results


def print_table(title: str, results: dict[str, dict[str, float]]) -> None:
    """Print one shape's results."""
    print(f"\n{title}")
    print(f"  {'':18} {'median':>9} {'min':>9}  {'x F.linear [quartiles]':26} extra / y")
    for name, r in results.items():
        ratio = f"{r['ratio']:.3f} [{r['ratio_q1']:.3f}, {r['ratio_q3']:.3f}]"
        extra = f"{100 * r['extra_of_y']:.1f} %" if "extra_of_y" in r else ""
        print(
            f"  {name:18} {r['ms_median']:7.2f}ms {r['ms_min']:7.2f}ms  {ratio:26} {extra}",
            flush=True,
        )


def processor(device: str) -> str:
    """Name the device that the numbers belong to."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} threads"


def describe(device: str, rounds: int) -> dict[str, object]:
    """Return what the numbers belong to."""
    return {
        "device": processor(device),
        "torch": torch.__version__,
        "sphereface": sphereface.__version__,
        "python": platform.python_version(),
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "rounds": rounds,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--shape", action="append", metavar="M,K,N")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="CPU: float32; GPU: both")
    parser.add_argument("--json", type=Path, help="also write the results here")
    args = parser.parse_args()

    machine = describe(args.device, args.rounds)
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    runs = {}
    shapes = CUDA_SHAPES if args.device == "cuda" else SHAPES
    if args.shape:
        shapes = [tuple(map(int, shape.split(","))) for shape in args.shape]
    dtypes = [torch.float32, torch.bfloat16] if args.device == "cuda" else [torch.float32]
    if args.dtype:
        dtypes = [getattr(torch, args.dtype)]
    modes = [False, True] if args.device == "cuda" else [False]
    for dtype in dtypes:
        for tf32 in [False, True] if args.device == "cuda" and dtype == torch.float32 else [False]:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            for shape in shapes:
                torch._dynamo.reset()  # otherwise the second shape is compiled for all shapes
                for graphs in modes:
                    problem = Problem(*shape, args.device, dtype)
                    title = f"(M, K, N) = {shape}, {dtype}".replace("torch.", "")
                    title += ", TF32" * tf32 + ", CUDA graph" * graphs
                    runs[title] = measure(problem, args.rounds, args.device, graphs)
                    print_table(title, runs[title])
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"machine": machine, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
