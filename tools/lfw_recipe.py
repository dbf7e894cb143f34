"""Train with softmax, A-Softmax, CosFace and ArcFace on LFW, and verify people not trained on.

People of the first fold of LFW's view 2 verify, all others with at least five images train. Each
method has the same net, batches, rates and decay; only the head between embedding and loss differs.
A finished run is not repeated, a stopped one goes on from its last snapshot.

    python tools/lfw_recipe.py LFW [--work out/lfw] [--seeds 1 2 3]
    python tools/lfw_recipe.py LFW --net sphereface_20 --gpu 0 --work out/lfw-20

LFW holds view 2's pairs.txt, and folders PERSON/IMAGE or one .tar of them: faces aligned to
112 x 96, or to 112 x 112. The table goes to stdout, recipe.json and recipe.png into the working
folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from lfw.lists import prepare, write_lines
from lfw.nets import METHODS, WHOLE, Settings
from lfw.results import draw, report
from lfw.run import Run

from sphereface.errors import SphereFaceError


def settings_of(args: argparse.Namespace) -> Settings:
    """Return what the options ask for: the small net as measured, any other in full size."""
    small = Settings()
    chosen = small if args.net == small.net else replace(WHOLE, net=args.net)
    given = {key: getattr(args, key) for key in ("epochs", "batch", "rate", "divide")}
    return replace(chosen, **{key: value for key, value in given.items() if value is not None})


def begin(work: Path, settings: Settings) -> None:
    """Make the working folder; refuse one that holds runs with other settings."""
    work.mkdir(parents=True, exist_ok=True)
    path, own = work / "settings.json", json.dumps(asdict(settings))
    if path.exists() and path.read_text().strip() != own:
        raise SphereFaceError(
            "holds runs with other settings", where=str(path), fix="give another --work"
        )
    write_lines(path, [own])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("lfw", type=Path, help="pairs.txt, and the aligned faces as PERSON/IMAGE or a .tar")
    add("--work", type=Path, default=Path("out/lfw"), help="for all results (%(default)s)")
    add("--net", default=Settings.net, help="a packaged net; others than %(default)s in full size")
    add("--gpu", default="none", help="as of sphereface train (%(default)s)")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3], help="(default: 1 2 3)")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="(default: all)")
    for name, kind in (("epochs", int), ("batch", int), ("rate", float), ("divide", int)):
        add(f"--{name}", type=kind, help=f"default: {getattr(Settings, name)}; whole nets: "
            f"{getattr(WHOLE, name)}")  # fmt: skip
    args = parser.parse_args(arguments)
    work, settings = args.work.resolve(), settings_of(args)
    begin(work, settings)
    prepare(args.lfw, work, (settings.height, settings.width))
    runs = [Run(work, settings, method, seed) for seed in args.seeds for method in args.methods]
    for run in runs:
        run.train(args.gpu)
        report(work, settings, runs)
    draw(runs, work / "recipe.png")
    print(work / "recipe.png")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SphereFaceError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
