"""Every command that writes keeps to one rule: what is there stays, and so do the inputs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pytest

from sphereface.caffe import load
from sphereface.cli.main import main
from sphereface.cli.output_options import add_output_options, output_path, required_output
from sphereface.errors import SphereFaceError

NET = """
input: "data" input_shape { dim: 1 dim: 2 }
layer { name: "relu" type: "ReLU" bottom: "data" top: "y" }
"""
OLD = """
layers { name: "relu" type: RELU bottom: "data" top: "y" }
input: "data" input_shape { dim: 1 }
"""
LOG = "I0713 10:00:03.000002  4242 solver.cpp:237] Iteration 0, loss = 5\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    Path("old.prototxt").write_text(OLD)
    Path("train.log").write_text(LOG)
    load("net.prototxt").save("net.caffemodel")
    np.save("x.npy", np.ones((1, 2), np.float32))
    return tmp_path


COMMANDS = {
    "run": (["run", "net.prototxt", "net.caffemodel", "x.npy"], "out.npz", "x.npy"),
    "convert": (["convert", "net.prototxt", "net.caffemodel"], "out.pt", "net.caffemodel"),
    "draw": (["draw", "net.prototxt"], "out.dot", "net.prototxt"),
    "port": (["port", "net.prototxt"], "out.py", "net.prototxt"),
    "upgrade": (["upgrade", "old.prototxt"], "out.prototxt", "old.prototxt"),
    "plot-log": (["plot-log", "train.log"], "out.svg", "train.log"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_there_stays(name, folder, capsys):
    arguments, output, read = COMMANDS[name]
    Path(output).write_text("mine")
    assert main([*arguments, "--output", output]) == 2
    assert f"{output}: exists already; give another name, or --overwrite" in capsys.readouterr().err
    assert Path(output).read_text() == "mine"
    before = Path(read).read_bytes()
    assert main([*arguments, "--output", read, "--overwrite"]) == 2
    assert f"{read}: the output is an input" in capsys.readouterr().err
    assert Path(read).read_bytes() == before
    link = Path("link").with_suffix(Path(output).suffix)
    link.symlink_to(output)
    assert main([*arguments, "--output", os.fspath(link), "--overwrite"]) == 0
    assert Path(output).read_bytes() != b"mine"
    assert link.is_symlink()


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["draw", "net.prototxt", "a.dot"], "a.dot"),
        (["port", "net.prototxt", "--out", "a.py"], "a.py"),
        (["plot-log", "train.log", "--out", "a.svg"], "a.svg"),
        (["upgrade", "old.prototxt", "a.prototxt"], "a.prototxt"),
        (["convert", "net.prototxt", "net.caffemodel", "a.pt"], "a.pt"),
    ],
)
def test_the_spellings_from_before(arguments, output, folder):
    assert main(arguments) == 0
    assert Path(output).stat().st_size


def test_a_table_of_training_stays(folder, capsys):
    Path("solver.prototxt").write_text('net: "net.prototxt"')
    Path("run.csv").write_text("mine")
    assert main(["train", "--solver", "solver.prototxt", "--csv", "run.csv"]) == 2
    assert "run.csv: exists already" in capsys.readouterr().err
    assert Path("run.csv").read_text() == "mine"


def test_one_output_where_there_must_be_one():
    parser = argparse.ArgumentParser()
    add_output_options(parser, "a file", position="target")
    with pytest.raises(SphereFaceError, match="a and --output b; expected one output"):
        output_path(parser.parse_args(["a", "--output", "b"]))
    assert output_path(parser.parse_args([])) is None
    with pytest.raises(SphereFaceError, match="no output; expected --output FILE"):
        required_output(parser.parse_args([]))


HDF5_NET = """
input: "data" input_shape {{ dim: 1 dim: 2 }}
layer {{ name: "relu" type: "ReLU" bottom: "data" top: "y" }}
layer {{ name: "out" type: "HDF5Output" bottom: "data" bottom: "data"
        hdf5_output_param {{ file_name: "{}" }} }}
"""


def test_a_nets_own_file_stays_in_the_working_folder(folder, capsys, monkeypatch):
    work = folder / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (work / "link").symlink_to(folder)
    arguments = ["run", "../net.prototxt", "../net.caffemodel", "../x.npy"]
    for name in ("../stolen.h5", str(folder / "stolen.h5"), "link/stolen.h5"):
        (folder / "net.prototxt").write_text(HDF5_NET.format(name))
        assert main(arguments) == 2
        told = capsys.readouterr().err
        assert f'layer "out" (HDF5Output): writes {name}; expected a file below' in told
        assert not (folder / "stolen.h5").exists()
    assert main([*arguments, "--write-anywhere"]) == 0
    assert (folder / "stolen.h5").stat().st_size
    assert main([*arguments, "--write-anywhere"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*arguments, "--write-anywhere", "--overwrite"]) == 0
    (folder / "net.prototxt").write_text(HDF5_NET.format("kept.h5"))
    assert main(arguments) == 0
    assert (work / "kept.h5").stat().st_size
