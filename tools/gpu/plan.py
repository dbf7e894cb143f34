"""The steps of `make gpu`: what each runs, in which order, and how long it may take."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OPTIONAL", "PLAN", "TOTAL", "Step", "choose", "plan_text"]

TOTAL = 300  # seconds, all steps of PLAN together
SANITIZER = ("compute-sanitizer", "--error-exitcode", "9", "--print-limit", "20", "--tool")
CASES = "tools/gpu/sanitizer_cases.py"


@dataclass(frozen=True)
class Step:
    """One subprocess.

    Attributes
    ----------
    name, what : str
        What `--only` calls it, and what it shows.
    limit : int
        Seconds after which it is ended; the figures printed by then are kept.
    command : tuple of str
        Without Python's name; ``{pack}``, ``{device}`` are filled in.
    wrapper : tuple of str
        Put before Python.
    """

    name: str
    what: str
    limit: int
    command: tuple[str, ...]
    wrapper: tuple[str, ...] = ()

    def arguments(self, device: str, pack: Path, rehearse: bool) -> list[str]:
        """Return the whole command; a rehearsal is on the CPU, tiny and without wrapper."""
        command = [part.format(device=device, pack=pack) for part in self.command]
        own = self.command[0].startswith("tools/")
        wrapper = [] if rehearse else list(self.wrapper)
        return [*wrapper, sys.executable, *command, *(["--rehearse"] if rehearse and own else [])]


def _script(name: str) -> tuple[str, ...]:
    return (f"tools/gpu/{name}.py", "--device", "{device}", "--pack", "{pack}")


PLAN = (
    Step("build", "the package, for this card alone", 75, ("tools/gpu/build.py",)),
    Step("tests", "tests marked cuda, and the parametrised ones on the device", 50,
         ("-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider")),
    Step("memcheck", "every kernel once, under compute-sanitizer", 35,
         (CASES, "--device", "{device}"), (*SANITIZER, "memcheck")),
    Step("margin", "the margin operator against F.linear and plain A-Softmax", 30,
         _script("margin_step")),
    Step("loss", "the fused loss against the layers, bare products and fused losses of others", 45,
         _script("loss_step")),
    Step("training", "images a second of training, and the wait for data", 30,
         _script("training_step")),
    Step("inference", "images a second of a forward", 10, _script("inference_step")),
    Step("faces", "m = 1 against m = 4, trained by sphereface train, people held out", 25,
         _script("faces_step")),
)  # fmt: skip
OPTIONAL = (
    Step("racecheck", "the same cases, races of shared memory", 60,
         (CASES, "--device", "{device}"), (*SANITIZER, "racecheck")),
    Step("initcheck", "the same cases, reads of unwritten memory", 60,
         (CASES, "--device", "{device}"), (*SANITIZER, "initcheck")),
)  # fmt: skip


def choose(only: Sequence[str] = (), skip: Sequence[str] = ()) -> list[Step]:
    """Return the steps to run, in the plan's order.

    Raises
    ------
    ValueError
        A name is of no step.
    """
    names = [step.name for step in PLAN + OPTIONAL]
    for name in (*only, *skip):
        if name not in names:
            raise ValueError(f'no step is called "{name}"; expected of {", ".join(names)}')
    steps = [step for step in PLAN + OPTIONAL if step.name in only] if only else list(PLAN)
    return [step for step in steps if step.name not in skip]


def plan_text(steps: Sequence[Step]) -> str:
    """Return a line for each step, and the sum of their limits."""
    lines = [f"{step.name:10} {step.limit:4} s  {step.what}" for step in steps]
    lines.append(f"{'sum':10} {sum(step.limit for step in steps):4} s")
    return "\n".join(lines)
