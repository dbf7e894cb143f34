"""``sphereface run``: a net over images or arrays; blobs printed or saved."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sphereface.cli.image_options import add_image_options, preprocessing, refuse_image_options
from sphereface.cli.net_options import add_net_options, opened_net
from sphereface.cli.output_options import add_output_options, output_path
from sphereface.errors import SphereFaceError

if TYPE_CHECKING:
    from sphereface.inference import Predictor

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface run``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "run",
        help="run a net on images or arrays, print or save blobs",
        description="Feeds images (files, folders, .txt lists) or an .npy/.npz of ready inputs to"
        " a prototxt and its caffemodel. Images become (pixel - mean) * scale, as in Caffe.",
    )
    add_net_options(parser)
    parser.add_argument("caffemodel", help="the weights, of any format")
    parser.add_argument(
        "inputs", nargs="+", help="images, folders, .txt lists; or one .npy or .npz"
    )
    add_image_options(parser)
    add = parser.add_argument
    add("--blob", action="append", default=[], help="blob wanted instead of the outputs; repeats")
    add_output_options(parser, "write .npy (one blob) or .npz (blobs by name), do not print")
    add("--batch", type=int, default=16, help="images at a time (default: %(default)s)")
    add("--device", default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    add("--bfloat16", action="store_true", help="faster on processors that have it; 2-3 digits")
    add("--compile", action="store_true", help="torch.compile; pays off for thousands of images")
    add("--allow-missing", action="store_true", help="run with layers that the weights lack")
    add("--write-anywhere", action="store_true",
        help="let HDF5Output layers write outside of the working folder")  # fmt: skip
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the net, print or write its blobs."""
    from sphereface.images import list_images
    from sphereface.inference import forward

    if args.batch < 1:
        raise SphereFaceError(f"{args.batch}", where="--batch", expected="at least 1")
    output = output_path(args, args.prototxt, args.caffemodel, *args.inputs)
    predictor, paths = _predictor(args), []
    if output:
        forward.check_format(output, len(args.blob or predictor.net.outputs))
    arrays = [name for name in args.inputs if name.endswith((".npy", ".npz"))]
    if arrays:
        if len(args.inputs) > 1:
            raise SphereFaceError("more inputs", where=arrays[0], expected="an array alone")
        refuse_image_options(args, arrays[0])
        inputs = forward.read_arrays(arrays[0], predictor)
        blobs = forward.run_arrays(predictor, inputs, args.blob, args.batch)
    else:
        form = preprocessing(args, predictor)
        paths = [file.path for file in list_images(args.inputs, args.root)]
        blobs = forward.run_images(
            predictor,
            paths,
            form,
            args.blob,
            batch=args.batch,
            with_mirror=args.with_mirror,
        )
    if output:
        forward.save_blobs(output, blobs, paths)
    for name, blob in blobs.items():
        saved = f"{name} {blob.shape} -> {output}"
        print(saved if output else forward.blob_text(name, blob))
    return 0


def _predictor(args: argparse.Namespace) -> Predictor:
    from sphereface.caffe.layers.hdf5_output import check_file_names
    from sphereface.inference import Predictor

    net = opened_net(args, weights=args.caffemodel).net
    check_file_names(net.layers, anywhere=args.write_anywhere, overwrite=args.overwrite)
    left = net.load_report.left
    if left and not args.allow_missing:
        raise SphereFaceError(
            f"no weights for {', '.join(f'layer {name} ({why})' for name, why in left.items())}",
            where=args.caffemodel,
            fix="give the model of this net, or --allow-missing",
        )
    return Predictor(net, device=args.device, bfloat16=args.bfloat16, compile=args.compile)
