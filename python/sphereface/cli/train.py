"""``sphereface train``: a solver's prototxt, as ``caffe train``."""

from __future__ import annotations

import argparse
import signal

from sphereface.cli.image_options import add_exif_option
from sphereface.cli.net_options import add_allow_python, add_layers, stages
from sphereface.errors import SphereFaceError
from sphereface.files import check_output

__all__ = ["add_parser", "run"]

_EFFECTS = ("snapshot", "stop", "none")


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface train``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "train",
        help="train a net as its solver's prototxt says",
        description="Trains as caffe train does, with its log on stderr. Ctrl-C and SIGTERM"
        " snapshot and stop, a hangup snapshots and goes on, and an error snapshots before it ends"
        " the run; --snapshot goes on exactly where that was."
        " Several GPUs each take the prototxt's batch; under torchrun, each process does.",
    )
    add = parser.add_argument
    add("--solver", required=True, metavar="PROTOTXT", help="the solver")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--weights", default="", metavar="FILE[,FILE]", help="start from trained weights"
    )
    start.add_argument(
        "--snapshot", default="", metavar="SOLVERSTATE", help="go on from a snapshot"
    )
    add("--gpu", metavar="0,1", help="GPUs to use, all, or none; the prototxt's mode if not given")
    add("--ranks", type=int, default=1, help="processes on the CPU, with --gpu none (default: 1)")
    add(
        "--shard-classes",
        action="store_true",
        help="split the weights of a MarginInnerProduct's classes over the processes",
    )
    add(
        "--sample-classes",
        type=float,
        default=1.0,
        metavar="RATE",
        help="with --shard-classes, the part of the classes in an iteration (default: all)",
    )
    add("--level", type=int, help="level of the train net's state")
    add(
        "--stage",
        action="append",
        default=[],
        help="stage of its state; several with commas, or repeated",
    )
    for name, effect, what in (
        ("sigint", "stop", "Ctrl-C"),
        ("sighup", "snapshot", "a hangup"),
        ("sigterm", "stop", "a termination"),
    ):
        flags = (f"--{name}_effect", f"--{name}-effect")
        text = f"what {what} does; stop snapshots too (default: %(default)s)"
        add(*flags, choices=_EFFECTS, default=effect, help=text)
    add("--log-dir", "--log_dir", default="", metavar="DIR", help="write the log there, too")
    tables = parser.add_mutually_exclusive_group()
    tables.add_argument("--csv", default="", metavar="FILE", help="write a table of the numbers")
    tables.add_argument("--jsonl", default="", metavar="FILE", help="the same as JSON lines")
    add("--overwrite", action="store_true", help="replace that table if it exists")
    add("--tensorboard", default="", metavar="DIR", help="write event files for TensorBoard")
    add("--verify", metavar="PAIRS|FOLDER", help="verify people that are not trained on while the"
        " net trains: a list of pairs, or a folder of people to draw pairs of")  # fmt: skip
    add("--verify-root", default="", metavar="DIR", help="folder of the list's aligned images")
    add("--verify-interval", type=int, default=0, metavar="N", help="iterations between two"
        " (default: test_interval, snapshot, or a tenth of the run)")  # fmt: skip
    add("--verify-blob", default="", metavar="BLOB", help="the embedding (default: the bottom of"
        " the margin layer)")  # fmt: skip
    add("--amp", choices=("bf16", "fp16"), default="", help="compute in half precision")
    add("--channels-last", action="store_true", help="images in NHWC order; a CPU has them so")
    add("--compile", action="store_true", help="torch.compile; pays off in long runs")
    add("--no-fused-loss", action="store_true", help="store the logits of a margin head")
    add("--workers", type=int, metavar="N", help="threads that read data (default: one a core)")
    add("--skip-bad-images", action="store_true", help="count unreadable images, do not stop")
    add_exif_option(parser)
    add_layers(parser)
    add_allow_python(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Train; return 143 after a stop by SIGTERM, as a shell reports it."""
    from sphereface.solver.modes import Mode
    from sphereface.solver.training import (
        DataOptions,
        LogOptions,
        TrainOptions,
        VerifyOptions,
        train,
    )

    table = args.csv or args.jsonl
    if table and not args.snapshot:  # a resumed run goes on with its table
        check_output(table, overwrite=args.overwrite, inputs=[args.solver])
    others = args.verify_root, args.verify_interval, args.verify_blob
    if any(others) and not args.verify:
        raise SphereFaceError(
            "--verify-root, --verify-interval or --verify-blob without --verify",
            expected="--verify PAIRS or FOLDER",
        )
    verify = VerifyOptions(args.verify, *others) if args.verify else None
    stopped_by = train(
        TrainOptions(
            args.solver,
            weights=args.weights,
            snapshot=args.snapshot,
            gpu=args.gpu,
            ranks=args.ranks,
            level=args.level,
            stages=stages(args.stage),
            sigint_effect=args.sigint_effect,
            sighup_effect=args.sighup_effect,
            sigterm_effect=args.sigterm_effect,
            mode=Mode(
                args.amp,
                args.channels_last,
                args.compile,
                args.shard_classes,
                not args.no_fused_loss,
                args.sample_classes,
            ),
            data=DataOptions(args.workers, args.skip_bad_images, exif=args.exif == "apply"),
            logs=LogOptions(args.log_dir, table, args.tensorboard),
            layers=tuple(args.layers),
            allow_python=tuple(args.allow_python),
            verify=verify,
        )
    )
    return 128 + signal.SIGTERM if stopped_by == signal.SIGTERM else 0
