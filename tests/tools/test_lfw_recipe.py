"""The recipe on people made up: squares of their own shades, some of whom train, others verify."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sphereface.errors import SphereFaceError

TOOLS = Path(__file__).parents[2] / "tools"
TRAINED, VERIFIED, EACH = 4, 6, 6
PERSON = [f"P{number:02d}" for number in range(TRAINED + VERIFIED + 1)]
RARE = PERSON[-1]


@pytest.fixture(scope="module")
def recipe():
    sys.path.insert(0, str(TOOLS))
    spec = importlib.util.spec_from_file_location("lfw_recipe", TOOLS / "lfw_recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(TOOLS))
    for name in [name for name in sys.modules if name.partition(".")[0] == "lfw"]:
        del sys.modules[name]


@pytest.fixture
def faces(tmp_path):
    """Return a folder as the recipe takes it: the first four train, the last has too few images."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "faces"
    for person in PERSON:
        shades = rng.integers(0, 255, (4, 4, 3))
        (folder / person).mkdir(parents=True)
        for number in range(1, 1 + (4 if person == RARE else EACH)):
            face = cv2.resize(shades.astype("u1"), (112, 112), interpolation=cv2.INTER_NEAREST)
            noisy = face + rng.normal(0, 12, face.shape)
            path = folder / person / f"{person}_{number:04d}.png"
            cv2.imwrite(str(path), np.clip(noisy, 0, 255).astype("u1"))
    # Fold 1 names people 4 to 9, fold 2 those that train.
    lines = ["2\t10"]
    for fold in (range(TRAINED, TRAINED + VERIFIED), range(TRAINED)):
        people = [PERSON[number] for number in fold]
        lines += [f"{people[k % len(people)]}\t{1 + k // 5}\t{4 + k // 5}" for k in range(10)]
        lines += [
            f"{people[k % len(people)]}\t{1 + k // 6}\t{people[(k + 1) % len(people)]}\t3"
            for k in range(10)
        ]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    return folder


def words(faces, work, *more):
    small = ["--epochs", "1", "--batch", "6", "--divide", "32"]
    return [str(faces), "--work", str(work), *small, *more]


def test_people_are_apart_and_every_method_is_judged(recipe, faces, tmp_path, capsys):
    work = tmp_path / "work"
    assert recipe.main(words(faces, work, "--seeds", "1")) == 0
    rows = (work / "train.txt").read_text().splitlines()
    assert {row.partition("/")[0] for row in rows} == set(PERSON[:TRAINED])
    assert len(rows) == TRAINED * EACH
    verified = {row.partition("/")[0] for row in (work / "verify.txt").read_text().splitlines()}
    assert verified == set(PERSON[TRAINED:-1])
    pairs = [row.split() for row in (work / "pairs_drawn.txt").read_text().splitlines()]
    # 6 people of 6 images make 90 pairs of one person: nine in each of ten folds.
    assert [sum(int(row[2]) == kind for row in pairs) for kind in (0, 1)] == [90, 90]
    for left, right, same in pairs:
        assert (left.partition("/")[0] == right.partition("/")[0]) == bool(int(same))
        assert {left.partition("/")[0], right.partition("/")[0]} <= verified
    assert len((work / "pairs_official.txt").read_text().splitlines()) == 20
    face = cv2.imread(str(work / "train" / "P00" / "P00_0001.png"))
    assert face.shape == (56, 48, 3)

    record = json.loads((work / "recipe.json").read_text())
    assert record["trained"] == {"people": TRAINED, "images": TRAINED * EACH}
    assert [run["method"] for run in record["runs"]] == list(recipe.METHODS)
    weights = {}
    for run in record["runs"]:
        folder = work / f"{run['method'].replace('=', '')}-seed1"
        with np.load(folder / "features.npz") as file:
            rows = dict(zip(file["path"].tolist(), file["features"].astype("f8"), strict=True))
        weights[run["method"]] = rows["P04/P04_0001.png"]
        # Scores without the folds' means; these move the area by little.
        scores = [
            rows[a] @ rows[b] / np.linalg.norm(rows[a]) / np.linalg.norm(rows[b])
            for a, b, _ in pairs
        ]
        plain = roc_auc_score([int(same) for *_, same in pairs], scores)
        assert run["drawn"]["auc"] == pytest.approx(plain, abs=0.15)
        assert run["curve"][-1][0] == 4
        assert run["curve"][-1][1] == pytest.approx(run["drawn"]["accuracy"], abs=1e-3)
    assert len({tuple(row) for row in weights.values()}) == len(weights)
    assert (work / "recipe.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("only 90 pairs of one person") == 1

    before = {path: path.stat().st_mtime_ns for path in work.rglob("*.caffemodel")}
    assert recipe.main(words(faces, work, "--seeds", "1")) == 0
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.caffemodel")} == before
    with pytest.raises(SphereFaceError, match="other settings"):
        recipe.main(words(faces, work, "--rate", "0.01"))


def test_a_stopped_run_goes_on(recipe, faces, tmp_path):
    ends = []
    for name, stopped in (("whole", False), ("stopped", True)):
        work = tmp_path / name
        more = ["--seeds", "7", "--methods", "m=4"]
        if stopped:
            recipe.main(words(faces, work, *more))
            folder = work / "m4-seed7"
            assert (folder / "net_iter_3.solverstate").exists()
            for path in [*folder.glob("net_iter_4.*"), folder / "result.json"]:
                path.unlink()
            (folder / "features.npz").unlink()
        recipe.main(words(faces, work, *more))
        ends.append(json.loads((work / "m4-seed7" / "result.json").read_text()))
    whole, resumed = ends
    assert whole["cpu_seconds"] is not None
    assert resumed["cpu_seconds"] is None
    for key in ("drawn", "official", "curve"):
        assert whole[key] == resumed[key]


def test_spread(recipe):
    # 0.8, 0.81, 0.85: mean 0.82, squares of deviations 0.0004 + 0.0001 + 0.0009 over 2.
    assert sys.modules["lfw.results"].spread([0.8, 0.81, 0.85]) == "82.00 +- 2.65"


def test_settings_of_a_whole_net(recipe):
    settings = recipe.settings_of(
        recipe.argparse.Namespace(
            net="sphereface_20", epochs=None, batch=None, rate=0.1, divide=None
        )
    )
    assert (settings.height, settings.width, settings.divide) == (112, 96, 1)
    assert (settings.rate, settings.batch) == (0.1, 256)
