from __future__ import annotations

import pytest
import torch

from reference.tiny_training import write_training
from sphereface.cli.main import main


def test_a_packaged_net(capsys):
    options = ["--phase", "TRAIN", "--iterations", "2", "--threads", "1"]
    threads = torch.get_num_threads()
    assert main(["time", "digits_train", *options]) == 0
    assert torch.get_num_threads() == threads
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "phase TRAIN, each layer by itself"
    assert lines[2].split()[:2] == ["data", "MemoryData"]
    assert any(line.split()[:2] == ["fc6", "MarginInnerProduct"] for line in lines)
    assert lines[-1].startswith("Total Time: ")


def test_forward_of_given_sizes_and_data(tmp_path, capsys):
    write_training(tmp_path, "")
    net = str(tmp_path / "net.prototxt")
    options = ["--data", "--forward-only", "--iterations", "2", "--threads", "1"]
    for phase in ("TRAIN", "TEST"):
        assert main(["time", net, *options, "--phase", phase]) == 0
        data = capsys.readouterr().out.splitlines()[2].split()
        assert data[0] == "data"
        assert float(data[2]) > 0
    assert main(["time", "digits_deploy", "--input-shape", "data=5,1,8,8", *options[1:]]) == 0
    assert "Average Backward pass: 0 ms." in capsys.readouterr().out


def test_what_run_runs(capsys):
    """The folded operations in phase TEST, every layer by itself with --no-fuse; it says which."""
    options = ["--iterations", "1", "--threads", "1", "--phase", "TEST"]
    assert main(["summary", "sphereface_4_deploy", "--fused"]) == 0
    *folded, last = capsys.readouterr().out.splitlines()
    assert main(["time", "sphereface_4_deploy", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"phase TEST, folded into {len(folded)} operations as `sphereface")
    assert last.endswith(f" run as {len(folded)} operations")
    rows = lines[2:-4]
    assert [row[: len(name)] for row, name in zip(rows, folded, strict=True)] == folded
    assert rows[0].split("  ")[1].strip() == "Convolution + PReLU"
    assert main(["time", "sphereface_4_deploy", *options, "--no-fuse"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "phase TEST, each layer by itself"
    assert [row.split()[0] for row in lines[2:5]] == ["input", "conv1_1", "relu1_1"]
    assert float(lines[-3].split()[3]) > 0  # backward


@pytest.mark.parametrize(
    "arguments", [["-model", "digits_train"], ["--model=digits_train"], ["digits_train"]]
)
def test_caffes_command_lines(capsys, arguments):
    """Caffe's default phase included: the margin layer is of the TRAIN phase only."""
    assert main(["time", *arguments, "-iterations", "1", "--threads", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ["fc6", "MarginInnerProduct"] for line in lines)
    assert float(lines[-3].split()[3]) > 0
