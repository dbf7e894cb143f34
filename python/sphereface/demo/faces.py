"""The commands that lead from photographs of people to a report on a net trained on them.

SphereFace-4 with batch normalisation, from scratch; the annealing of lambda follows the run's
length, the rate was chosen for such nets. People of the report are not trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sphereface.annealing import Annealing
from sphereface.demo.renewal import MARK, check_ours, remove_results
from sphereface.errors import SphereFaceError
from sphereface.evaluation import verification_pairs
from sphereface.faces.aligned_folder import missing_crops
from sphereface.faces.jobs import part_path
from sphereface.faces.records import iterate_records
from sphereface.files import atomic_path
from sphereface.images import list_images, read_image_list
from sphereface.proto import text
from sphereface.resources import prototxt_path
from sphereface.solver import newest_snapshot

__all__ = ["FacesRun", "Step"]

_NET, _HELD_OUT, _LEAST_IMAGES = "sphereface_4_bn", 0.25, 2
_FOLDS, _PER_FOLD = 10, 300
_EPOCHS, _LEAST_STEPS = 15, 120
_RATE = 0.05  # BatchNorm bears more than 0.1 x batch / 512


@dataclass(frozen=True)
class Step:
    """A command of ``sphereface`` and what it makes.

    Attributes
    ----------
    command : list of str
    output : path
        Whole or not there.
    always : bool
        Run it even so: the command finds out itself whether its output is whole.
    before : callable
        Called before the command; returns its words.
    """

    command: list[str]
    output: Path
    always: bool = False
    before: Callable[[], list[str]] | None = None

    def prepared(self) -> list[str]:
        """Return the command, after what it needs is written."""
        return self.before() if self.before else self.command


@dataclass(frozen=True)
class FacesRun:
    """A folder PERSON/PICTURE, the folder of results, and how long to train.

    Without `epochs` a small folder is gone through more often, until there are steps enough for
    lambda to fall. Where photographs came or went after a step, or crops went, it and those that
    follow are made anew with `renew`; without, that is an error.
    """

    folder: Path
    output: Path
    epochs: int | None
    batch: int
    renew: bool = False

    @property
    def report(self) -> Path:
        """The last result."""
        return self.output / "report.html"

    def steps(self, detector: str, workers: int) -> Iterator[Step]:
        """Yield the steps in order; each needs the outputs of those before.

        Raises
        ------
        SphereFaceError
            The faces, crops or lists are of other pictures than there are now; the folder of
            results has lists or nets of others; or the photographs and the crops lie in one
            another.
        """
        out, processes = self.output, ["--workers", str(workers)]
        faces, crops = out / "faces.jsonl", out / "crops"
        train, test = out / "train.txt", out / "test.txt"
        if self.folder.resolve().is_relative_to(crops.resolve()):
            raise SphereFaceError(
                "the photographs lie where the crops go", where=str(crops), fix="another --output"
            )
        if crops.resolve().is_relative_to(self.folder.resolve()):
            raise SphereFaceError(
                "the crops would be taken for photographs",
                where=str(crops),
                fix=f"an --output outside of {self.folder}",
            )
        out.mkdir(parents=True, exist_ok=True)
        begun = faces.exists() or part_path(faces).exists()
        check_ours(out, lists=not begun)
        self._check_photographs(faces)
        self._renew(missing_crops(crops), crops, crops=True)
        found = ["detect", str(self.folder), "--output", str(faces), "--detector", detector]
        yield Step([*found, *processes], faces, always=True)
        cut = ["align", str(faces), "--output", str(crops), "--format", "png"]
        yield Step([*cut, *processes], crops, always=True)
        listed = ["list", str(crops), "--output", str(train), "--validation", str(test)]
        more = ["--fraction", str(_HELD_OUT), "--min-images", str(_LEAST_IMAGES), "--overwrite"]
        self._check_lists(crops, train, test)
        yield Step([*listed, *more], test)
        model = self._snapshot(".caffemodel")
        yield Step(["train"], model, before=self._training)
        features = out / "features.npz"
        net = [f"{_NET}_deploy", str(model), str(test), "--root", str(crops)]
        taken = ["extract", *net, "--preset", "sphereface", "--output", str(features)]
        yield Step(taken, features, always=True)
        yield Step(["evaluate"], self.report, before=self._judging)

    def _check_photographs(self, faces: Path) -> None:
        """Take away all that was made of other photographs than there are now."""
        if faces.exists():
            seen = {record["file"] for record in iterate_records(faces)}
            there = {file.name for file in list_images([self.folder])}
            self._renew(seen ^ there, faces, crops=True, faces=True)

    def _check_lists(self, crops: Path, train: Path, test: Path) -> None:
        """Take away the lists and all that was made by them if they are not of these crops."""
        if train.exists() and test.exists():
            found = [file.name for file in list_images([crops])]
            images = Counter(name.partition("/")[0] for name in found)
            there = {name for name in found if images[name.partition("/")[0]] >= _LEAST_IMAGES}
            listed = {*read_image_list(train).names, *read_image_list(test).names}
            self._renew(listed ^ there, train)

    def _renew(
        self, changed: set[str], known: Path, *, crops: bool = False, faces: bool = False
    ) -> None:
        if not changed:
            return
        if not self.renew:
            raise SphereFaceError(
                f"{len(changed)} pictures came or went after this was made, {min(changed)} first",
                where=str(known),
                fix="--renew makes it and what follows anew; another --output keeps it",
            )
        remove_results(self.output, crops=crops, faces=faces)

    @property
    def _iterations(self) -> int:
        images = len(read_image_list(self.output / "train.txt").names)
        an_epoch = max(1, images // self.batch)
        if self.epochs is None:
            return max(_EPOCHS * an_epoch, _LEAST_STEPS)
        return self.epochs * an_epoch

    def _snapshot(self, suffix: str) -> Path:
        return self.output / f"net_iter_{self._iterations}{suffix}"

    def _training(self) -> list[str]:
        """Write net and solver; go on from the newest snapshot of this run."""
        net = text.read(prototxt_path(f"{_NET}_train"))
        data, head = (_layer(net, name) for name in ("data", "fc6"))
        listed = self.output / "train.txt"
        data.image_data_param.source = str(listed)
        data.image_data_param.root_folder = f"{self.output / 'crops'}/"
        data.image_data_param.batch_size = self.batch
        margin = head.margin_inner_product_param
        margin.num_output = int(read_image_list(listed).labels.max()) + 1
        annealing = Annealing.over(max(1, self._iterations // 10), margin.lambda_min, margin.base)
        margin.gamma = annealing.gamma
        solver = text.read(prototxt_path(f"{_NET}_solver"), "SolverParameter")
        solver.net, solver.snapshot_prefix = str(self.output / "net.prototxt"), self._prefix
        solver.base_lr, solver.max_iter, solver.random_seed = _RATE, self._iterations, 0
        solver.stepvalue[:] = [self._iterations * part // 20 for part in (12, 17)]
        solver.display, solver.snapshot = 10, max(1, self._iterations // 5)
        solver.solver_mode = solver.CPU
        for name, message in (("net", net), ("solver", solver)):
            with atomic_path(self.output / f"{name}.prototxt") as temporary:
                temporary.write_text(MARK + text.write(message), encoding="utf-8")
        command = ["train", "--solver", str(self.output / "solver.prototxt"), "--gpu", "none"]
        begun = newest_snapshot(self._prefix)
        resumed = ["--snapshot", str(begun)] if begun else []
        return [*command, "--log-dir", str(self.output), *resumed]

    @property
    def _prefix(self) -> str:
        return str(self.output / "net")

    def _judging(self) -> list[str]:
        """Draw pairs of the people that were held out."""
        listed, out = read_image_list(self.output / "test.txt"), self.output
        counts = np.bincount(listed.labels)
        genuine = int((counts * (counts - 1)).sum()) // 2
        impostors = len(listed) * (len(listed) - 1) // 2 - genuine
        per_fold = min(_PER_FOLD, genuine // _FOLDS, impostors // _FOLDS)
        if not per_fold:
            raise SphereFaceError(
                f"{genuine} pairs of one person and {impostors} of two to judge by",
                where=str(self.output / "test.txt"),
                expected=f"at least {_FOLDS} of each",
                fix="give more people, and several pictures of each",
            )
        pairs = verification_pairs(listed.labels, per_fold, _FOLDS)
        lines = [
            f"{listed.names[one]}\t{listed.names[two]}\t{int(same)}\n"
            for one, two, same in zip(pairs.left, pairs.right, pairs.same, strict=True)
        ]
        with atomic_path(out / "pairs.txt") as temporary:
            temporary.write_bytes("".join(lines).encode("utf-8", "surrogateescape"))
        inputs = ["--features", str(out / "features.npz"), "--pairs", str(out / "pairs.txt")]
        results = ["--html", str(self.report), "--json", str(out / "report.json")]
        return ["evaluate", *inputs, *results, "--images", str(out / "crops"), "--overwrite"]


def _layer(net: Any, name: str) -> Any:
    return next(layer for layer in net.layer if layer.name == name)
