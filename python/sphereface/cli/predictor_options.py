"""Options for running a trained net: batch, device, blobs, and its own data."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sphereface.cli.net_options import opened_net
from sphereface.errors import SphereFaceError

if TYPE_CHECKING:
    from sphereface.caffe import Net, OpenNet
    from sphereface.inference import Predictor

__all__ = ["add_predictor_options", "data_text", "open_predicted", "predictor_of"]


def add_predictor_options(parser: argparse.ArgumentParser) -> None:
    """Add --blob, --batch, --device and the like."""
    add = parser.add_argument
    add("--blob", action="append", default=[], help="blob wanted instead of the outputs; repeats")
    add("--batch", type=int, default=16, help="images at a time (default: %(default)s)")
    add("--device", default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    add("--bfloat16", action="store_true", help="faster on processors that have it; 2-3 digits")
    add("--compile", action="store_true", help="torch.compile; pays off for thousands of images")
    add("--cuda-graphs", action="store_true",
        help="on a GPU, record the passes of a batch size and replay them")  # fmt: skip
    add("--no-fuse", action="store_true",
        help="run every layer by itself; otherwise normalisation, activations and sums are folded"
        " into convolutions (summary --fused tells), which changes the last digits")  # fmt: skip
    add("--allow-missing", action="store_true", help="run with layers that the weights lack")
    add("--write-anywhere", action="store_true",
        help="let HDF5Output layers write outside of the working folder")  # fmt: skip


def open_predicted(
    args: argparse.Namespace, weights: str, *, workers: int | None = None
) -> OpenNet:
    """Return the net of the options with its weights; with ``args.data`` its data too.

    Raises
    ------
    SphereFaceError
        Layers have no weights and the user did not allow that; or the net has no data layers.
    """
    from sphereface.caffe import DataOptions
    from sphereface.caffe.layers.hdf5_output import check_file_names

    if args.batch < 1:
        raise SphereFaceError(f"{args.batch}", where="--batch", expected="at least 1")
    data = None
    if args.data:
        data = DataOptions(workers=workers, seed=0, exif=args.exif == "apply")
    opened = opened_net(args, weights=weights, data=data)
    check_file_names(opened.net.layers, anywhere=args.write_anywhere, overwrite=args.overwrite)
    left = opened.net.load_report.left
    if args.data and opened.source is None:
        raise SphereFaceError(
            f'net "{opened.net.name}" has no data layers in phase {args.phase}', where="--data",
            expected="images or an array as inputs, or the other --phase",
        )  # fmt: skip
    if left and not args.allow_missing:
        raise SphereFaceError(
            f"no weights for {', '.join(f'layer {name} ({why})' for name, why in left.items())}",
            where=weights,
            fix="give the model of this net, or --allow-missing",
        )
    return opened


def predictor_of(args: argparse.Namespace, net: Net) -> Predictor:
    """Return the predictor of a net, in the form that the options say."""
    from sphereface.inference import Predictor

    return Predictor(
        net,
        device=args.device,
        bfloat16=args.bfloat16,
        compile=args.compile,
        fuse=not args.no_fuse,
        cuda_graphs=args.cuda_graphs,
    )


def data_text(net: Net) -> str:
    """Return the line that tells what data layers do to their images."""
    from sphereface.proto.text import write

    told = [
        f'layer "{layer.name}": {" ".join(write(layer.layer_param.transform_param).split())}'
        for layer in net.layers
        if layer.is_input and layer.layer_param.HasField("transform_param")
    ]
    return f"preprocessing of the data layers: {'; '.join(told) or 'none'}"
