from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sphereface.cli.main import main
from sphereface.evaluation.pair_features import read_pair_features, write_pairs_mat

GOLDEN = Path(__file__).parents[1] / "golden" / "lfw_protocol"
FEATURES = GOLDEN / "features.npz"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


def evaluate(*arguments: str | Path) -> int:
    return main(["evaluate", *map(str, arguments)])


def assert_golden(found: dict) -> None:
    assert found["accuracy"] == EXPECTED["accuracy"]
    np.testing.assert_allclose(found["threshold"], EXPECTED["threshold"], rtol=0, atol=1e-12)
    assert found["mean_accuracy"] == pytest.approx(EXPECTED["mean_accuracy"], abs=1e-15)


def test_pairs_npz(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.json"
    assert evaluate("--features", FEATURES, "--json", output) == 0
    found = json.loads(output.read_text())
    assert_golden(found)
    assert found["schema_version"] == 1
    assert found["inputs"] == {str(FEATURES): hashlib.sha256(FEATURES.read_bytes()).hexdigest()}
    assert found["options"]["far_rule"] == "strict"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["fold", "ACC"]
    assert set(lines[1]) == set(lines[12]) == {"-"}
    for line, number, accuracy in zip(lines[2:12], range(1, 11), EXPECTED["accuracy"], strict=True):
        assert line.split() == [str(number), f"{100 * accuracy:.2f}%"]
    assert lines[13].split() == ["AVE", f"{100 * EXPECTED['mean_accuracy']:.2f}%"]


def test_pairs_mat(tmp_path: Path) -> None:
    write_pairs_mat(tmp_path / "pairs.mat", read_pair_features(FEATURES))
    assert evaluate("--features", tmp_path / "pairs.mat", "--json", tmp_path / "out.json") == 0
    assert_golden(json.loads((tmp_path / "out.json").read_text()))


def features_and_list(folder: Path) -> tuple[Path, Path]:
    """The recording's pairs as features of single images and a list that names them."""
    data = np.load(FEATURES)
    count = len(data["flag"])
    lines, names = [], []
    for index, (flag, side) in enumerate(zip(data["flag"], range(count), strict=True)):
        left = f"P{index:04d}/P{index:04d}_0001"
        right = left[:-1] + "2" if flag == 1 else f"Q{side:04d}/Q{side:04d}_0002"
        names += [left, right]
        lines.append(f"{left},{right},{flag},{data['fold'][index]}\n")
    features, pairs = folder / "features.npz", folder / "pairs.csv"
    interleaved = np.stack([data["left"], data["right"]], axis=1).reshape(2 * count, -1)
    np.savez(features, path=[f"root/{name}.png" for name in names], features=interleaved)
    pairs.write_text("left,right,flag,fold\n" + "".join(lines))
    return features, pairs


def test_features_and_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features, pairs = features_and_list(tmp_path)
    output = tmp_path / "out.json"
    arguments = ("--features", features, "--pairs", pairs, "--json", output)
    assert evaluate(*arguments) == 0
    found = json.loads(output.read_text())
    assert found["accuracy"] == EXPECTED["accuracy"]
    assert set(found["inputs"]) == {str(features), str(pairs)}
    assert all("identity_low" in point for point in found["tar_at_far"] if point["measurable"])
    assert "over identities" in capsys.readouterr().out
    assert evaluate(*arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert evaluate(*arguments, "--overwrite") == 0
    assert evaluate(*arguments[:4], "--json", features, "--overwrite") == 2
    assert "the output is an input" in capsys.readouterr().err


def test_missing_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features, pairs = features_and_list(tmp_path)
    data = dict(np.load(features))
    np.savez(features, path=data["path"][1:], features=data["features"][1:])
    np.savez(tmp_path / "crops.npz", path=data["path"][:1], features=data["features"][:1])
    given = ("--features", features, "--pairs", pairs)
    assert evaluate(*given) == 2
    error = capsys.readouterr().err
    assert "1 images of the list have no features, the first P0000/P0000_0001" in error
    assert evaluate(*given, "--missing", "wrong") == 0
    assert "1 pairs count as wrong: 1 images have no features" in capsys.readouterr().out
    assert evaluate(*given, "--centre-crop", tmp_path / "crops.npz") == 0
    assert "count as wrong" not in capsys.readouterr().out


def test_unmeasurable_rates_and_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--features", FEATURES, "--json", tmp_path / "o.json")
    assert evaluate(*arguments, "--far", "0.1", "1e-6", "--far-rule", "blufr") == 0
    assert "1e-06   not measurable" in capsys.readouterr().out
    points = json.loads((tmp_path / "o.json").read_text())["tar_at_far"]
    assert [(p["rule"], p["measurable"]) for p in points] == [("blufr", True), ("blufr", False)]
    assert points[1]["tar"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--features", "none.npz"], "none.npz: no such"),
        (["--features", FEATURES, "--protocol", "lfw"], 'protocol "lfw"; expected sphereface, '),
        (["--features", FEATURES, "--far-rule", "x"], 'FAR: rule "x"; expected strict, nearest'),
        (["--features", FEATURES, "--pca", "3", "--protocol", "best"], "a PCA with protocol best"),
    ],
)
def test_bad_input(arguments: list, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(*arguments) == 2
    assert message in capsys.readouterr().err


def people(folder: Path, count: int = 60, name: str = "people.npz", noise: float = 0.5) -> Path:
    rng = np.random.default_rng(0)
    person = np.arange(count) % 12
    values = rng.normal(size=(12, 8))[person] + noise * rng.normal(size=(count, 8))
    paths = [f"P{p:02d}/P{p:02d}_{i:04d}.png" for i, p in enumerate(person)]
    np.savez(folder / name, path=paths, features=values.astype(np.float32))
    return folder / name


def test_other_protocols(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = people(tmp_path)
    rng = np.random.default_rng(1)
    strangers = tmp_path / "strangers.npz"
    np.savez(strangers, path=[f"x{i}" for i in range(30)], features=rng.normal(size=(30, 8)))
    gallery, probes = tmp_path / "gallery.txt", tmp_path / "probes.txt"
    paths = np.load(features)["path"]
    gallery.write_text("".join(f"{p} {p[:3]}\n" for p in paths[:24] if p[:3] < "P08"))
    probes.write_text("".join(f"{p} {p[:3]}\n" for p in paths[24:]))
    output, report, plots = tmp_path / "o.json", tmp_path / "o.html", tmp_path / "plots"
    arguments = ("--features", features, "--all-pairs", "--fisher", "--distractors", strangers)
    arguments += ("--gallery", gallery, "--probes", probes, "--gallery-items", "centroid")
    arguments += ("--json", output, "--html", report, "--plots", plots)
    assert evaluate(*arguments) == 0
    found = json.loads(output.read_text())
    assert found["all_pairs"]["genuine"] == 12 * 10
    assert found["all_pairs"]["impostors"] == 60 * 59 // 2 - 120
    assert found["angular_fisher_score"]["raw"] > 0
    assert found["megaface"]["distractors"] == [10, 30]
    assert found["identification"]["items"] == "centroid"
    assert found["identification"]["galleries"][0]["mated_probes"] == 24
    assert "accuracy" not in found
    assert sorted(p.name for p in plots.iterdir()) == [
        "all_pairs_roc.png", "all_pairs_scores.png", "gallery_cmc.png", "megaface_cmc.png",
    ]  # fmt: skip
    assert report.read_text().count("data:image/png;base64,") == 4
    assert "Identification" in capsys.readouterr().out
    assert evaluate(*arguments) == 2


def test_two_models_and_their_pictures(tmp_path: Path) -> None:
    features, pairs = features_and_list(tmp_path)
    data = dict(np.load(features))
    second = tmp_path / "second.npz"
    rng = np.random.default_rng(0)
    shaken = data["features"] + rng.normal(0, 2 * data["features"].std(), data["features"].shape)
    np.savez(second, path=data["path"], features=shaken)
    pictures = tmp_path / "root"
    for name in data["path"][:200]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    arguments = ("--features", features, "--pairs", pairs, "--against", second)
    arguments += ("--json", tmp_path / "o.json", "--plots", tmp_path / "plots")
    assert evaluate(*arguments, "--images", pictures) == 0
    found = json.loads((tmp_path / "o.json").read_text())
    assert found["comparison"]["accuracy"] > 0
    assert found["comparison"]["p_value"] < 0.01
    names = sorted(p.name for p in (tmp_path / "plots").iterdir())
    assert names == ["hardest_pairs.png", "roc.png", "scores.png"]


def test_ensembles_of_images_and_of_pairs(tmp_path: Path) -> None:
    features, pairs = features_and_list(tmp_path)
    data = dict(np.load(features))
    np.savez(tmp_path / "b.npz", path=data["path"][::-1], features=data["features"][::-1])
    both = ("--features", features, tmp_path / "b.npz", "--pairs", pairs)
    assert evaluate(*both, "--json", tmp_path / "both.json") == 0
    assert evaluate("--features", FEATURES, FEATURES, "--json", tmp_path / "pairs.json") == 0
    first, second = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("both", "pairs"))
    assert first["accuracy"] != EXPECTED["accuracy"]  # unit features, for each has one say
    assert second["mean_accuracy"] == pytest.approx(EXPECTED["mean_accuracy"], abs=0.02)
    few = ("--features", FEATURES, "--pca", "3", "--json", tmp_path / "pca.json")
    assert evaluate(*few) == 0
    assert json.loads((tmp_path / "pca.json").read_text())["mean_accuracy"] > 0.5


def test_templates_of_ijb(tmp_path: Path) -> None:
    features = people(tmp_path)
    paths = np.load(features)["path"].tolist()
    templates, pairs = tmp_path / "name_tid_mid.txt", tmp_path / "tid_tid_label.txt"
    templates.write_text(
        "".join(f"{p} {i // 24 * 100 + i % 12} {i}\n" for i, p in enumerate(paths))
    )
    tids = sorted({i // 24 * 100 + i % 12 for i in range(60)})
    lines = [f"{a} {b} {int(a % 100 == b % 100)}\n" for a in tids for b in tids if a < b]
    pairs.write_text("".join(lines))
    output = tmp_path / "o.json"
    given = ("--features", features, "--templates", templates, "--pairs", pairs)
    assert evaluate(*given, "--json", output, "--far", "0.1") == 0
    found = json.loads(output.read_text())["listed_pairs"]
    assert found["pairs"] == len(lines)
    assert found["tar_at_far"][0]["genuine"] == 3 * 12


def test_pairs_mat_is_written(tmp_path: Path) -> None:
    features, pairs = features_and_list(tmp_path)
    output = tmp_path / "pairs.mat"
    assert evaluate("--features", features, "--pairs", pairs, "--pairs-mat", output) == 0
    found = read_pair_features(output)
    assert found.left_name[0] == "P0000/P0000_0001"
    np.testing.assert_array_equal(found.left, np.load(FEATURES)["left"].astype(np.float32))
