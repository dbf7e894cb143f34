"""``sphereface demo``: the margin family against softmax on the bundled handwritten digits."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface demo``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "demo",
        help="train on handwritten digits and verify unseen ones by four losses",
        description="Trains a small network on some classes of scikit-learn's handwritten digits,"
        " verifies pairs of the others with the 10-fold protocol, for softmax with normalised"
        " weights (m=1), A-Softmax (m=4), CosFace and ArcFace, and draws 2-D embeddings of the"
        " first two.",
    )
    parser.add_argument(
        "--output",
        "--out",
        type=Path,
        default=Path("out/digits_embeddings.png"),
        metavar="PNG",
        help="the picture to write (default: %(default)s)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=6,
        help="splits of the classes to train and verify (default: %(default)s)",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the demo and print its table."""
    from sphereface.demo.digits import run_digits

    run_digits(args.output, args.seeds)
    return 0
