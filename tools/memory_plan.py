"""What a margin softmax loss over many classes needs, on paper: memory, bytes sent, time.

    python tools/memory_plan.py --classes 1000000 --batch 1024 --ranks 8
    python tools/memory_plan.py --table

Counts the class layer of the losses of `sphereface.nn` and `sphereface.distributed`; the net before
it comes on top. tests/tools/test_memory_plan.py holds the formulas against tensors and collectives
that it counts.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace

STORAGE = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
STATES = {"none": 0, "sgd": 0, "momentum": 1, "adam": 2}
GIB, MIB = 1 << 30, 1 << 20


def _sums(batch: int, piece: int) -> int:
    """Return the doubles in which the CPU keeps what blocks of a piece know of the rows."""
    blocks = max(4, piece // 256)
    block = math.ceil(math.ceil(piece / blocks) / 16) * 16
    return math.ceil(piece / block) * batch * 4 + 2 * batch + 3 * piece


@dataclass(frozen=True)
class Plan:
    """A loss and the machines that it runs on.

    Attributes
    ----------
    classes, batch, features : int
        N, M (rows of all ranks together) and K.
    ranks : int
        Processes that share the classes.
    dtype : str
        Of weight, x and logits.
    optimizer : str
        Of `STATES`; its states have the weight's dtype.
    memory : str
        "fast" keeps a rank's logits, "lean" a piece of them.
    sample_rate : float
        The part of a rank's classes that takes part in a step.
    device : str
        "cpu" or "cuda", which take pieces of other sizes (csrc/torch/cpu.cpp, cuda.cpp).
    bandwidth, flops : float
        Bytes a second that a rank sends, operations a second of its products.
    """

    classes: int
    batch: int = 1024
    features: int = 512
    ranks: int = 1
    dtype: str = "float32"
    optimizer: str = "momentum"
    memory: str = "lean"
    sample_rate: float = 1.0
    device: str = "cuda"
    bandwidth: float = 25e9
    flops: float = 50e12

    @property
    def item(self) -> int:
        """Bytes of a stored number."""
        return STORAGE[self.dtype]

    @property
    def math_item(self) -> int:
        """Bytes of a number that sums are made in."""
        return max(self.item, 4)

    @property
    def own(self) -> int:
        """Classes of the first rank, which has the most."""
        return -(-self.classes // self.ranks)

    @property
    def active(self) -> int:
        """Those of them that take part in a step, if the batch has fewer classes."""
        return self.own if self.sample_rate == 1 else int(self.sample_rate * self.own)

    @property
    def chunk(self) -> int:
        """Classes of a piece: a unit of memory, or on a CPU what caches hold."""
        lean = self.memory == "lean"
        if self.device == "cpu":
            most = int(0.09 * self.active) if lean else self.active
            piece = min(max(most // 32 * 32 - 16, 80), 2032)
            return max(1, min(piece, self.active))
        limit = 1 << 28
        rows = (self.batch if lean else 0) + self.features + 1
        return max(1, limit // (self.item * rows))

    def kept(self) -> dict[str, int]:
        """Return the bytes that a rank has from step to step."""
        rows = self.own * self.features * self.item
        return {"weight": rows, "optimizer's state": STATES[self.optimizer] * rows}

    def step(self) -> dict[str, int]:
        """Return the bytes that a rank has besides within a step, at its peak."""
        rows = self.active * self.features * self.item
        columns = self.active if self.memory == "fast" else min(self.chunk, self.active)
        x = self.batch * self.features * self.item
        wide = self.batch * self.features * self.math_item if self.item < 4 else 0
        sampled, draw = self.sample_rate < 1, 4 * self.own + 8 * self.active
        piece = min(self.chunk, self.active)
        copies = piece * self.features * self.item if self.device == "cuda" else 0
        return {
            "gradient of the weight": rows + (8 * self.active if sampled else 0),
            "logits": self.batch * -(-columns // 8) * 8 * self.item,
            "unit rows": copies,
            "sums of rows": 0 if copies else 8 * _sums(self.batch, piece),
            "x of all ranks and its gradient": (3 if wide else 2) * x + wide,
            "draw and copy of sampled rows": rows + draw if sampled else 0,
        }

    def update(self) -> int:
        """Return the bytes that an optimiser's step on sampled rows takes besides."""
        if self.sample_rate == 1:
            return 0
        return (1 + STATES[self.optimizer]) * self.active * self.features * self.item

    def bytes_of_a_rank(self) -> int:
        """Return kept bytes and those of a step."""
        gradient = self.step()["gradient of the weight"]
        return sum(self.kept().values()) + max(sum(self.step().values()), gradient + self.update())

    def sent(self) -> dict[str, float]:
        """Return the bytes that a rank sends in a step, in rings of equal batches."""
        share = (self.ranks - 1) / self.ranks
        rows, x = self.batch, self.batch * self.features
        return {
            "x": share * x * self.item,
            "gradient of x": share * x * self.math_item,
            "labels and their gradients": share * rows * (8 + self.math_item),
            "max, sum and target": 2 * share * rows * 3 * 8,
            "means for the statistics": 2 * share * 3 * 8,
            "loss and count": 2 * share * 2 * self.math_item,
            "numbers of rows": (self.ranks - 1) * 8,
        }

    def seconds_computing(self) -> float:
        """Return the time of the products alone: three, or four where logits are made twice."""
        products = 3 if self.memory == "fast" else 4
        return products * 2 * self.batch * self.active * self.features / self.flops

    def seconds_sending(self) -> float:
        """Return the time of the bytes sent, not overlapped with the products."""
        return sum(self.sent().values()) / self.bandwidth


