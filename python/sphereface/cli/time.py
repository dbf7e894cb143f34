"""``sphereface time``: milliseconds of each layer, forward and backward, as ``caffe time``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sphereface.cli.net_options import add_net_options, opened_net, settle_files
from sphereface.errors import SphereFaceError

if TYPE_CHECKING:
    import torch

    from sphereface.caffe import OpenNet
    from sphereface.inspection.timing import NetTime

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface time``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "time",
        help="milliseconds of each layer, as caffe time",
        description="Measures on noise, or with --data on the net's own data, reading included."
        " Phase TRAIN: forward and backward of each layer. Phase TEST: the folded operations that"
        " `run` runs, forward; with --no-fuse, each layer as in TRAIN.",
    )
    add_net_options(parser, files=True, phase="TRAIN; with --forward-only TEST")
    add = parser.add_argument
    add("--iterations", type=int, default=50, help="passes to run (default: %(default)s)")
    add("--gpu", help="the GPU to use (default: none)")
    add("--threads", type=int, help="threads of torch (default: one a core)")
    add("--forward-only", action="store_true", help="leave out the backward passes")
    add("--data", action="store_true", help="read the data layers' data, in this thread")
    add("--no-fuse", action="store_true", help="in phase TEST, each layer by itself")
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure and print the table."""
    import torch

    from sphereface.caffe import DataOptions
    from sphereface.solver.distributed import devices_of

    devices = devices_of(args.gpu or "none")
    if len(devices) > 1:
        raise SphereFaceError(args.gpu, where="--gpu", expected="one GPU")
    settle_files(args, weights_needed=False)
    args.phase = args.phase or ("TEST" if args.forward_only else "TRAIN")
    data = DataOptions(workers=0, seed=0) if args.data else None
    threads = torch.get_num_threads()
    torch.set_num_threads(args.threads or threads)
    try:
        with opened_net(args, weights=args.weights, data=data) as opened:
            print(_measured(args, opened, torch.device(devices[0])))
    finally:
        torch.set_num_threads(threads)  # of a program that calls `main`
    return 0


def _measured(args: argparse.Namespace, opened: OpenNet, device: torch.device) -> NetTime:
    from sphereface.inference import Predictor
    from sphereface.inspection.timing import time_net, time_predictor

    next_batch = opened.source.next_batch if opened.source else None
    if args.phase == "TEST" and not args.no_fuse:
        predictor = Predictor(opened.net, device=str(device))
        return time_predictor(predictor, next_batch, iterations=args.iterations)
    return time_net(
        opened.net,
        next_batch,
        iterations=args.iterations,
        backward=not args.forward_only,
        device=device,
    )
