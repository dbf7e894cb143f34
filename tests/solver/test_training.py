from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from reference.tiny_training import write_training
from sphereface.data import ImagesetOptions, convert_imageset
from sphereface.errors import SphereFaceError
from sphereface.solver import DivergedError, training
from sphereface.solver.signals import Action
from sphereface.solver.training import DataOptions, LogOptions, TrainOptions, train
from sphereface.weights import load_weights


def blobs(path):
    return {
        f"{layer}/{index}": np.asarray(blob)
        for layer, values in load_weights(path).items()
        for index, blob in enumerate(values)
    }


def test_log_table_and_test_net(tmp_path, capsys):
    solver = write_training(tmp_path, "max_iter: 20 display: 5 test_iter: 5 test_interval: 10")
    table = tmp_path / "a.jsonl"
    train(TrainOptions(str(solver), gpu="none", logs=LogOptions(str(tmp_path / "log"), str(table))))
    lines = (tmp_path / "log" / "solver.log").read_text().splitlines()
    # The patterns of Caffe's parse_log.py.
    shown = [m for line in lines if (m := re.search(r"Iteration (\d+) \(.*\), loss = (\S+)", line))]
    assert [int(match[1]) for match in shown] == [0, 5, 10, 15]
    assert float(shown[-1][2]) < 0.5 * float(shown[0][2])
    assert len(re.findall(r"Train net output #\d+: lambda = ", "\n".join(lines))) == 4
    tests = [line for line in lines if "Test net output" in line]
    assert [float(line.split(" accuracy = ")[1]) for line in tests if " accuracy" in line][-1] > 0.9
    without_prefix = [line[line.index("]") :] for line in lines if "iter/s" not in line]
    assert without_prefix == [
        line[line.index("]") :]
        for line in capsys.readouterr().err.splitlines()
        if "iter/s" not in line
    ]
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert [(row["iteration"], row["net"]) for row in rows] == [
        (0, "test0"), (0, "train"), (5, "train"), (10, "test0"), (10, "train"), (15, "train"),
        (20, "test0"),
    ]  # fmt: skip
    assert rows[1]["loss"] == pytest.approx(float(shown[0][2]), rel=1e-5)


