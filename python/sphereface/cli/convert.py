"""``sphereface convert``: weights and nets between Caffe, torch, safetensors, ONNX, TorchExport."""

from __future__ import annotations

import argparse

from sphereface.cli.net_options import add_net_options, opened_net
from sphereface.cli.output_options import add_output_options, required_output
from sphereface.resources import find_prototxt

__all__ = ["add_parser", "run"]

_SOURCES = ("caffemodel", "pt", "safetensors", "clcarwin")
# As in sphereface.convert.formats, which imports torch.
_TARGETS = ("pt", "safetensors", "onnx", "pt2", "aoti", "caffemodel", "caffemodel.h5",
            "clcarwin")  # fmt: skip


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface convert``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "convert",
        help="weights from and to Caffe, torch, safetensors; nets to ONNX and TorchExport",
        description="Loads the weights SOURCE into the net PROTOTXT and writes TARGET. The content"
        " of SOURCE tells its format; the suffix of TARGET: .caffemodel, .caffemodel.h5, .pt or"
        " .pth (state dict), .safetensors, .onnx, .pt2. A caffemodel, a .safetensors that this"
        " command wrote, or a backbone of OpenSphere may be given in the place of PROTOTXT.",
    )
    add_net_options(parser)
    parser.add_argument("source", help="the weights")
    add_output_options(parser, "the TARGET to write", position="target")
    parser.add_argument(
        "--from",
        dest="source_format",
        default="",
        choices=_SOURCES,
        help="clcarwin: a sphere20a checkpoint of exactly 512 classes; all else is told by content",
    )
    parser.add_argument(
        "--to",
        dest="target_format",
        default="",
        choices=_TARGETS,
        help="format of TARGET; aoti: a .pt2 of machine code, which C++ loads (AOTInductor)",
    )
    parser.add_argument(
        "--free-image-size",
        action="store_true",
        help="let the written net take images of any size, not only of any number",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Convert and print what was left out."""
    from sphereface.caffe.load import net_text
    from sphereface.convert.formats import check_target, load_net, save_net

    target = required_output(args, args.prototxt, args.source)
    check_target(target, args.target_format, overwrite=args.overwrite)
    path = find_prototxt(args.prototxt)
    net = opened_net(args, fill=False).net
    left = load_net(net, args.source, args.source_format)
    save_net(
        net,
        target,
        args.target_format,
        prototxt=net_text(path),
        images=args.free_image_size,
        overwrite=args.overwrite,
    )
    for line in left:
        print(f"left out  {line}")
    print(f"wrote {target}: {target.stat().st_size:,} bytes")
    return 0
