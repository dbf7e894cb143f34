from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from reference.tiny_training import write_training
from sphereface.errors import SphereFaceError
from sphereface.solver.read_log import read_log
from sphereface.solver.training import (
    DataOptions,
    LogOptions,
    TrainOptions,
    VerifyOptions,
    train,
)
from sphereface.solver.verification import Verification
from sphereface.weights import load_weights

PEOPLE, EACH = 9, 8  # more images than a batch holds, and no multiple of it


@pytest.fixture
def people(tmp_path):
    """Return a folder of people: checks of their own frequencies, 8 x 8, grey."""
    rng = np.random.default_rng(7)
    folder = tmp_path / "people"
    for number in range(PEOPLE):
        (folder / f"p{number}").mkdir(parents=True)
        rows, columns = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
        wave = np.sin(rows * (0.4 + 0.3 * number)) * np.cos(columns * (2.8 - 0.3 * number))
        for image in range(EACH):
            picture = 127 + 90 * wave + rng.normal(0, 25, (8, 8))
            path = folder / f"p{number}" / f"p{number}_{image + 1:04d}.png"
            cv2.imwrite(str(path), np.clip(picture, 0, 255).astype("u1"))
    return folder


@pytest.fixture
def pairs(tmp_path):
    """Return a list of pairs in ten folds, LFW's form, of every image."""
    lines = ["10\t3"]
    for fold in range(10):
        one, two = fold % PEOPLE, (fold + 1) % PEOPLE
        lines += [f"p{one}\t{k}\t{k % EACH + 1}" for k in (1 + fold % 2, 4, 7)]
        lines += [f"p{one}\t{k}\tp{two}\t{k + 1}" for k in (2, 5, 7)]
    path = tmp_path / "pairs.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def embed(weights, path):
    """Return the embedding of the tiny net, from its caffemodel, by torch's own functions."""
    blobs = {
        name: [torch.tensor(np.asarray(blob)) for blob in blobs] for name, blobs in weights.items()
    }
    x = torch.tensor((cv2.imread(str(path), 0).astype("f4") - 127.5) * 0.0078125)[None, None]
    x = F.conv2d(x, *blobs["conv"], stride=2, padding=1)
    x = F.prelu(x, blobs["relu"][0].flatten()).flatten(1)
    return F.linear(x, *blobs["fc5"])[0].double().numpy()


def fold_accuracy(left, right, same, fold):
    """evaluation.m, threshold by threshold."""
    found, scores = [], np.zeros(len(same))
    for number in np.unique(fold):
        others = fold != number
        mean = np.concatenate([left[others], right[others]]).mean(axis=0)
        one, two = left - mean, right - mean
        score = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
        grid = np.arange(-10000, 10001)[:, None] / 10000
        right_ones = (np.where(same, score > grid, score < grid) & others).sum(axis=1)
        best = grid[right_ones == right_ones.max()].mean()
        own = fold == number
        found.append(np.where(same, score > best, score < best)[own].mean())
        scores[own] = score[own]
    return np.mean(found), roc_auc_score(same, scores)


def read_lfw(path, folder):
    sides, same = ([], []), []
    for line in path.read_text().splitlines()[1:]:
        fields = line.split("\t")
        two = len(fields) == 4
        names = (fields[0], fields[2] if two else fields[0])
        for side, name, number in zip(
            sides, names, (fields[1], fields[3 if two else 2]), strict=True
        ):
            side.append(folder / name / f"{name}_{int(number):04d}.png")
        same.append(not two)
    return *sides, np.array(same), np.repeat(np.arange(10), 6)