def test_stopped_and_resumed_is_the_same_as_in_one_go(tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
        write_training(folder, "max_iter: 20 display: 10")
    train(TrainOptions(str(whole / "solver.prototxt"), gpu="none"))

    class StopAtSeven:
        stopped_by = None

        def __init__(self, *effects):
            self.count = 0

        def __enter__(self):
            return self

        def __exit__(self, *raised):
            pass

        def __call__(self):
            self.count += 1
            return Action.STOP if self.count == 7 else Action.NONE

    table = LogOptions(table=str(parts / "a.csv"))
    with monkeypatch.context() as patch:
        patch.setattr(training, "SignalActions", StopAtSeven)
        train(TrainOptions(str(parts / "solver.prototxt"), gpu="none", logs=table))
    state = parts / "tiny_iter_7.solverstate"
    assert state.exists()
    train(TrainOptions(str(parts / "solver.prototxt"), gpu="none", snapshot=str(state), logs=table))
    one, two = (blobs(folder / "tiny_iter_20.caffemodel") for folder in (whole, parts))
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    rows = (parts / "a.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["iteration", "0", "10"]


def test_finetuning_starts_from_the_weights(tmp_path):
    solver = write_training(tmp_path, "max_iter: 10 display: 5")
    train(TrainOptions(str(solver), gpu="none"))
    model = tmp_path / "tiny_iter_10.caffemodel"
    kept = tmp_path / "start.caffemodel"
    kept.write_bytes(model.read_bytes())
    write_training(tmp_path, "max_iter: 1 weight_decay: 0 lr_policy: 'fixed' base_lr: 1e-12")
    text = solver.read_text()
    for field in ('lr_policy: "step"', "base_lr: 0.1", "weight_decay: 0.0005"):
        text = text.replace(field, "", 1)
    solver.write_text(text)
    train(TrainOptions(str(solver), weights=str(kept), gpu="none"))
    end, start = blobs(tmp_path / "tiny_iter_1.caffemodel"), blobs(kept)
    for name in start:
        expected = start[name]
        if name == "fc6/0":  # a forward in TRAIN divides its rows by their norms
            expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(end[name], expected, rtol=1e-5, atol=1e-7)


def test_labels_are_checked_before_the_first_step(tmp_path, capsys):
    solver = write_training(tmp_path, "max_iter: 10 display: 5")
    names = (tmp_path / "list.txt").read_text()
    (tmp_path / "list.txt").write_text(names.replace(" 3\n", " 4\n"))
    with pytest.raises(SphereFaceError, match=r"list.txt:31: label 4 .*expected 0 .. 3"):
        train(TrainOptions(str(solver), gpu="none"))
    (tmp_path / "list.txt").write_text(names.replace(" 3\n", " 2\n"))
    train(TrainOptions(str(solver), gpu="none"))
    assert "without an image: 3" in capsys.readouterr().err


def test_a_missing_image_is_found_before_the_first_step(tmp_path, capsys):
    solver = write_training(tmp_path, "max_iter: 10 display: 1")
    (tmp_path / "3_9.png").unlink()
    with pytest.raises(SphereFaceError, match=r"list.txt:40: .*3_9.png: 1 of 40 images cannot"):
        train(TrainOptions(str(solver), gpu="none"))
    assert "Iteration" not in capsys.readouterr().err
    train(TrainOptions(str(solver), gpu="none", data=DataOptions(skip_bad_images=True)))
    assert "Warning: " in (told := capsys.readouterr().err)
    assert "3_9.png: 1 of 40 images cannot be opened" in told


def test_unscaled_pixels_are_told(tmp_path, capsys):
    solver = write_training(tmp_path, "max_iter: 1")
    train(TrainOptions(str(solver), gpu="none"))
    assert "pixels reach" not in capsys.readouterr().err
    net = tmp_path / "net.prototxt"
    net.write_text(net.read_text().replace("scale: 0.0078125", ""))
    train(TrainOptions(str(solver), gpu="none"))
    assert "Warning: " in (told := capsys.readouterr().err)
    assert "pixels reach the net as -" in told


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("mode", "gpu", "told"), [
    ("GPU", None, True), ("GPU", "none", False), ("CPU", None, False),
])  # fmt: skip
def test_a_gpu_that_is_not_there_is_told(tmp_path, capsys, mode, gpu, told):
    solver = write_training(tmp_path, "max_iter: 1")
    solver.write_text(solver.read_text().replace("solver_mode: CPU", f"solver_mode: {mode}"))
    train(TrainOptions(str(solver), gpu=gpu))
    line = "solver_mode: GPU, but torch finds no GPU here: training on the CPU"
    assert (line in capsys.readouterr().err) == told


def test_each_option_says_which_file_it_takes(tmp_path):
    solver = write_training(tmp_path, "max_iter: 2")
    train(TrainOptions(str(solver), gpu="none"))
    model, state = (str(tmp_path / f"tiny_iter_2.{kind}") for kind in ("caffemodel", "solverstate"))
    with pytest.raises(SphereFaceError) as caught:
        train(TrainOptions(str(solver), snapshot=model, gpu="none"))
    assert f"({state} is there); --weights takes the weights" in str(caught.value)
    with pytest.raises(SphereFaceError, match="--snapshot takes the solverstate"):
        train(TrainOptions(str(solver), weights=state, gpu="none"))
    with pytest.raises(SphereFaceError, match="the file beside a solverstate"):
        train(TrainOptions(str(solver), snapshot=f"{state}.npz", gpu="none"))


def test_resume_goes_on_with_a_longer_list_and_a_renamed_layer(tmp_path, capsys):
    solver = write_training(tmp_path, "max_iter: 7")
    train(TrainOptions(str(solver), gpu="none"))
    state = str(tmp_path / "tiny_iter_7.solverstate")
    write_training(tmp_path, "max_iter: 9")
    names = tmp_path / "list.txt"
    names.write_text(names.read_text() + names.read_text().splitlines(keepends=True)[0])
    capsys.readouterr()
    train(TrainOptions(str(solver), gpu="none", snapshot=state))
    told = capsys.readouterr().err
    assert "41 samples, 40 when the state was saved; position 16 of epoch 1 is dropped" in told
    write_training(tmp_path, "max_iter: 9")
    net = tmp_path / "net.prototxt"
    net.write_text(net.read_text().replace('name: "data"', 'name: "faces"'))
    train(TrainOptions(str(solver), gpu="none", snapshot=state))
    told = capsys.readouterr().err
    assert 'data layer "faces" goes on where "data" was' in told
    assert "dropped" not in told


def test_bad_images_stop_the_run_or_are_counted(tmp_path, capsys):
    solver = write_training(tmp_path, "max_iter: 10 display: 5")
    (tmp_path / "1_3.png").write_bytes(b"no picture")
    with pytest.raises(SphereFaceError, match=r"list.txt:14.*1_3.png"):
        train(TrainOptions(str(solver), gpu="none"))
    train(TrainOptions(str(solver), gpu="none", data=DataOptions(skip_bad_images=True)))
    assert 'Data layer "data" skipped 1 bad image\n' in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["100", "1e20"])
