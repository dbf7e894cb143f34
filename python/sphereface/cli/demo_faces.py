"""``sphereface demo-faces``: from photographs of people to a report on a net of them."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_parser", "run"]

_INTERRUPTED = 130  # as after a Ctrl-C in the other steps


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface demo-faces``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "demo-faces",
        help="photographs of people to a report: detect, align, list, train, extract, evaluate",
        description="Takes a folder PERSON/PICTURE through the whole pipeline, by the commands that"
        " it prints: three quarters of the people train a small net from scratch with A-Softmax,"
        " the others verify it. A step whose output is whole is skipped, a stopped one continued.",
    )
    add = parser.add_argument
    add("folder", help="a folder for each person, with photographs")
    add("--output", default="out/faces", metavar="DIR", help="for all results (%(default)s)")
    add("--detector", default="mtcnn", help="as of detect; none: they are crops already"
        " (default: %(default)s)")  # fmt: skip
    add("--epochs", type=int, help="of the training (default: 15, more with few pictures)")
    add("--batch", type=int, default=32, help="of the training (default: %(default)s)")
    add("--renew", action="store_true", help="where photographs came or went since the last run,"
        " make anew what was made of the others")  # fmt: skip
    add("--workers", type=int, default=1, help="processes of detect and align (%(default)s)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the steps; stop at the first that fails, with its exit code."""
    from sphereface.cli.main import main
    from sphereface.demo.faces import FacesRun

    steps = FacesRun(Path(args.folder), Path(args.output), args.epochs, args.batch, args.renew)
    for step in steps.steps(args.detector, args.workers):
        if step.output.exists() and not step.always:
            print(f"{step.command[0]}: {step.output} is there")
            continue
        command = step.prepared()
        print(f"sphereface {' '.join(command)}", flush=True)
        if code := main(command):
            print(f"stopped at {command[0]}; other options want another --output")
            return code
        if not step.output.exists():  # train ends well when Ctrl-C has made a snapshot
            print("stopped; the same command goes on from there")
            return _INTERRUPTED
    print(f"report: {steps.report}")
    return 0