def test_figures_are_those_of_the_snapshots(tmp_path, people, pairs):
    solver = write_training(tmp_path, "max_iter: 20 display: 10 snapshot: 10")
    logs = LogOptions(str(tmp_path), str(tmp_path / "run.csv"))
    train(
        TrainOptions(
            str(solver), gpu="none", logs=logs, verify=VerifyOptions(str(pairs), str(people))
        )
    )
    told = read_log(tmp_path / "solver.log").tests[0]
    assert [iteration for iteration, _ in told["verification_auc"]] == [0, 10, 20]
    left, right, same, fold = read_lfw(pairs, people)
    for index, iteration in ((1, 10), (2, 20)):
        weights = load_weights(tmp_path / f"tiny_iter_{iteration}.caffemodel")
        sides = [np.stack([embed(weights, path) for path in side]) for side in (left, right)]
        accuracy, auc = fold_accuracy(*sides, same, fold)
        assert 0.5 < accuracy < 1
        assert told["verification_accuracy"][index][1] == pytest.approx(accuracy, abs=1e-6)
        assert told["verification_auc"][index][1] == pytest.approx(auc, abs=1e-6)
    with (tmp_path / "run.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["net"] == "test0"]
    assert [float(row["verification_auc"]) for row in rows] == pytest.approx(
        [value for _, value in told["verification_auc"]], abs=1e-5
    )


def test_the_training_is_not_changed(tmp_path, people):
    ends = []
    for verify in (VerifyOptions(str(people), interval=4), None):
        solver = write_training(tmp_path, "max_iter: 10 test_iter: 5 test_interval: 5")
        logs = LogOptions(str(tmp_path) if verify else "")
        train(TrainOptions(str(solver), gpu="none", verify=verify, logs=logs))
        ends.append(load_weights(tmp_path / "tiny_iter_10.caffemodel"))
    for name, blobs in ends[0].items():
        for one, two in zip(blobs, ends[1][name], strict=True):
            np.testing.assert_array_equal(one, two)
    tests = read_log(tmp_path / "solver.log").tests
    assert [i for i, _ in tests[0]["accuracy"]] == [0, 5, 10]
    assert [i for i, _ in tests[1]["verification_accuracy"]] == [0, 4, 8, 10]


def test_pairs_of_a_folder(people):
    verification = Verification(VerifyOptions(str(people)), DataOptions())
    drawn = verification.pairs
    # 9 people of 8 images: 252 pairs of one.
    assert drawn.same.sum() == (~drawn.same).sum() == 250
    assert np.bincount(drawn.fold).tolist() == [0, *[50] * 10]
    named = [one.rpartition("/")[0] == two.rpartition("/")[0]
             for one, two in zip(drawn.left, drawn.right, strict=True)]  # fmt: skip
    assert named == drawn.same.tolist()


def test_people_of_the_training_are_told(tmp_path, people):
    solver = write_training(tmp_path, "max_iter: 1")
    (tmp_path / "list.txt").write_text(
        "".join(f"people/p{n}/p{n}_0001.png {n}\n" for n in range(4))
    )
    logs = LogOptions(str(tmp_path))
    train(TrainOptions(str(solver), gpu="none", logs=logs, verify=VerifyOptions(str(people))))
    assert "Warning: 4 people of " in (tmp_path / "solver.log").read_text()


def refused(solver, **options):
    with pytest.raises(SphereFaceError) as caught:
        train(TrainOptions(str(solver), gpu="none", verify=VerifyOptions(**options)))
    return str(caught.value)


def test_what_cannot_be_verified(tmp_path, people, pairs):
    solver = write_training(tmp_path, "max_iter: 1")
    assert '"p0/p0_0001"' in refused(
        solver, people=str(pairs), root=str(tmp_path / "people" / "p1")
    )
    assert "make 28 pairs of one person and 0 of two" in refused(solver, people=str(people / "p1"))
    assert 'did you mean "fc5"' in refused(solver, people=str(people), blob="fc55")
    assert "--verify-interval" in refused(solver, people=str(people), interval=-1)
    net = tmp_path / "net.prototxt"
    text = net.read_text()
    head = text[text.index('layer { name: "fc6"') : text.index('layer { name: "loss"')]
    net.write_text(
        text.replace(
            head,
            'layer { name: "fc6" type: "InnerProduct" bottom: "fc5" top: "fc6"'
            ' inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }\n',
        )
    )
    assert "--verify-blob" in refused(solver, people=str(people))
    train(TrainOptions(str(solver), gpu="none", verify=VerifyOptions(str(people), blob="fc5")))