def test_a_lost_run_says_what_to_try(tmp_path, rate):
    solver = write_training(tmp_path, "max_iter: 20 snapshot: 2")
    solver.write_text(solver.read_text().replace("base_lr: 0.1", f"base_lr: {rate}"))
    with pytest.raises(DivergedError) as caught:
        train(TrainOptions(str(solver), gpu="none"))
    text = str(caught.value)
    assert re.match(r"iteration \d+: ", text)
    for advice in ("a bigger batch: it is 8", "lambda of layer", f"(the rate is {float(rate):g};"):
        assert advice in text
    assert ("the last good snapshot is " in text) == bool(list(tmp_path.glob("*.solverstate")))


def test_stages_of_the_train_net(tmp_path, capsys):
    solver = write_training(tmp_path, "max_iter: 1 display: 1")
    net = tmp_path / "net.prototxt"
    net.write_text(
        net.read_text()
        + 'layer { name: "extra" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label"'
        ' top: "extra" include { stage: "more" min_level: 2 } }'
    )
    train(TrainOptions(str(solver), gpu="none"))
    assert "extra = " not in capsys.readouterr().err
    train(TrainOptions(str(solver), gpu="none", level=2, stages=("more",)))
    assert "extra = " in capsys.readouterr().err


def test_weights_and_snapshot_exclude_each_other():
    with pytest.raises(SphereFaceError, match="--weights and --snapshot; expected one of them"):
        train(TrainOptions("solver.prototxt", weights="a", snapshot="b"))


def test_an_lmdb_trains_as_its_list_does(tmp_path):
    solver = write_training(tmp_path, "max_iter: 8")
    net = tmp_path / "net.prototxt"
    net.write_text(net.read_text().replace("shuffle: true", "shuffle: false"))
    train(TrainOptions(str(solver), gpu="none"))
    listed = blobs(tmp_path / "tiny_iter_8.caffemodel")
    options = ImagesetOptions(gray=True)
    convert_imageset(f"{tmp_path}/", tmp_path / "list.txt", tmp_path / "lmdb", options)
    text = re.sub(
        r'type: "ImageData"(.*?)image_data_param \{.*? \} \}',
        rf'type: "Data"\1data_param {{ source: "{tmp_path}/lmdb" batch_size: 8 backend: LMDB }} }}',
        net.read_text(),
        flags=re.DOTALL,
    )
    net.write_text(text)
    train(TrainOptions(str(solver), gpu="none"))
    stored = blobs(tmp_path / "tiny_iter_8.caffemodel")
    assert listed.keys() == stored.keys()
    for name, values in listed.items():
        np.testing.assert_array_equal(values, stored[name])
