"""``sphereface evaluate``: features judged by verification and identification protocols."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sphereface.cli.evaluation_options import add_evaluation_options, check_evaluation_options

__all__ = ["add_parser", "run"]

_NOT_OPTIONS = ("command", "more", "overwrite", "parser", "run", "traceback")
# Of the pictures in a report, by the last word of their file's name.
_CAPTIONS = {
    "roc": "The share of one person's pairs that are accepted, at each false accept rate",
    "scores": "How alike pairs of one and of two persons are; right of the threshold is accepted",
    "pairs": "The hardest pairs",
    "cmc": "The share of probes whose mate is among the nearest",
}


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface evaluate``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "evaluate",
        help="judge features: LFW's folds, ROC, TAR@FAR, identification",
        description="Judges features that `sphereface extract` wrote, with a list of pairs; or"
        " pairs with their features (pairs.npz, the original's pairs.mat); or by other protocols."
        " docs/evaluation.md defines every figure.",
    )
    add_evaluation_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Judge, print the tables, write what was asked for."""
    from sphereface.cli.evaluation_results import judged
    from sphereface.evaluation.run_record import run_record, write_json

    inputs = check_evaluation_options(args)
    results = []
    for one in judged(args):
        print("\n\n".join(table.text() for table in one.result.tables()), end="\n\n")
        results.append(one)
    options = {name: value for name, value in vars(args).items() if name not in _NOT_OPTIONS}
    record = run_record(args.command, options, inputs)
    if args.json:
        found: dict[str, Any] = {}
        for one in results:
            own = one.result.to_dict()
            found.update({one.key: own} if one.key else own)
        write_json(args.json, {**record, **found})
    if args.html or args.plots:
        plots = [one.plots() for one in results]
        if args.plots:
            from sphereface.evaluation.plots import save_png

            Path(args.plots).mkdir(exist_ok=True)
            for name, figure in (item for own in plots for item in own.items()):
                save_png(figure, Path(args.plots) / name)
        if args.html:
            from sphereface.evaluation.report import Section, write_report

            sections = [
                Section(
                    one.title,
                    one.result.tables(),
                    {
                        _CAPTIONS[Path(name).stem.rpartition("_")[2]]: figure
                        for name, figure in own.items()
                    },
                )
                for one, own in zip(results, plots, strict=True)
            ]
            write_report(args.html, "Evaluation", sections, record)
    return 0
