"""``sphereface time``: milliseconds of each layer, forward and backward, as ``caffe time``."""

from __future__ import annotations

import argparse
import contextlib

from sphereface.cli.net_options import add_net_options, input_shapes, prototxt_file
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
    add_net_options(parser)
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

    from sphereface.caffe import Net
    from sphereface.caffe.load import load_graph
    from sphereface.inspection.timing import time_net
    from sphereface.solver.distributed import Place, devices_of
    from sphereface.solver.training import DataOptions, opener

    devices = devices_of(args.gpu or "none")
    if len(devices) > 1:
        raise SphereFaceError(args.gpu, where="--gpu", expected="one GPU")
    if args.threads:
        torch.set_num_threads(args.threads)
    graph = load_graph(prototxt_file(args.prototxt), args.phase, args.level, args.stage)
    with contextlib.ExitStack() as stack:
        source = None
        if args.data:
            source = opener(DataOptions(workers=0), 0, Place(), stack)(graph, args.phase)
        shapes = {**(source.shapes if source else {}), **input_shapes(args.input_shape)}
        net = Net(graph, phase=args.phase, input_shapes=shapes)
        result = time_net(
            net,
            source.next_batch if source else None,
            iterations=args.iterations,
            backward=not args.forward_only,
            device=devices[0],
        )
    print(result)
    return 0
