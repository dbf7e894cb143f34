"""``sphereface convert``: weights and nets between Caffe, torch, safetensors, ONNX, TorchExport."""

from __future__ import annotations

import argparse
from pathlib import Path

from sphereface.cli.net_options import add_net_options, input_shapes, prototxt_file

__all__ = ["add_parser", "run"]

# As in sphereface.convert.formats, which imports torch.
_SOURCES = ("caffemodel", "pt", "safetensors", "clcarwin")
_TARGETS = ("pt", "safetensors", "onnx", "pt2", "caffemodel", "caffemodel.h5", "clcarwin")


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface convert``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "convert",
        help="weights from and to Caffe, torch, safetensors; nets to ONNX and TorchExport",
        description="Loads the weights SOURCE into the net PROTOTXT and writes TARGET. The suffixes"
        " tell the formats: .caffemodel, .caffemodel.h5, .pt or .pth (state dict), .safetensors;"
        " as TARGET also .onnx and .pt2. PROTOTXT may be a .safetensors that this command wrote.",
    )
    add_net_options(parser)
    parser.add_argument("source", help="the weights")
    parser.add_argument("target", type=Path, help="the file to write")
    parser.add_argument(
        "--from",
        dest="source_format",
        default="",
        choices=_SOURCES,
        help="format of SOURCE; clcarwin: a sphere20a checkpoint, otherwise known by its keys",
    )
    parser.add_argument(
        "--to", dest="target_format", default="", choices=_TARGETS, help="format of TARGET"
    )
    parser.add_argument(
        "--free-image-size",
        action="store_true",
        help="let ONNX and TorchExport take images of any size, not only of any number",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace TARGET if it exists")
    return parser


def run(args: argparse.Namespace) -> int:
    """Convert and print what was left out."""
    from sphereface.caffe import Net
    from sphereface.caffe.load import load_graph
    from sphereface.convert.formats import check_target, load_weights, save_net
    from sphereface.convert.safetensors import safetensors_prototxt
    from sphereface.proto.text import load_text

    check_target(args.target, args.target_format, overwrite=args.overwrite)
    if Path(args.prototxt).suffix == ".safetensors":
        text = safetensors_prototxt(args.prototxt)
        graph = load_graph(text, args.phase, args.level, args.stage)
    else:
        path = prototxt_file(args.prototxt)
        text = load_text(path)[0]
        graph = load_graph(path, args.phase, args.level, args.stage)
    shapes = input_shapes(args.input_shape)
    net = Net(graph, phase=args.phase, input_shapes=shapes, fill=False)
    left = load_weights(net, args.source, args.source_format)
    save_net(
        net,
        args.target,
        args.target_format,
        prototxt=text,
        images=args.free_image_size,
        overwrite=args.overwrite,
    )
    for line in left:
        print(f"left out  {line}")
    print(f"wrote {args.target}: {args.target.stat().st_size:,} bytes")
    return 0
