"""``sphereface prune``: a net without the channels of its weakest filters."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphereface.cli.image_options import (
    add_image_options,
    apply_preset,
    preprocessing,
    preprocessing_text,
)
from sphereface.cli.net_options import add_net_options, net_or_outline, stages
from sphereface.cli.output_options import add_output_options, required_output
from sphereface.errors import SphereFaceError
from sphereface.resources import find_prototxt

if TYPE_CHECKING:
    from sphereface.caffe import Net
    from sphereface.evaluation import FoldResult
    from sphereface.inference import PairImages
    from sphereface.pruning import PruningPlan

__all__ = ["add_parser", "run"]

_CHANNELS = "channels.json"


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface prune``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "prune",
        help="remove the channels of a net's weakest filters",
        description="Ranks the filters of every convolution by their L1 norm and removes the"
        " smallest, with all that reads their channels. Writes the smaller prototxt and caffemodel"
        " into a folder, for `run` and, to regain accuracy, `train --weights`. Nothing is trained"
        " here.",
    )
    add_net_options(parser)
    add = parser.add_argument
    add("weights", help="the weights, of any format")
    add("--ratio", type=float, default=0.0, metavar="R",
        help="share of every convolution's channels that goes, 0 to 1, rounded down")  # fmt: skip
    add("--keep", action="append", default=[], metavar="NAME=N",
        help="channels that convolution NAME keeps, in place of --ratio; repeats")  # fmt: skip
    add("--residual", choices=("together", "keep"), default="together",
        help="channels that residual sums join go together, by the sum of their filters' norms, or"
        " are kept (default: %(default)s)")  # fmt: skip
    add("--also", action="append", default=[], metavar="PROTOTXT",
        help="another prototxt of the same layers (the train net of a deploy net) to write with"
        " the new numbers; may be repeated")  # fmt: skip
    add_output_options(parser, "the folder to write")
    add("--pairs", default="", metavar="LIST",
        help="verification pairs, to print the accuracy before and after")  # fmt: skip
    add("--crops", default="", metavar="FOLDER", help="where the pairs' aligned images are")
    add("--blob", action="append", default=[], help="the features (default: the net's output)")
    add("--batch", type=int, default=16, help="images at a time (default: %(default)s)")
    add("--device", default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    add_image_options(parser, root=False)
    return parser


def run(args: argparse.Namespace) -> int:
    """Prune, write, and print sizes and accuracies before and after."""
    from sphereface.files import atomic_folder
    from sphereface.inference import read_pair_images
    from sphereface.pruning import plan_pruning

    keep = _numbers(args.keep)
    if not args.ratio and not keep:
        raise SphereFaceError("nothing to remove", expected="--ratio R or --keep NAME=N")
    if bool(args.pairs) != bool(args.crops):
        raise SphereFaceError("one of --pairs and --crops", expected="both, or none")
    apply_preset(args)
    paths = [find_prototxt(name) for name in (args.prototxt, *args.also)]
    names = [f"{path.stem}.prototxt" for path in paths]
    if twice := {name for name in names if names.count(name) > 1}:
        raise SphereFaceError(f"two prototxts named {twice.pop()}", where="--also",
                              expected="files of different names")  # fmt: skip
    model = f"{Path(args.weights).name.removesuffix('.h5').rpartition('.')[0]}.caffemodel"
    output = required_output(args, *paths, args.weights, holds=(*names, model, _CHANNELS))
    images = read_pair_images(args.pairs, args.crops) if args.pairs else None
    net = _net_with_weights(args)
    plan = plan_pruning(net, ratio=args.ratio, keep=keep, residual=args.residual)
    texts = [plan.prototxt(path) for path in paths]
    pruned = _pruned_net(args, texts[0], net, plan)
    with atomic_folder(output) as folder:
        for name, text in zip(names, texts, strict=True):
            (folder / name).write_text(text, encoding="utf-8", errors="surrogateescape")
        pruned.save(folder / model)
        (folder / _CHANNELS).write_text(json.dumps(_record(args, plan), indent=1) + "\n")
    _print_sizes(net, pruned, plan)
    print(f"wrote {output}: {', '.join([*names, model, _CHANNELS])}")
    if images is not None:
        _print_accuracy(args, images, net, pruned)
    return 0


def _numbers(given: list[str]) -> dict[str, int]:
    keep = {}
    for text in given:
        name, _, number = text.rpartition("=")
        if not name or not number.isdecimal():
            raise SphereFaceError(f'"{text}"', where="--keep", expected="CONVOLUTION=CHANNELS")
        keep[name] = int(number)
    return keep


def _net_with_weights(args: argparse.Namespace) -> Net:
    from sphereface.caffe import Net

    net = net_or_outline(args)
    if not isinstance(net, Net):
        raise SphereFaceError("the net's sizes are not known", where=args.prototxt,
                              fix="give --input-shape")  # fmt: skip
    left = net.copy_from(args.weights).left
    if left:
        raise SphereFaceError(
            f"no weights for {', '.join(left)}",
            where=args.weights,
            expected="weights of every layer",
            fix="prune the deploy net, and name the train net with --also",
        )
    for line in (f"{name}: {why}" for name, why in net.load_report.skipped.items()):
        print(f"left out  {line}")
    return net


def _pruned_net(args: argparse.Namespace, text: str, net: Net, plan: PruningPlan) -> Net:
    from sphereface.caffe import open_net

    pruned = open_net(
        text,
        phase=args.phase,
        level=args.level,
        stages=stages(args.stage),
        input_shapes={name: net.blob_shapes[name] for name in net.inputs},
        allow_python=args.allow_python,
        fill=False,
    ).net
    pruned.copy_from(plan.weights, strict=True)
    return pruned


def _record(args: argparse.Namespace, plan: PruningPlan) -> dict[str, Any]:
    return {
        "ratio": args.ratio,
        "keep": _numbers(args.keep),
        "residual": args.residual,
        "kept": {name: kept.tolist() for name, kept in plan.kept.items()},
    }


def _print_sizes(net: Net, pruned: Net, plan: PruningPlan) -> None:
    from sphereface.inspection import summarize

    width = max((len(row.name) for row in plan.rows), default=0)
    for row in plan.rows:
        change = (
            f"-> {row.after}" if row.after < row.before else f"stays: {row.why}" * bool(row.why)
        )
        print(f"{row.name:{width}}  {row.before:>5} {change}".rstrip())
    before, after = summarize(net, 1), summarize(pruned, 1)
    for word, old, new in (("MACs", before.macs, after.macs),
                           ("parameters", before.params, after.params)):  # fmt: skip
        print(f"{word:10}  {old:,} -> {new:,} ({100 * (new / old - 1):+.1f} %)" if old else word)


def _print_accuracy(args: argparse.Namespace, images: PairImages, net: Net, pruned: Net) -> None:
    from sphereface.inference import Predictor, judge_pairs

    found: list[FoldResult] = []
    for one in (net, pruned):
        predictor = Predictor(one, device=args.device)
        form = preprocessing(args, predictor)
        if not found:
            print(preprocessing_text(form, args.with_mirror))
        judged = judge_pairs(
            predictor, images, form, args.blob, with_mirror=args.with_mirror, batch=args.batch
        )
        found.append(judged)
    old, new = (f"{100 * one.mean:.2f} %" for one in found)
    print(f"accuracy    {old} -> {new} on {len(images.pairs.same)} pairs, not finetuned")
