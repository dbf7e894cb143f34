"""``sphereface run``: a net over images or arrays; blobs printed or saved."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sphereface.cli.image_options import add_image_options, preprocessing, refuse_image_options
from sphereface.cli.net_options import add_net_options, opened_net
from sphereface.cli.output_options import add_output_options, output_path
from sphereface.errors import SphereFaceError

if TYPE_CHECKING:
    from pathlib import Path

    from sphereface.caffe import OpenNet

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface run``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "run",
        help="run a net on images or arrays, print or save blobs",
        description="Feeds images (files, folders, .txt lists) or an .npy/.npz of ready inputs to"
        " a prototxt and its caffemodel; or, with --data, what its own data layers read. Images"
        " become (pixel - mean) * scale, as in Caffe.",
    )
    add_net_options(parser)
    parser.add_argument("caffemodel", help="the weights, of any format")
    parser.add_argument(
        "inputs", nargs="*", help="images, folders, .txt lists; or one .npy or .npz"
    )
    parser.set_defaults(more=[])
    parser.add_argument("--data", action="store_true", help="run on the net's own data layers")
    parser.add_argument(
        "--iterations", type=int, help="batches of --data to run (default: 1)", metavar="N"
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
    if args.batch < 1:
        raise SphereFaceError(f"{args.batch}", where="--batch", expected="at least 1")
    _check_inputs(args)
    output = output_path(args, args.prototxt, args.caffemodel, *args.inputs)
    with _opened(args) as opened:
        return _run(args, opened, output)


def _run(args: argparse.Namespace, opened: OpenNet, output: Path | None) -> int:
    from sphereface.images import list_images
    from sphereface.inference import Predictor, forward

    predictor = Predictor(
        opened.net, device=args.device, bfloat16=args.bfloat16, compile=args.compile
    )
    paths: list[str] = []
    if output:
        forward.check_format(output, len(args.blob or predictor.net.outputs))
    arrays = [name for name in args.inputs if name.endswith((".npy", ".npz"))]
    if opened.source is not None:
        refuse_image_options(args, "--data", exif=True)
        blobs = forward.run_batches(
            predictor, opened.source.next_batch, args.iterations or 1, args.blob
        )
    elif arrays:
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


def _check_inputs(args: argparse.Namespace) -> None:
    args.inputs += args.more
    if args.data and args.inputs:
        raise SphereFaceError(
            f"--data and {args.inputs[0]}", expected="the net's own data, or inputs"
        )
    if not args.data and not args.inputs:
        raise SphereFaceError("no inputs", expected="images, an array, or --data")
    if args.iterations is not None and (args.iterations < 1 or not args.data):
        raise SphereFaceError(
            f"{args.iterations}", where="--iterations", expected="at least 1, with --data"
        )


def _opened(args: argparse.Namespace) -> OpenNet:
    from sphereface.caffe import DataOptions
    from sphereface.caffe.layers.hdf5_output import check_file_names

    data = DataOptions(seed=0, exif=args.exif == "apply") if args.data else None
    opened = opened_net(args, weights=args.caffemodel, data=data)
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
            where=args.caffemodel,
            fix="give the model of this net, or --allow-missing",
        )
    return opened
