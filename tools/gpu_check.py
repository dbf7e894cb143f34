"""Proves the CUDA side in one go: builds, tests, checks memory, measures, trains.

Needs nothing but the machine's Python with torch, pytest and nvcc; what `make gpu-pack` put into
.gpu/ is used when it is there. Results come to the folder $OUT (default out/gpu) as each step ends:
results.json, table.txt, log.txt. Exit code 0: nothing failed; 1: something did; 2: wrong arguments;
3: no CUDA device was found (what can be built was built).

    python3 tools/gpu_check.py [--plan] [--only margin training] [--skip faces] [--limit tests=90]
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from gpu import results
from gpu.machine import Card, describe, find_card
from gpu.plan import Step, choose, plan_text

ROOT = Path(__file__).parents[1]
PACK = ROOT / ".gpu"
BUILD = ROOT / "out" / "gpu-build"
FAILED, NO_DEVICE = 1, 3
NO_HURRY = 1800  # seconds for a build where no device is waiting


def run_step(
    step: Step, command: Sequence[str], env: dict[str, str], log: TextIO
) -> dict[str, Any]:
    """Run a step within its limit; return its state, seconds and figures."""
    begin, figures, lines = time.monotonic(), [], []
    log.write(f"\n==== {step.name}: {' '.join(command)}\n")
    try:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        return {"name": step.name, "state": f"failed: {error.filename} is not installed",
                "seconds": 0.0, "figures": []}  # fmt: skip
    late = threading.Event()

    def end() -> None:
        late.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(step.limit, end)
    timer.start()
    with process:
        for line in process.stdout or ():
            log.write(line)
            log.flush()
            lines.append(line)
            found = results.parse_line(line)
            if found:
                figures.append(found)
                print(f"  {found['name']}: {found['value']} {found['unit']}", flush=True)
    code = process.returncode
    timer.cancel()
    if "pytest" in command:
        figures += results.pytest_figures(lines)
    state = "passed" if code == 0 else f"failed with exit code {code}"
    if late.is_set():
        state = f"stopped at its limit of {step.limit} s; what it had by then"
    elif code:
        sys.stdout.writelines(lines[-20:])
    return {"name": step.name, "state": state, "seconds": time.monotonic() - begin,
            "figures": figures}  # fmt: skip


def environment(card: Card | None, rehearse: bool) -> dict[str, str]:
    """Return the steps' environment: the built package first, this card's architecture alone."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    first = [] if rehearse else [str(BUILD / "lib")]
    own = [str(ROOT / "tools"), str(ROOT / "benchmarks")]
    parts = [*first, str(BUILD / "site"), *own, *filter(None, [env.get("PYTHONPATH")])]
    env["PYTHONPATH"] = os.pathsep.join(parts)
    env["TORCH_CUDA_ARCH_LIST"] = card.capability if card else "9.0"
    return env


def arguments(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[Step]]:
    """Parse, and choose the steps."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--plan", action="store_true", help="print the steps and their limits")
    parser.add_argument("--only", nargs="+", default=[], metavar="STEP")
    parser.add_argument("--skip", nargs="+", default=[], metavar="STEP")
    parser.add_argument("--limit", nargs="+", default=[], metavar="STEP=SECONDS")
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="run the steps on the CPU, tiny, with the package that is installed: shows that their"
        " scripts work; figures mean nothing",
    )
    args = parser.parse_args(argv)
    try:
        steps = choose(args.only, args.skip)
        for item in args.limit:
            name, _, seconds = item.partition("=")
            choose([name])
            steps = [replace(s, limit=int(seconds)) if s.name == name else s for s in steps]
    except ValueError as error:
        parser.error(str(error))
    return args, steps


def main(argv: Sequence[str] | None = None) -> int:
    """Run the plan."""
    args, steps = arguments(argv)
    if args.plan:
        print(plan_text(steps))
        return 0
    card = None if args.rehearse else find_card()
    if card is None and not args.rehearse:
        steps = [replace(step, limit=NO_HURRY) for step in steps if step.name == "build"]
    folder = Path(os.environ.get("OUT") or ROOT / "out" / "gpu")
    folder.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"machine": describe(card, ROOT, PACK), "steps": []}
    device = "cpu" if args.rehearse else "cuda"
    env = environment(card, args.rehearse)
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        for step in steps:
            print(f"{step.name}: {step.what} (at most {step.limit} s)", flush=True)
            command = step.arguments(device, PACK, args.rehearse)
            report["steps"].append(run_step(step, command, env, log))
            results.write(folder, report)
    if card is None and not args.rehearse:
        built = [step["state"] for step in report["steps"]] or ["not asked for"]
        print(f"no CUDA device was found (nvidia-smi); nothing was run. Build: {built[0]}")
        return NO_DEVICE
    print(results.table(report))
    return 0 if all(step["state"] == "passed" for step in report["steps"]) else FAILED


if __name__ == "__main__":
    sys.exit(main())