def report(plan: Plan) -> str:
    """Return everything of a plan as text."""
    lines = [f"{plan.own:,} of {plan.classes:,} classes a rank, {plan.active:,} of them in a step"]
    lines += [f"  {size / MIB:12,.1f} MiB  {name}" for name, size in plan.kept().items()]
    lines += [f"  {size / MIB:12,.1f} MiB  {name}, in a step" for name, size in plan.step().items()]
    if plan.update():
        lines.append(f"  {plan.update() / MIB:12,.1f} MiB  sampled rows in the optimiser, after it")
    lines.append(f"  {plan.bytes_of_a_rank() / GIB:12,.2f} GiB  a rank")
    lines += [f"  {size / MIB:12,.2f} MiB  sent: {name}" for name, size in plan.sent().items()]
    lines.append(f"  {1e3 * plan.seconds_computing():12,.2f} ms   products, at least")
    lines.append(f"  {1e3 * plan.seconds_sending():12,.2f} ms   sending, at least")
    return "\n".join(lines)


def table() -> str:
    """Return the table of docs/large-classes.md."""
    lines = [
        "| classes | ranks | way | GiB a rank | MiB sent a step | products, ms | sending, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for classes, ranks in ((10**6, (1, 8)), (10**7, (8, 64)), (10**8, (64, 512))):
        for count in ranks:
            base = Plan(classes, batch=128 * count, ranks=count)
            ways = {
                "fast": replace(base, memory="fast"),
                "lean": base,
                "lean, a tenth sampled": replace(base, sample_rate=0.1),
            }
            for way, plan in ways.items():
                cells = (
                    f"{classes:,}",
                    str(count),
                    way,
                    f"{plan.bytes_of_a_rank() / GIB:.1f}",
                    f"{sum(plan.sent().values()) / MIB:.1f}",
                    f"{1e3 * plan.seconds_computing():.1f}",
                    f"{1e3 * plan.seconds_sending():.1f}",
                )
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="print the documents' table")
    add = parser.add_argument
    add("--classes", type=int, default=10**6, help="N (default: %(default)s)")
    add("--batch", type=int, default=1024, help="rows of all ranks (default: %(default)s)")
    add("--features", type=int, default=512, help="K (default: %(default)s)")
    add("--ranks", type=int, default=1, help="processes (default: %(default)s)")
    add("--dtype", choices=STORAGE, default="float32")
    add("--optimizer", choices=STATES, default="momentum")
    add("--device", choices=("cpu", "cuda"), default="cuda")
    add("--memory", choices=("fast", "lean"), default="lean")
    add("--sample-rate", type=float, default=1.0, help="of the classes (default: all)")
    add("--bandwidth", type=float, default=25e9, help="bytes a second a rank sends")
    add("--flops", type=float, default=50e12, help="operations a second of a rank's products")
    options = vars(parser.parse_args())
    if options.pop("table"):
        print(table())
        return
    if min(options["classes"], options["batch"], options["features"], options["ranks"]) < 1:
        parser.error("--classes, --batch, --features and --ranks: 1 or more")
    if not 0 < options["sample_rate"] <= 1 or min(options["bandwidth"], options["flops"]) <= 0:
        parser.error("--sample-rate: above 0, at most 1; --bandwidth and --flops: above 0")
    print(report(Plan(**options)))


if __name__ == "__main__":
    main()
