"""``sphereface diff``: what differs between two nets or two models."""

from __future__ import annotations

import argparse
import json

from sphereface.cli.net_options import add_layers
from sphereface.resources import find_prototxt

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface diff``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "diff",
        help="differences of two nets (prototxt) or two models (caffemodel)",
        description="Compares two prototxts layer by layer and field by field, or the weights of"
        " two models (of any format) blob by blob; of a prototxt and a model, the nets. The exit"
        " code is 0 if they are equal and 1 if not.",
    )
    parser.add_argument("old", help="a prototxt or a file of weights")
    parser.add_argument("new", help="another")
    parser.add_argument(
        "--phase",
        type=str.upper,
        choices=("TRAIN", "TEST"),
        help="of nets, compare the layers of this phase only",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        help="of models, the greatest absolute difference that counts as equal"
        " (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_layers(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the differences; 0 if there are none, else 1."""
    from sphereface.inspection import NetDiff, WeightsDiff, diff_nets, diff_weights
    from sphereface.weights import is_weights

    old, new = find_prototxt(args.old), find_prototxt(args.new)
    diff: NetDiff | WeightsDiff
    if is_weights(old) and is_weights(new):
        diff = diff_weights(old, new, args.tolerance)
    else:
        diff = diff_nets(old, new, args.phase)
    print(json.dumps(diff.to_dict(), indent=1) if args.json else diff)
    return 0 if diff.equal else 1
