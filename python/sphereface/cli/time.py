"""``sphereface time``: milliseconds of each layer, forward and backward, as ``caffe time``."""

from __future__ import annotations

import argparse

from sphereface.cli.net_options import add_net_options, opened_net, settle_files
from sphereface.errors import SphereFaceError

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface time``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "time",
        help="milliseconds of each layer, as caffe time",
        description="Measures forward and backward of each layer on noise; with --data, on the"
        " net's own data, reading included.",
    )
    add_net_options(parser, files=True, phase="TRAIN")
    add = parser.add_argument
    add("--iterations", type=int, default=50, help="passes to run (default: %(default)s)")
    add("--gpu", help="the GPU to use (default: none)")
    add("--threads", type=int, help="threads of torch (default: one a core)")
    add("--forward-only", action="store_true", help="leave out the backward passes")
    add("--data", action="store_true", help="read the data layers' data, in this thread")
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure and print the table."""
    import torch

    from sphereface.caffe import DataOptions
    from sphereface.inspection.timing import time_net
    from sphereface.solver.distributed import devices_of

    devices = devices_of(args.gpu or "none")
    if len(devices) > 1:
        raise SphereFaceError(args.gpu, where="--gpu", expected="one GPU")
    settle_files(args, weights_needed=False)
    data = DataOptions(workers=0, seed=0) if args.data else None
    threads = torch.get_num_threads()
    torch.set_num_threads(args.threads or threads)
    try:
        with opened_net(args, weights=args.weights, data=data) as opened:
            result = time_net(
                opened.net,
                opened.source.next_batch if opened.source else None,
                iterations=args.iterations,
                backward=not args.forward_only,
                device=devices[0],
            )
    finally:
        torch.set_num_threads(threads)  # of a program that calls `main`
    print(result)
    return 0
