"""``sphereface test``: scores of a trained net over its data, as ``caffe test``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sphereface.cli.image_options import add_exif_option
from sphereface.cli.net_options import add_net_options, opened_net, settle_files
from sphereface.errors import SphereFaceError

if TYPE_CHECKING:
    from sphereface.caffe import Net
    from sphereface.solver.records import Score

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface test``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "test",
        help="scores of a trained net over its data, as caffe test",
        description="Runs the net on batches of its own data layers and averages its outputs.",
    )
    add_net_options(parser, files=True)
    add = parser.add_argument
    add("--iterations", type=int, default=50, help="batches to run (default: %(default)s)")
    add("--lambda", type=float, dest="lambda_", metavar="L", help="lambda of the margin layers,"
        " 0 for the whole margin; otherwise that of their first training step, as in Caffe,"
        " which is nearly no margin")  # fmt: skip
    add("--gpu", help="the GPU to use (default: none)")
    add("--workers", type=int, metavar="N", help="threads that read data (default: one a core)")
    add("--skip-bad-images", action="store_true", help="count unreadable images, do not stop")
    add_exif_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the scores of each batch and the means, in Caffe's words."""
    from sphereface.caffe import DataOptions
    from sphereface.solver.data_checks import data_warnings
    from sphereface.solver.distributed import devices_of
    from sphereface.solver.scores import score_net

    devices = devices_of(args.gpu or "none")
    if len(devices) > 1:
        raise SphereFaceError(args.gpu, where="--gpu", expected="one GPU")
    settle_files(args, weights_needed=True)
    exif = args.exif == "apply"
    data = DataOptions(args.workers, args.skip_bad_images, seed=0, exif=exif)
    with opened_net(args, weights=args.weights, data=data) as opened:
        net, source = opened.net, opened.source
        _set_lambda(net, args.lambda_)
        for warning in data_warnings(net, source):
            print(f"Warning: {warning}")
        record = score_net(net, source, args.iterations, device=devices[0], on_batch=_print_batch)
    if record.loss is not None:
        print(f"Loss: {record.loss:g}")
    for name, value, weight in record.scores:
        weighted = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
        print(f"{name} = {value:g}{weighted}")
    return 0


def _set_lambda(net: Net, value: float | None) -> None:
    from sphereface.annealing import Annealing
    from sphereface.caffe.layers.margin_inner_product import AnnealedProduct

    layers = [layer for layer in net.layers if isinstance(layer, AnnealedProduct)]
    if value is not None and not layers:
        raise SphereFaceError(f'no layer of net "{net.name}" has a lambda', where="--lambda")
    for layer in layers:
        if value is not None:
            try:
                layer.annealing = Annealing(base=value, lambda_min=value)
            except SphereFaceError as error:
                raise error.at("--lambda") from None
        elif layer.margin > 1:
            present = layer.annealing.at(int(layer.iteration))
            print(
                f'note: lambda of layer "{layer.name}" is {present:g} here, as at the first step'
                f" of a training; --lambda {layer.annealing.lambda_min:g} is that of its end",
                file=sys.stderr,
            )


def _print_batch(number: int, scores: Sequence[Score]) -> None:
    for score in scores:
        print(f"Batch {number}, {score.name} = {score.value:g}")
