"""``sphereface extract``: features of many images or records, streamed into a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphereface.cli.image_options import (
    add_image_options,
    apply_preset,
    preprocessing,
    preprocessing_text,
    refuse_image_options,
)
from sphereface.cli.net_options import add_net_options
from sphereface.cli.output_options import add_output_options, given_output, required_output
from sphereface.cli.predictor_options import (
    add_predictor_options,
    data_text,
    open_predicted,
    predictor_of,
)
from sphereface.errors import SphereFaceError
from sphereface.resources import find_prototxt

if TYPE_CHECKING:
    from sphereface.caffe import OpenNet
    from sphereface.inference import Predictor, Records

__all__ = ["add_parser", "run"]

# Settings that the values in the result do not depend on.
_INDIFFERENT = ("batch", "command", "cuda_graphs", "device", "output_flag", "overwrite", "parser",
                "run", "workers")  # fmt: skip


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface extract``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "extract",
        help="features of many images, records or arrays into a file",
        description="Runs a net over INPUT and writes blobs, a row a record, as they come: any"
        " number of records needs the memory of a batch. Images become (pixel - mean) * scale;"
        " no mean, scale or mirror unless given. The same command again finds its result done.",
    )
    add_net_options(parser)
    add = parser.add_argument
    add("weights", help="the weights, of any format")
    add("input", nargs="?", help="a folder of images, a list (.txt), an image, an LMDB or LevelDB,"
        " .npy or .npz")  # fmt: skip
    add("--data", action="store_true", help="the data of the net's own data layers, once")
    add_image_options(parser)
    add_predictor_options(parser)
    add_output_options(parser, ".npz (path, features), .npy (with .paths.txt), .h5, .mat, or .lmdb"
                       " of Datums as Caffe's extract_features")  # fmt: skip
    add("--workers", type=int, metavar="N", help="threads that decode (default: one a core)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Extract, unless that has been done."""
    from sphereface.data import LMDB_FILES
    from sphereface.inference import extract
    from sphereface.inference.finished import finish, forget, is_finished

    if bool(args.input) == args.data:
        raise SphereFaceError(
            "both INPUT and --data" if args.data else "no INPUT",
            where="extract",
            expected="an INPUT, or --data",
        )
    apply_preset(args)
    settings = _settings(args)
    name = given_output(args)
    if name and not args.overwrite and is_finished(name, settings):
        print(f"done before, with the same settings: {name}")
        return 0
    read = [args.prototxt, args.weights, *([args.input] if args.input else [])]
    folder = name.lower().endswith(".lmdb")
    output = required_output(args, *read, holds=LMDB_FILES if folder else ())
    with open_predicted(args, args.weights, workers=args.workers) as opened:
        predictor = predictor_of(args, opened.net)
        records, text = _records(args, opened, predictor)
        print(text, file=sys.stderr)
        forget(output)
        done = extract(predictor, records, output, args.blob, batch=args.batch)
    finish(output, settings)
    widths = ", ".join(f"{name} {width}" for name, width in done.widths.items())
    print(f"{done.records} x ({widths}) -> {output}")
    return 0


def _records(
    args: argparse.Namespace, opened: OpenNet, predictor: Predictor
) -> tuple[Records, str]:
    """Return the records, and the line that tells their preprocessing."""
    from sphereface.data import Sources
    from sphereface.images import list_images
    from sphereface.inference import (  # fmt: skip
        ArrayRecords,
        DataRecords,
        DatumRecords,
        ImageRecords,
        image_input,
        read_arrays,
    )

    if isinstance(opened.source, Sources):
        refuse_image_options(args, "--data", exif=True)
        return DataRecords(opened.source), data_text(opened.net)
    if args.input.endswith((".npy", ".npz")):
        refuse_image_options(args, args.input)
        arrays = ArrayRecords(read_arrays(args.input, predictor))
        return arrays, "preprocessing: none, the arrays are the net's input"
    form, (blob, size) = preprocessing(args, predictor), image_input(predictor)
    if args.preset:
        from sphereface.faces.presets import check_crops, find_preset

        check_crops(args.input, find_preset(args.preset), *size)
    options: dict[str, Any] = {"with_mirror": args.with_mirror, "workers": args.workers}
    text = preprocessing_text(form, args.with_mirror)
    if _is_database(args.input):
        return DatumRecords(args.input, blob, form, **options), text
    return ImageRecords(list_images([args.input], args.root), blob, form, **options), text


def _is_database(name: str) -> bool:
    from sphereface.data.leveldb_file import is_leveldb

    path = Path(name)
    is_lmdb = (path / "data.mdb").is_file() or path.suffix in (".lmdb", ".mdb")
    return is_lmdb or is_leveldb(path)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the result depends on: options, and the files' content or, of INPUT, names."""
    from sphereface.images import list_images
    from sphereface.inference.finished import file_digest, names_digest

    settings = {name: value for name, value in vars(args).items() if name not in _INDIFFERENT}
    for name in ("prototxt", "weights"):
        path = find_prototxt(settings[name])
        settings[name] = file_digest(path) if path.is_file() else ""
    if args.mean and Path(args.mean).is_file():
        settings["mean"] = file_digest(args.mean)
    path = Path(args.input or "")
    if args.input and not _is_database(args.input) and path.suffix not in (".npy", ".npz"):
        files = list_images([args.input], args.root)
        settings["input"] = [len(files), names_digest(file.name for file in files)]
    elif args.input:
        file = path / "data.mdb" if path.is_dir() else path
        settings["input"] = [args.input, file.stat().st_size if file.exists() else -1]
    return settings
