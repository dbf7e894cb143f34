"""``sphereface run``: a net over images or arrays; blobs printed or saved."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sphereface.cli.image_options import (
    add_image_options,
    apply_preset,
    preprocessing,
    preprocessing_text,
    refuse_image_options,
)
from sphereface.cli.net_options import add_net_options
from sphereface.cli.output_options import add_output_options, output_path
from sphereface.cli.predictor_options import (
    add_predictor_options,
    data_text,
    open_predicted,
    predictor_of,
)
from sphereface.cli.run_boxes import add_box_options, print_boxes, refuse_box_options
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
        " become (pixel - mean) * scale, as in Caffe. A net that ends in DetectionOutput gives the"
        " boxes of each picture, in pixels.",
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
    add_box_options(parser)
    add_predictor_options(parser)
    add_output_options(parser, "write .npy (one blob) or .npz (blobs by name), do not print")
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the net, print or write its blobs."""
    _check_inputs(args)
    apply_preset(args)
    output = output_path(args, args.prototxt, args.caffemodel, *args.inputs)
    with open_predicted(args, args.caffemodel) as opened:
        return _run(args, opened, output)


def _run(args: argparse.Namespace, opened: OpenNet, output: Path | None) -> int:
    from sphereface.images import list_images
    from sphereface.inference import (
        ArrayRecords,
        ImageRecords,
        detection_blob,
        image_input,
        read_arrays,
        run_arrays,
        run_batches,
        run_records,
    )
    from sphereface.inference.save import check_format, save_blobs
    from sphereface.inspection.blob_text import blob_text

    predictor, paths = predictor_of(args, opened.net), []
    if output:
        check_format(output, len(args.blob or predictor.net.outputs))
    arrays = [name for name in args.inputs if name.endswith((".npy", ".npz"))]
    boxes = detection_blob(opened.net)
    if boxes and args.blob in ([], [boxes]) and args.inputs and not arrays:
        print_boxes(args, predictor, output)
        return 0
    refuse_box_options(args)
    if opened.source is not None:
        refuse_image_options(args, "--data", exif=True)
        print(data_text(opened.net), file=sys.stderr)
        count = args.iterations or 1
        blobs = run_batches(predictor, opened.source.next_batch, count, args.blob)
    elif arrays:
        if len(args.inputs) > 1:
            raise SphereFaceError("more inputs", where=arrays[0], expected="an array alone")
        refuse_image_options(args, arrays[0])
        inputs = read_arrays(arrays[0], predictor)
        if not boxes and len({array.shape[:1] for array in inputs.values()}) == 1:
            _, blobs = run_records(predictor, ArrayRecords(inputs), args.blob, batch=args.batch)
        else:
            blobs = run_arrays(predictor, inputs, args.blob)
    else:
        form, (blob, _) = preprocessing(args, predictor), image_input(predictor)
        files = list_images(args.inputs, args.root)
        paths = [file.path for file in files]
        print(preprocessing_text(form, args.with_mirror), file=sys.stderr)
        records = ImageRecords(files, blob, form, with_mirror=args.with_mirror)
        _, blobs = run_records(predictor, records, args.blob, batch=args.batch)
    if output:
        save_blobs(output, blobs, paths)
    for name, found in blobs.items():
        saved = f"{name} {found.shape} -> {output}"
        print(saved if output else blob_text(name, found))
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
