"""Step loss: margin_softmax_loss against the layers, bare products and fused losses of others."""

from __future__ import annotations

import importlib
import os
import statistics
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from margin_inner_product import graph_of, peak_bytes, seconds
from torch import Tensor

import sphereface
from gpu.results import figure
from gpu.step import options
from sphereface.margin_policy import CosFace

Step = Callable[[], object]

SHAPES = [(1024, 512, 85_742), (1024, 512, 1_000_000)]
KINDS = [("bf16", torch.bfloat16, False), ("TF32", torch.float32, True),
         ("fp32", torch.float32, False)]  # fmt: skip
PIECES = [2**power for power in range(24, 29)]


class Problem:
    """One shape's tensors and the ways to a loss and its gradients."""

    def __init__(self, m: int, k: int, n: int, device: str, dtype: torch.dtype) -> None:
        self.x = torch.randn(m, k, device=device, dtype=dtype).requires_grad_()
        weight = F.normalize(torch.randn(n, k, device=device))
        self.weight = weight.to(dtype).requires_grad_()
        self.raw = (1.01 * weight).to(dtype)
        self.label = torch.randint(n, (m,), device=device)
        self.lambda_ = torch.tensor(5.0, device=device)
        self.compiled = torch.compile(self._cosface)

    def restore(self) -> None:
        """Move the weight off the unit sphere, as an optimiser's step does."""
        with torch.no_grad():
            self.weight.copy_(self.raw)

    def products(self) -> None:
        """Run the three products that nothing can do without."""
        with torch.no_grad():
            grad = self.x @ self.weight.t()
            grad @ self.weight
            grad.t() @ self.x

    def fused(self, **chosen: object) -> None:
        """Run the fused loss."""
        self._backward(
            sphereface.margin_softmax_loss(self.x, self.weight, self.label, self.lambda_, **chosen)
        )

    def layers(self) -> None:
        """Run the margin operator and cross entropy."""
        logits = sphereface.margin_inner_product(
            self.x, self.weight, self.label, self.lambda_, 4, "exact"
        )
        self._backward(F.cross_entropy(logits.float(), self.label))

    def eager(self) -> None:
        """Run CosFace as PyTorch's own operations."""
        self._backward(self._cosface())

    def by_compiler(self) -> None:
        """Run the same through torch.compile."""
        self._backward(self.compiled())

    def liger(self) -> None:
        """Run liger-kernel's linear + cross entropy, which has no margin."""
        module = importlib.import_module("liger_kernel.transformers.fused_linear_cross_entropy")
        loss = module.LigerFusedLinearCrossEntropyLoss()
        self._backward(loss(self.weight, self.x, self.label))

    def cut(self) -> None:
        """Run cut-cross-entropy, which has no margin."""
        module = importlib.import_module("cut_cross_entropy")
        self._backward(module.linear_cross_entropy(self.x, self.weight, self.label))

    def ways(self) -> dict[str, Step]:
        """Return every way by its name; the floor first."""
        ways: dict[str, Step] = {"three products": self.products}
        for memory in ("fast", "lean"):
            for gradient in ("caffe", "exact"):
                ways[f"{memory}, {gradient}"] = partial(
                    self.fused, memory=memory, gradient=gradient
                )
            ways[f"{memory}, CosFace"] = partial(self.fused, memory=memory, margin=CosFace())
        return ways | {
            "layers, exact": self.layers,
            "CosFace eager": self.eager,
            "CosFace compiled": self.by_compiler,
            "liger-kernel, no margin": self.liger,
            "cut-cross-entropy, no margin": self.cut,
        }

    def _cosface(self) -> Tensor:
        cosine = F.linear(F.normalize(self.x), F.normalize(self.weight))
        margin = torch.full_like(self.label, -0.35, dtype=cosine.dtype)
        logits = 64 * cosine.scatter_add(1, self.label[:, None], margin[:, None])
        return F.cross_entropy(logits.float(), self.label)

    def _backward(self, loss: Tensor) -> None:
        loss.backward()
        self.x.grad = self.weight.grad = None


def median_ms(problem: Problem, step: Step, device: str, rounds: int) -> float:
    """Return the median milliseconds of a step, the weight restored before each."""
    times = []
    for _ in range(rounds):
        problem.restore()
        times.append(seconds(step, device))
    return 1e3 * statistics.median(times)


def measure(problem: Problem, prefix: str, device: str, rounds: int) -> None:
    """Print time, ratio to the three products and memory of each way."""
    floor = 0.0
    results = sum(t.numel() * t.element_size() for t in (problem.x, problem.weight))
    for name, step in problem.ways().items():
        title = f"{prefix}, {name}"
        try:
            step()
            ms = median_ms(problem, step, device, rounds)
            extra = peak_bytes(step, device) - results
        except ImportError as error:
            figure(title, f"absent ({error.name})")
            continue
        except (RuntimeError, AssertionError) as error:  # no memory, or a shape that they refuse
            problem.x.grad = problem.weight.grad = None
            figure(title, f"does not run: {str(error)[:60]}")
            continue
        floor = floor or ms
        figure(title, ms, "ms")
        figure(f"{title}, to three products", ms / floor, "x")
        figure(f"{title}, memory beyond the results", extra / 2**20, "MiB")
    if device == "cuda":
        replay = graph_of(partial(problem.fused, memory="lean", gradient="exact"))
        figure(f"{prefix}, lean, exact, graph", median_ms(problem, replay, device, rounds), "ms")


def sweep(problem: Problem, prefix: str, device: str, rounds: int) -> None:
    """Print the time of both ways for sizes of the pieces, some of which stay in L2."""
    for size in PIECES:
        os.environ["SPHEREFACE_CUDA_PIECE_BYTES"] = str(size)
        for memory in ("fast", "lean"):
            step = partial(problem.fused, memory=memory, gradient="exact")
            step()
            ms = median_ms(problem, step, device, rounds)
            figure(f"{prefix}, {memory}, exact, pieces of {size >> 20} MiB", ms, "ms")
    del os.environ["SPHEREFACE_CUDA_PIECE_BYTES"]


def main() -> None:
    """Measure the shapes, smallest first."""
    args = options(__doc__)
    rounds = 2 if args.rehearse else 7
    torch.manual_seed(0)
    for shape in [(8, 16, 40)] if args.rehearse else SHAPES:
        for kind, dtype, tf32 in KINDS:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            torch._dynamo.reset()  # so that each shape is compiled for itself
            problem = Problem(*shape, args.device, dtype)
            prefix = f"{shape} {kind}".replace(" ", "")
            measure(problem, prefix, args.device, rounds)
            # 16-bit dx rounds once a piece, so small pieces are no choice there.
            if dtype == torch.float32:
                sweep(problem, prefix, args.device, rounds)
            del problem


if __name__ == "__main__":
    main()
