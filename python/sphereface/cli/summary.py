"""``sphereface summary``: layers of a net with shapes, parameters, MACs and memory."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from sphereface.cli.net_options import add_net_options, net_or_outline
from sphereface.errors import SphereFaceError

if TYPE_CHECKING:
    from sphereface.caffe import Net
    from sphereface.caffe.outline import Outline

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface summary``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "summary",
        help="table of a net's layers: shapes, parameters, MACs, memory",
        description="Prints a net layer by layer, and totals. MACs are multiply-accumulates with"
        " weights and kernels (convolution, inner product, margin, recurrent), forward only,"
        " without biases. Memory is of float32 blobs. No weights are needed.",
    )
    add_net_options(parser)
    parser.add_argument("--batch", type=int, help="batch size of every input")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument(
        "--fused", action="store_true", help="print what `run` makes of the layers instead"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the summary."""
    from sphereface.caffe.outline import Outline
    from sphereface.inspection import OutlineTable, Summary, outline_table, summarize

    if args.batch is not None and args.batch < 1:
        raise SphereFaceError(f"{args.batch}", where="--batch", expected="at least 1")
    net = net_or_outline(args)
    if args.fused:
        print(_fused(args, net))
        return 0
    summary: Summary | OutlineTable
    summary = outline_table(net) if isinstance(net, Outline) else summarize(net, args.batch)
    print(json.dumps(summary.to_dict(), indent=1) if args.json else summary)
    return 0


def _fused(args: argparse.Namespace, net: Net | Outline) -> str:
    from sphereface.caffe.outline import Outline
    from sphereface.inference.fused import fold, fused_text

    if args.json or args.batch or args.phase != "TEST" or isinstance(net, Outline):
        raise SphereFaceError(
            "--fused", expected="a whole net in phase TEST, without --json and --batch"
        )
    return fused_text(fold(net, [slot for _, slot in net.program().results]))
