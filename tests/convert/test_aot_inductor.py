"""Compiled packages: the net's numbers from C++ and from Python, at other batch sizes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from sphereface.cli.main import main
from sphereface.convert.aot_inductor import write_aot_inductor
from sphereface.errors import SphereFaceError

SOURCE = Path(__file__).parents[2] / "docs" / "examples" / "compiled_net" / "run_package.cpp"
NET = """
name: "tiny" input: "data" input_shape { dim: 1 dim: 3 dim: 6 dim: 5 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "PReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "Normalize" bottom: "fc" top: "norm" }
layer { name: "half" type: "Power" bottom: "fc" top: "half" power_param { scale: 0.5 } }
"""


@pytest.mark.slow
def test_cpp_and_python_run_it(build, tmp_path, monkeypatch):
    """The commands of the documentation; the C++ program is a process without Python."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    net = build(NET)
    net.save("net.caffemodel")
    Path("net.prototxt").write_text(NET)
    assert main(["convert", "net.prototxt", "net.caffemodel", "net.pt2", "--to", "aoti"]) == 0
    package = torch._inductor.aoti_load_package("net.pt2")
    x = torch.randn(7, 3, 6, 5)
    assert_near(package(x), net(x))

    home = Path(torch.__file__).parent
    library = home / "lib"
    command = ["g++", "-std=c++20", f"-I{home / 'include'}", str(SOURCE), "-o", "run_package"]
    command += [f"-L{library}", f"-Wl,-rpath,{library}", "-ltorch", "-ltorch_cpu", "-lc10"]
    subprocess.run(command, check=True)
    shape = ["2", "3", "6", "5"]
    shown = subprocess.run(
        ["./run_package", "net.pt2", *shape], check=True, capture_output=True, text=True
    ).stdout
    expected = net(torch.ones(2, 3, 6, 5))
    found = {}
    for line in shown.splitlines():
        name, *values = line.split()
        found[name] = torch.tensor([float(value) for value in values]).view(2, 5)
    assert_near(found, expected)


def assert_near(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert value.norm() > 0
        assert (found[name] - value).norm() <= 1e-5 * value.norm(), name


def test_a_name_that_torch_would_not_load(build, tmp_path):
    with pytest.raises(SphereFaceError, match=r"net\.bin: not a name for a compiled package"):
        write_aot_inductor(build(NET), tmp_path / "net.bin")


def test_without_a_compiler(build, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    without = torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)})
    problem = 'cannot compile net "tiny".*--to pt2 needs none'
    with without, pytest.raises(SphereFaceError, match=problem):
        write_aot_inductor(build(NET), tmp_path / "net.pt2")
    assert not (tmp_path / "net.pt2").exists()
