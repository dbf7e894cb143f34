from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

from sphereface.cli.main import main
from sphereface.demo import renewal
from sphereface.demo.faces import FacesRun
from sphereface.demo.renewal import MARK
from sphereface.errors import SphereFaceError

FACES = {"faces.jsonl", "faces.jsonl.meta.json", "faces.failures.csv"}
LISTS = {"train.txt", "test.txt"}
NETS = {f"net_iter_20.{kind}" for kind in ("caffemodel", "solverstate", "solverstate.npz")}
RESULTS = {"pairs.txt", "features.npz", "features.npz.meta.json", "report.html", "report.json"}
PROTOTXTS = {"net.prototxt", "solver.prototxt"}
OF_USER = {
    "faces.jsonl.bak", "net_iter_best.caffemodel", "net_iter_20.caffemodel.bak",
    "features.npz.old", "notes.txt",
}  # fmt: skip


@pytest.fixture
def people(tmp_path):
    rng = np.random.default_rng(3)
    for person in range(4):
        folder = tmp_path / "people" / f"Ann {person}"
        folder.mkdir(parents=True)
        for number in range(3):
            picture = rng.integers(0, 255, (112, 96, 3), np.uint8)
            cv2.imwrite(str(folder / f"{number}.png"), picture)
    return tmp_path / "people"


@pytest.fixture
def out(people, tmp_path):
    """Faces, crops and lists as the steps make them, stand-ins of the rest, the user's files."""
    folder = tmp_path / "out"
    for step, _ in zip(FacesRun(people, folder, None, 32).steps("none", 1), range(3), strict=False):
        assert main(step.command) == 0
    for name in NETS | RESULTS | OF_USER:
        (folder / name).write_text(name)
    for name in PROTOTXTS:
        (folder / name).write_text(f"{MARK}name: 'net'\n")
    return folder


def start(people, out, renew=True):
    """Run what comes before the first step."""
    return next(FacesRun(people, out, None, 32, renew).steps("none", 1))


def content(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_what_steps_wrote_goes_and_what_the_user_wrote_stays(people, out):
    assert {path.name for path in out.iterdir()} == {
        "crops", *FACES, *LISTS, *NETS, *RESULTS, *PROTOTXTS, *OF_USER,
    }  # fmt: skip
    (people / "Ann 0" / "0.png").unlink()
    start(people, out)
    assert {path.name for path in out.iterdir()} == PROTOTXTS | OF_USER


def test_without_a_change_nothing_goes(people, out):
    before = content(out)
    start(people, out)
    assert content(out) == before


@pytest.mark.parametrize(
    ("named", "changed"),
    [
        ("nothing tells that demo-faces made this", "no prototxt"),
        ("net.prototxt: nothing tells that demo-faces made this", "the user's net"),
        ("solver.prototxt: nothing tells that demo-faces made this", "the user's solver"),
        ("crops: not made by demo-faces: no aligned.jsonl is in it", "the user's crops"),
        ("crops: not made by demo-faces: no aligned.jsonl is in it", "a file"),
        ("crops: a link, behind which nothing is removed", "a link"),
    ],
)
def test_nothing_goes_where_something_is_not_known_to_be_of_steps(people, out, named, changed):
    if changed == "no prototxt":
        for name in PROTOTXTS:
            (out / name).unlink()
    elif changed == "the user's net":
        (out / "net.prototxt").write_text("name: 'mine'\n")
    elif changed == "the user's solver":
        (out / "solver.prototxt").write_text("net: 'mine.prototxt'\n")
    elif changed == "the user's crops":
        (out / "crops" / "aligned.jsonl").unlink()
    elif changed == "a file":
        shutil.rmtree(out / "crops")
        (out / "crops").touch()
    else:
        (out / "crops").rename(out / "elsewhere")
        (out / "crops").symlink_to("elsewhere")
    (people / "Ann 0" / "0.png").unlink()
    before = content(out)
    with pytest.raises(SphereFaceError, match=named):
        start(people, out)
    assert content(out) == before


@pytest.mark.parametrize("name", ["train.txt", "net_iter_20.solverstate", "net.prototxt"])
def test_a_new_run_does_not_go_on_from_what_others_made(people, tmp_path, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    with pytest.raises(SphereFaceError, match=f"{name}: nothing tells .* another --output"):
        start(people, tmp_path / "mine")
    assert content(tmp_path / "mine") == {name: b"mine"}


def test_a_stopped_removal_is_repeated(people, out, monkeypatch):
    (people / "Ann 0" / "0.png").unlink()

    def stop(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(renewal.shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            start(people, out)
    assert {"crops", *FACES} <= {path.name for path in out.iterdir()}
    start(people, out)
    assert {path.name for path in out.iterdir()} == PROTOTXTS | OF_USER


def test_a_torn_line_is_named(people, out):
    faces = out / "faces.jsonl"
    lines = faces.read_bytes().splitlines(keepends=True)
    faces.write_bytes(b"".join(lines[:4]) + lines[4][:30])
    with pytest.raises(SphereFaceError, match=r"faces\.jsonl:5: no line of a file of faces"):
        start(people, out)


def test_a_crop_that_went_is_made_anew(people, out):
    crop = out / "crops" / "Ann 1" / "2.png"
    made = crop.read_bytes()
    crop.unlink()
    before = content(out)
    told = "crops: 1 pictures came or went after this was made, Ann 1/2.png first; --renew makes it"
    with pytest.raises(SphereFaceError, match=told):
        start(people, out, renew=False)
    assert content(out) == before
    steps = FacesRun(people, out, None, 32, True).steps("none", 1)
    for step, _ in zip(steps, range(2), strict=False):
        assert main(step.command) == 0
    assert crop.read_bytes() == made
    assert {path.name for path in out.iterdir()} == {"crops", *FACES, *PROTOTXTS, *OF_USER}
