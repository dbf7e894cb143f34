"""``sphereface evaluate``: features judged by verification and identification protocols."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sphereface.cli.evaluation_options import add_evaluation_options, check
from sphereface.errors import SphereFaceError

if TYPE_CHECKING:
    from sphereface.evaluation.pair_features import PairFeatures

__all__ = ["add_parser", "run"]

_NOT_OPTIONS = ("command", "run")


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface evaluate``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "evaluate",
        help="judge features: LFW's folds, ROC, TAR@FAR",
        description="Judges features that `sphereface extract` wrote, with a list of pairs; or"
        " pairs with their features (pairs.npz, the original's pairs.mat).",
    )
    add_evaluation_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Judge, print the tables, write what was asked for."""
    from sphereface.evaluation.run_record import run_record, write_json
    from sphereface.evaluation.verification import verify

    inputs = check(args)
    pairs = _pairs(args)
    result = verify(pairs, args.protocol, args.far, args.far_rule, args.pca)
    print("\n\n".join(table.text() for table in result.tables()))
    if args.json:
        options = {name: value for name, value in vars(args).items() if name not in _NOT_OPTIONS}
        write_json(args.json, {**run_record(args.command, options, inputs), **result.to_dict()})
    return 0


def _pairs(args: argparse.Namespace) -> PairFeatures:
    from sphereface.evaluation.features import read_features
    from sphereface.evaluation.pair_features import look_up, read_pair_features
    from sphereface.evaluation.pair_lists import read_pairs

    if not args.pairs:
        return read_pair_features(args.features)
    fallback = read_features(args.centre_crop) if args.centre_crop else None
    pairs = look_up(read_pairs(args.pairs), read_features(args.features), fallback)
    names = pairs.missing_names
    if names and args.missing == "error":
        raise SphereFaceError(
            f"{len(names)} images of the list have no features, the first {names[0]}",
            where=args.features,
            fix="--missing wrong counts their pairs as wrong; --centre-crop FILE takes their"
            " features from there",
        )
    return pairs
