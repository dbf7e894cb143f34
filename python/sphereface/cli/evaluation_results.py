"""One function a protocol of ``sphereface evaluate``: options in, a titled result and plots out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphereface.cli.evaluation_inputs import image_features, pair_features
from sphereface.errors import SphereFaceError
from sphereface.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sphereface.evaluation.all_pairs import Scorer
    from sphereface.evaluation.tables import Result
    from sphereface.evaluation.verification import Verification

__all__ = ["Judged", "judged"]


@dataclass(frozen=True)
class Judged:
    """A result, where it stands in the JSON (empty: at the top), and its plots by file name."""

    key: str
    title: str
    result: Result
    plots: Callable[[], dict[str, Figure]] = dict


def judged(args: argparse.Namespace) -> Iterator[Judged]:
    """Yield the result of each protocol that was asked for."""
    others = (args.all_pairs, args.fisher, args.blufr, args.distractors, args.gallery)
    if args.protocol == "none" or (args.pairs and args.templates):
        yield _listed(args)
    elif args.pairs or not any(others):
        yield from _verification(args)
    if not any(others):
        return
    features = image_features(args, args.features)
    if args.all_pairs:
        yield _all_pairs(args, features)
    if args.fisher:
        from sphereface.evaluation.fisher import fisher_scores

        yield Judged(
            "angular_fisher_score",
            "Fisher score",
            fisher_scores(features.features, features.persons),
        )
    if args.blufr:
        yield _blufr(args, features)
    if args.distractors:
        yield _megaface(args, features)
    if args.gallery:
        yield _gallery(args, features)


def _verification(args: argparse.Namespace) -> Iterator[Judged]:
    from sphereface.evaluation.comparison import compare
    from sphereface.evaluation.pair_features import write_pairs_mat
    from sphereface.evaluation.verification import verify

    pairs = pair_features(args, args.features)
    if args.pairs_mat:
        write_pairs_mat(args.pairs_mat, pairs)
    options = (args.protocol, args.far, args.far_rule, args.pca)
    result = verify(pairs, *options)
    second = verify(pair_features(args, [args.against]), *options) if args.against else None
    yield Judged("", "Verification", result, lambda: _verification_plots(args, result, second))
    if second:
        comparison = compare(result.folds, second.folds, pairs.same)
        yield Judged("comparison", f"Against {args.against}", comparison)


def _verification_plots(
    args: argparse.Namespace, result: Verification, second: Verification | None
) -> dict[str, Figure]:
    from sphereface.evaluation.curves import roc_figure, score_figure
    from sphereface.evaluation.hardest_pairs import hardest_pairs, hardest_pairs_figure

    lines = {"first" if second else "ROC": (result.curve, result.points[0].impostors)}
    if second:
        lines["second"] = (second.curve, second.points[0].impostors)
    pairs, scores = result.pairs, result.folds.scores
    known = scores == scores
    threshold = float(result.folds.threshold.mean())
    plots = {
        "roc.png": roc_figure(lines),
        "scores.png": score_figure(
            scores[known & pairs.same], scores[known & ~pairs.same], threshold
        ),
    }
    if args.images:
        hardest = hardest_pairs(result.folds, pairs.same)
        read = _picture_reader(args.images)
        names = (list(pairs.left_name), list(pairs.right_name))
        if not names[0]:
            raise SphereFaceError("the pairs have no names", where="--images", expected="--pairs")
        plots["hardest_pairs.png"] = hardest_pairs_figure(hardest, result.folds, *names, read)
    return plots


def _picture_reader(root: str) -> Callable[[str], Any]:
    """Return a reader of pictures below `root` by folder and name, whatever their suffix."""
    from sphereface.evaluation.features import image_key
    from sphereface.images import IMAGE_SUFFIXES, read_image

    paths = {
        image_key(path.as_posix()): path
        for path in sorted(Path(root).rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
    }

    def read(name: str) -> Any:
        path = paths.get(image_key(name))
        if path is None:
            raise SphereFaceError(f"no picture of {name}", where=root)
        return read_image(path, color="rgb")

    return read


def _listed(args: argparse.Namespace) -> Judged:
    from sphereface.evaluation.curves import roc_figure, score_figure
    from sphereface.evaluation.listed_scores import score_list
    from sphereface.evaluation.pair_lists import read_pairs

    if not args.pairs:
        raise SphereFaceError("no list of pairs", where="--protocol none", expected="--pairs")
    features = image_features(args, args.features)
    result = score_list(features, read_pairs(args.pairs), args.far, args.far_rule)
    same, scores = result.same, result.scores
    return Judged(
        "listed_pairs",
        "Listed pairs",
        result,
        lambda: {
            "roc.png": roc_figure({"ROC": (result.curve, result.points[0].impostors)}),
            "scores.png": score_figure(scores[same], scores[~same], result.eer.threshold),
        },
    )


def _scorer(device: str) -> Scorer | None:
    """Return what multiplies features on a device; None for numpy, which needs no torch."""
    if device == "cpu":
        return None
    from sphereface.inference import DeviceScorer

    return DeviceScorer(device)


def _all_pairs(args: argparse.Namespace, features: Any) -> Judged:
    from sphereface.evaluation.all_pairs import all_pairs
    from sphereface.evaluation.curves import histogram_figure, roc_figure

    count = len(features.path)
    with Progress(count * (count - 1), "all pairs") as progress:
        result = all_pairs(
            features.features,
            features.persons,
            args.far,
            args.far_rule,
            _scorer(args.device),
            advance=progress.update,
        )
    return Judged(
        "all_pairs",
        "All pairs",
        result,
        lambda: {
            "all_pairs_roc.png": roc_figure({"ROC": (result.curve, result.impostors.count)}),
            "all_pairs_scores.png": histogram_figure(*result.histogram(), result.eer.threshold),
        },
    )


def _blufr(args: argparse.Namespace, features: Any) -> Judged:
    from sphereface.evaluation.blufr import blufr, read_blufr_config

    config = read_blufr_config(args.blufr)
    values = features.features
    if config.images:
        rows = features.rows(config.images)
        if (rows < 0).any():
            missing = config.images[int((rows < 0).argmax())]
            raise SphereFaceError(f"no features of {missing}", where=features.where)
        values = values[rows]
    with Progress(len(config.test), "trials") as progress:
        result = blufr(
            values, config, args.pca, scorer=_scorer(args.device), advance=progress.update
        )
        return Judged("blufr", "BLUFR", result)


def _megaface(args: argparse.Namespace, features: Any) -> Judged:
    from sphereface.evaluation.curves import cmc_figure
    from sphereface.evaluation.features import read_features
    from sphereface.evaluation.megaface import megaface

    strangers = read_features(args.distractors).features
    with Progress(3 * len(features.path) * len(strangers), "distractors") as progress:
        result = megaface(
            features.features,
            features.persons,
            strangers,
            targets=args.far,
            rule=args.far_rule,
            scorer=_scorer(args.device),
            advance=progress.update,
        )
    return Judged(
        "megaface",
        "Among distractors",
        result,
        lambda: {
            "megaface_cmc.png": cmc_figure(
                {f"{size:,}": own for size, own in zip(result.sizes, result.cmc(100), strict=True)}
            )
        },
    )


def _gallery(args: argparse.Namespace, features: Any) -> Judged:
    from sphereface.evaluation.curves import cmc_figure
    from sphereface.evaluation.gallery_search import search_galleries
    from sphereface.evaluation.identification import cmc
    from sphereface.evaluation.templates import read_identities

    galleries = [read_identities(name) for name in args.gallery]
    result = search_galleries(features, galleries, read_identities(args.probes), args.gallery_items)
    curves = [cmc(found, 100) for found in result.searches]
    return Judged(
        "identification",
        "Identification",
        result,
        lambda: {"gallery_cmc.png": cmc_figure(dict(zip(args.gallery, curves, strict=True)))},
    )
