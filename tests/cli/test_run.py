from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from reference.tiny_training import write_training
from sphereface.cli.main import main
from sphereface.weights import write_caffemodel, write_caffemodel_h5

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parents[1] / "golden"
ORL, MTCNN = GOLDEN / "orl_sphereface4", GOLDEN / "mtcnn"
NET = [str(ORL / "deploy.prototxt"), str(ORL / "orl_iter_300.caffemodel")]
SPHEREFACE = ["--mean", "127.5", "--scale", "0.0078125"]


@pytest.fixture
def picture(tmp_path):
    """A PGM file, 92 wide and 112 high."""
    y, x = np.mgrid[:112, :92]
    pixels = (x * 2 + y * y // 90) % 256
    (tmp_path / "picture.pgm").write_bytes(b"P5\n92 112\n255\n" + pixels.astype("u1").tobytes())
    return str(tmp_path / "picture.pgm")


def test_the_recorded_features(orl_images, tmp_path, capsys, norm_error):
    golden = np.load(ORL / "orl_golden.npz")
    output = tmp_path / "features.npz"
    images = [str(ORL / "test.txt"), "--root", str(orl_images)]
    assert main(["run", *NET, *images, *SPHEREFACE, "--with-mirror", "--output", str(output)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"fc5 (100, 128) -> {output}\n"
    assert "running: 100/100" in captured.err
    with np.load(output) as found:
        assert norm_error(found["fc5"], golden["features"]) < 1e-4
        assert [
            path[-len(g) :] for path, g in zip(found["paths"], golden["paths"], strict=True)
        ] == (list(golden["paths"]))


def test_printed_blobs(orl_images, capsys):
    golden = np.load(ORL / "orl_golden.npz")
    images = [str(orl_images / "s31" / f"{n}.pgm") for n in (1, 2)]
    assert main(["run", *NET, *images, *SPHEREFACE, "--blob", "fc5", "--blob", "conv4_1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" min")[0] for line in lines] == ["fc5 (2, 64)", "conv4_1 (2, 512, 7, 6)"]
    first = [float(word) for word in lines[0].split(": ")[1].split()[:-1]]
    np.testing.assert_allclose(first, golden["features"][0, :8], rtol=1e-4)
    expected = golden["features"][:2, :64]
    values = dict(re.findall(r"(min|max|mean|std) (\S+?):? ", lines[0]))
    for name in ("min", "max", "mean", "std"):
        assert float(values[name]) == pytest.approx(getattr(expected, name)(), rel=1e-3, abs=1e-5)


def test_mirror(orl_images, tmp_path, norm_error):
    golden = np.load(ORL / "orl_golden.npz")
    image, output = str(orl_images / "s31" / "1.pgm"), tmp_path / "f.npy"
    assert main(["run", *NET, image, *SPHEREFACE, "--mirror", "--output", str(output)]) == 0
    assert norm_error(np.load(output), golden["features"][:1, 64:]) < 1e-4


@pytest.mark.parametrize("net", [1, 2, 3])
def test_recorded_arrays_through_the_released_mtcnn(net, mtcnn, tmp_path, norm_error):
    golden = np.load(MTCNN / "nets.npz")
    np.save(tmp_path / "in.npy", golden[f"det{net}/in/data"])
    arguments = [str(MTCNN / f"det{net}.prototxt"), str(mtcnn / f"det{net}.caffemodel")]
    output = str(tmp_path / "out.npz")
    assert main(["run", *arguments, str(tmp_path / "in.npy"), "--output", output]) == 0
    outputs = [name for name in golden if name.startswith(f"det{net}/out/")]
    with np.load(output) as found:
        for name in outputs:
            assert norm_error(found[name.rpartition("/")[2]], golden[name]) < 1e-5
    assert outputs


def test_transposed_images_of_their_own_size(picture, mtcnn, capsys):
    """det1 slides over an image of any size, in Matlab's order: width before height."""
    arguments = [str(MTCNN / "det1.prototxt"), str(mtcnn / "det1.caffemodel"), picture]
    options = ["--transpose", "--color", "rgb", *SPHEREFACE, "--blob", "prob1"]
    assert main(["run", *arguments, *options, "--size", "native"]) == 0
    assert capsys.readouterr().out.startswith("prob1 (1, 2, 41, 51) ")
    assert main(["run", *arguments, *options, "--size", "24x12"]) == 0
    assert capsys.readouterr().out.startswith("prob1 (1, 2, 1, 7) ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "missing.png: no such file"),
        ([str(ORL / "README.md")], "README.md: no picture"),
        (["a.npy", "b.npy"], "a.npy: more inputs; expected an array alone"),
        (["a.npy", "--mirror"], "a.npy: options for images, together with inputs that need none"),
        (["x.png", "--output", "x.csv"], "x.csv: an output for 1 blobs; expected .npy"),
        (["x.png", "--output", "nowhere/x.npy"], "nowhere/x.npy: no folder "),
        (["x.png", "--batch", "0"], "--batch: 0; expected at least 1"),
        (["x.png", "--size", "12"], '--size: "12"; expected HxW'),
        (["x.png", "--device", "tpu7"], 'device "tpu7"; expected cpu'),
        (["picture.pgm", "--blob", "fc6"], 'no blob "fc6"; did you mean "fc5"?'),
    ],
)
def test_errors_are_one_line(arguments, message, picture, capsys, monkeypatch):
    monkeypatch.chdir(Path(picture).parent)
    assert main(["run", *NET, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.splitlines()[-1].startswith("sphereface run: ")
    assert "Traceback" not in error


def test_weights_of_another_net(picture, capsys, tmp_path):
    other = tmp_path / "net.prototxt"
    other.write_text(Path(NET[0]).read_text().replace('"fc5"', '"fc"'))
    assert main(["run", str(other), NET[1], picture]) == 2
    assert "no weights for layer fc (not in the source)" in capsys.readouterr().err
    assert main(["run", str(other), NET[1], picture, "--allow-missing"]) == 0
    assert capsys.readouterr().out.startswith("fc (1, 64) ")


EXAMPLES = re.findall(
    r"^\$ sphereface (run .*)\n((?:[^`$].*\n)+)",
    (ROOT / "docs" / "run.md").read_text(),
    re.MULTILINE,
)


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_of_the_documentation(
    command, shown, mtcnn, orl_images, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in ("det1.caffemodel", "det3.caffemodel"):
        (tmp_path / name).symlink_to(mtcnn / name)
    (tmp_path / "orl").symlink_to(orl_images)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    assert main(shlex.split(command)) == 0
    found, expected = capsys.readouterr().out.split(), shown.split()
    assert len(found) == len(expected)
    for ours, documented in zip(found, expected, strict=True):
        try:
            assert float(ours.rstrip(":")) == pytest.approx(
                float(documented.rstrip(":")), rel=1e-3, abs=1e-5
            )
        except ValueError:
            assert ours == documented


def test_the_documentation_has_examples():
    assert len(EXAMPLES) == 3


def test_exif_and_truncation(tmp_path, capsys):
    """A picture that says "turn me" is turned, a cut-off one is refused."""
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"
    path, output = tmp_path / "x.jpg", str(tmp_path / "x.npy")
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    net = tmp_path / "net.prototxt"
    net.write_text(
        'input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }'
        'layer { name: "twice" type: "Power" bottom: "data" top: "y" power_param { scale: 2 } }'
    )
    weights = tmp_path / "none.caffemodel"
    write_caffemodel(weights, "", [(b"\n\x05other", [np.zeros(1, np.float32)])])
    stored = 2.0 * cv2.imdecode(np.frombuffer(data, np.uint8), 1).transpose(2, 0, 1)
    for option, expected in (([], stored[:, ::-1, ::-1]), (["--exif", "ignore"], stored)):
        Path(output).unlink(missing_ok=True)
        command = ["run", str(net), str(weights), str(path), "--output", output, *option]
        assert main(command) == 0, capsys.readouterr().err
        np.testing.assert_array_equal(np.load(output)[0], expected)
    path.write_bytes(data[:-20])
    assert main(["run", str(net), str(weights), str(path)]) == 2
    assert "x.jpg: truncated: a JPEG without its end" in capsys.readouterr().err


def test_the_nets_own_data(tmp_path, capsys):
    """Rows in the order of the list, transformed as the layer says."""
    write_training(tmp_path, "")
    net, weights = tmp_path / "net.prototxt", tmp_path / "w.caffemodel.h5"
    net.write_text(net.read_text().replace("mirror: true", "").replace("shuffle: true", ""))
    kernel = np.zeros((8, 1, 3, 3), np.float32)
    kernel[:, 0, 1, 1] = 1
    zeros = {"relu": [np.ones(8)], "fc5": [np.zeros((6, 128)), np.zeros(6)]}
    zeros["fc6"] = [np.ones((4, 6))]
    write_caffemodel_h5(weights, {"conv": [kernel, np.zeros(8)], **zeros})
    command = ["run", str(net), str(weights), "--data", "--blob", "conv", "--blob", "label"]
    output = tmp_path / "out.npz"
    assert main([*command, "--iterations", "5", "--output", str(output)]) == 0
    lines = [line.split() for line in (tmp_path / "list.txt").read_text().splitlines()]
    images = [cv2.imread(str(tmp_path / name), cv2.IMREAD_GRAYSCALE) for name, _ in lines]
    with np.load(output) as found:
        assert found["label"].tolist() == [float(label) for _, label in lines]
        expected = (np.stack(images)[:, ::2, ::2] - 127.5) / 128
        np.testing.assert_allclose(found["conv"][:, 3], expected, atol=1e-6)
    capsys.readouterr()
    assert main(command) == 0
    assert "conv (8, 8, 4, 4)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "x.npy"], "--data and x.npy"),
        ([], "no inputs; expected images, an array, or --data"),
        (["x.npy", "--iterations", "2"], "--iterations: 2; expected at least 1, with --data"),
        (["--data", "--mean", "3"], "has no data layers in phase TEST"),
    ],
)
def test_data_or_inputs(options, message, capsys):
    assert main(["run", *NET, *options]) == 2
    assert message in capsys.readouterr().err
