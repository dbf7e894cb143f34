"""Features of a released net and of recorded photographs, from every kind of input."""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from sphereface.cli.main import main
from sphereface.data import ImagesetOptions, convert_imageset

NET = """
name: "n"
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: [1, 3, 4, 6] } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "sum" type: "Power" bottom: "fc" top: "twice" power_param { scale: 2 } }
"""
DATA = """
name: "n"
layer {{ name: "d" type: "ImageData" top: "data" top: "label" transform_param {{ scale: 0.5 }}
  image_data_param {{ source: "{0}/list.txt" root_folder: "{0}/p/" batch_size: 4 }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param {{ num_output: 5 }} }}
"""
COUNT = 7


def test_the_released_net_alone(released_model, tmp_path, capsys):
    """`extract M M FOLDER` against OpenCV's dnn."""
    model, output = str(released_model.model), tmp_path / "f.npz"
    options = ["--color", "rgb", "--mean", "128", "--scale", "0.0078125"]
    command = ["extract", model, model, str(released_model.folder), *options]
    assert main([*command, "--output", str(output)]) == 0
    told = capsys.readouterr()
    assert (
        "preprocessing: color rgb, size 112x112, mean 128, scale 0.0078125, mirror no" in told.err
    )
    assert told.out == f"100 x (fc1 128) -> {output}\n"
    with np.load(output) as found:
        rows = dict(zip(found["path"], found["features"], strict=True))
    assert rows.keys() == set(released_model.paths)
    features = np.stack([rows[path] for path in released_model.paths])
    expected = released_model.features
    assert np.abs(features - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.fixture
def work(tmp_path, monkeypatch, rng):
    """A folder with a net, its weights, seven pictures p/*.png, a list, an LMDB and arrays."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    Path("data.prototxt").write_text(DATA.format(tmp_path))
    Path("p").mkdir()
    pixels = rng.integers(0, 256, (COUNT, 4, 6, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        cv2.imwrite(f"p/{index}.png", image)
    Path("list.txt").write_text("".join(f"{i}.png {i}\n" for i in range(COUNT)))
    blobs = {"fc": [rng.normal(size=(5, 72)).astype("f4") / 50, np.ones(5, "f4")]}
    np.save("x.npy", pixels.transpose(0, 3, 1, 2))
    np.savez("x.npz", data=pixels.transpose(0, 3, 1, 2))
    from sphereface.caffe import load

    net = load(NET)
    net.copy_from(blobs)
    net.save("w.caffemodel")
    convert_imageset("p/", "list.txt", "db", ImagesetOptions())
    flat = pixels.transpose(0, 3, 1, 2).reshape(COUNT, -1).astype(float)
    return lambda scale=1.0: scale * flat @ blobs["fc"][0].T.astype(float) + 1


def run(*arguments, code=0):
    assert main(["extract", "net.prototxt", "w.caffemodel", *arguments]) == code


def test_a_leveldb(work):
    pytest.importorskip("plyvel", reason="plyvel, which has wheels for Python < 3.13")
    convert_imageset("p/", "list.txt", "leveldb", ImagesetOptions(backend="leveldb"))
    for source in ("db", "leveldb"):
        run(source, "--blob", "fc", "--output", f"{source}.npz")
    one, other = stored("db.npz"), stored("leveldb.npz")
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def stored(name="f.npz"):
    with np.load(name) as found:
        return dict(found)


@pytest.mark.parametrize("batch", ["1", "3", "7", "64"])
@pytest.mark.parametrize("source", ["p", "list.txt", "db", "x.npy", "x.npz"])
def test_every_input_every_record_once(source, batch, work):
    root = ["--root", "p"] if source == "list.txt" else []
    run(source, *root, "--blob", "fc", "--batch", batch, "--output", "f.npz")
    found = stored()
    names = {"p": "{}.png", "list.txt": "{}.png", "db": "{0:08d}_{0}.png"}.get(source, "{}")
    assert found["path"].tolist() == [names.format(i) for i in range(COUNT)]
    np.testing.assert_allclose(found["features"], work(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", ["1", "3"])
def test_the_nets_own_data(work, batch, capsys):
    command = ["extract", "data.prototxt", "w.caffemodel", "--data", "--batch", batch]
    assert main([*command, "--blob", "fc", "--output", "f.npz"]) == 0
    told = capsys.readouterr().err
    assert 'preprocessing of the data layers: layer "d": scale: 0.5\n' in told
    assert stored()["path"].tolist() == [f"{i}.png" for i in range(COUNT)]
    np.testing.assert_allclose(stored()["features"], work(0.5), rtol=1e-4, atol=1e-4)


def test_several_blobs_and_mirrors(work):
    run("p", "--blob", "fc", "--blob", "twice", "--scale", "0.5", "--output", "f.h5")
    with h5py.File("f.h5") as file:
        np.testing.assert_allclose(file["fc"], work(0.5), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(file["twice"], 2 * work(0.5), rtol=1e-4, atol=1e-4)
    run("p", "--blob", "fc", "--with-mirror", "--output", "both.npz")
    run("p", "--blob", "fc", "--mirror", "--output", "mirror.npz")
    both = stored("both.npz")["features"]
    np.testing.assert_allclose(both[:, :5], work(), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(both[:, 5:], stored("mirror.npz")["features"])
    assert np.abs(both[:, :5] - both[:, 5:]).max() > 0.1


def test_done_and_not_done(work, capsys):
    run("p", "--output", "f.npz")
    before = Path("f.npz").stat()
    capsys.readouterr()
    run("p", "--output", "f.npz", "--batch", "2")
    assert "done before, with the same settings: f.npz" in capsys.readouterr().out
    assert Path("f.npz").stat().st_mtime_ns == before.st_mtime_ns
    run("p", "--output", "f.npz", "--scale", "2", code=2)
    assert "exists already" in capsys.readouterr().err
    Path("p/6.png").unlink()
    run("p", "--output", "f.npz", code=2)
    run("p", "--output", "f.npz", "--overwrite")
    assert len(stored()["path"]) == 6
    Path("other.npz").write_text("mine")
    run("p", "--output", "other.npz", code=2)
    assert Path("other.npz").read_text() == "mine"


def test_an_interrupted_replacement_is_not_done(work, monkeypatch):
    run("p", "--output", "f.npz")
    Path("p/3.png").write_bytes(b"broken")
    run("p", "--output", "f.npz", "--overwrite", "--scale", "3", code=2)
    np.testing.assert_allclose(stored()["features"], 2 * work(), rtol=1e-4, atol=1e-4)
    run("p", "--output", "f.npz", code=2)  # nobody knows any more of what it was made


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "f.npz"], "no INPUT; expected an INPUT, or --data"),
        (["p", "--data", "--output", "f.npz"], "both INPUT and --data"),
        (["--data", "--output", "f.npz"], '--data: net "n" has no data layers'),
        (["p", "--output", "f.csv"], 'f.csv: the suffix ".csv"'),
        (["p", "--output", "no/f.npz"], "no"),
        (["x.npy", "--scale", "2", "--output", "f.npz"], "options for images"),
        (["x.npy", "--output", "x.npy", "--overwrite"], "x.npy: the output is an input"),
        (["nowhere", "--output", "f.npz"], "nowhere: no such file or folder"),
        (["p", "--batch", "0", "--output", "f.npz"], "--batch: 0"),
        (["p", "--blob", "fd", "--output", "f.npz"], 'no blob "fd"'),
    ],
)
def test_errors_are_one_line(arguments, message, work, capsys):
    before = Path("x.npy").read_bytes()
    run(*arguments, code=2)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("sphereface extract: ")
    assert message in error
    assert Path("x.npy").read_bytes() == before
    assert not Path("f.npz").exists()


def test_presets(work, capsys):
    """A preset is its options; options of the user's win."""
    command = ["extract", "net.prototxt", "w.caffemodel", "p"]
    given = {
        "preset.npz": ["--preset", "sphereface"],
        "options.npz": ["--mean", "127.5", "--scale", "0.0078125", "--with-mirror"],
        "other.npz": ["--preset", "sphereface", "--color", "rgb", "--no-with-mirror"],
        "rgb.npz": ["--mean", "127.5", "--scale", "0.0078125", "--color", "rgb"],
    }
    found = {}
    for name, options in given.items():
        assert main([*command, *options, "--output", name]) == 0
        with np.load(name) as file:
            found[name] = file["features"]
    np.testing.assert_array_equal(found["preset.npz"], found["options.npz"])
    np.testing.assert_array_equal(found["other.npz"], found["rgb.npz"])
    assert found["preset.npz"].shape[1] == 2 * found["rgb.npz"].shape[1]
    assert main([*command, "--preset", "spherefac", "--output", "x.npz"]) == 2
    assert 'did you mean "sphereface"' in capsys.readouterr().err
