"""``sphereface plot-log``: loss, lambda and learning rate of training logs as a picture."""

from __future__ import annotations

import argparse

from sphereface.cli.output_options import add_output_options, required_output

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface plot-log``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "plot-log",
        help="draw loss, lambda and learning rate of training logs",
        description="Draws the curves of logs: Caffe's own (its tool writes them to stderr), those"
        " and the tables of sphereface train. Several logs are drawn over each other.",
    )
    parser.add_argument("logs", nargs="+", metavar="LOG", help="log, .csv or .jsonl of training")
    add_output_options(parser, "the .png or .svg to write", default="training.png", alias="--out")
    return parser


def run(args: argparse.Namespace) -> int:
    """Draw the logs and say how each ended."""
    from sphereface.solver.plot_log import check_picture, log_figure, save_figure
    from sphereface.solver.read_log import read_log

    picture = required_output(args, *args.logs)
    check_picture(picture)
    logs = [read_log(path) for path in args.logs]
    save_figure(log_figure(logs), picture)
    for log in logs:
        last = {name: curve[-1] for name, curve in log.train.items()}
        ends = ", ".join(f"{name} {value:g}" for name, (_, value) in last.items())
        iteration = max((iteration for iteration, _ in last.values()), default=0)
        print(f"{log.source}: iteration {iteration}, {ends or 'tests only'}")
    print(picture)
    return 0
