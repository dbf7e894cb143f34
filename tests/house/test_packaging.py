"""The sdist and the wheel: what they hold, and that the wheel runs by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMPORT = """
import numpy as np
import sphereface, torch
from sphereface import numpy_ops
from sphereface.resources import prototxt_names, prototxt_path
print(sphereface.__file__)
print(len(prototxt_names()))
x, w, label = torch.ones(2, 8), torch.eye(4, 8), torch.tensor([0, 1])
print(float(sphereface.margin_inner_product(x, w, label, 5.0).sum()))
print(float(np.sum(numpy_ops.forward(x.numpy(), w.numpy(), label.numpy(), 5.0))))
net = sphereface.caffe.load(prototxt_path("sphereface_4_deploy"))
print(sum(p.numel() for p in net.parameters()))
"""


def tracked(*folders: str) -> set[str]:
    names = subprocess.run(
        ["git", "ls-files", *folders], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return {name for name in names if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> tuple[Path, Path]:
    """Return an sdist and a wheel, built of the tracked files as a fresh clone has them."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    link = "python/sphereface/prototxt"
    (source / link).symlink_to(os.readlink(ROOT / link))  # noqa: PTH115 - the link's own text
    # What is packed counts here, not its speed: the optimiser takes three quarters of the build.
    script = source / "setup.py"
    script.write_text(script.read_text().replace('"-O3"', '"-O0"'))
    environment = {**os.environ, "SPHEREFACE_CUDA": "0"}
    subprocess.run(
        [sys.executable, source / "tools" / "make_wheel.py", "--output", output],
        env=environment,
        check=True,
    )
    (sdist,), (wheel,) = output.glob("*.tar.gz"), output.glob("*.whl")
    return sdist, wheel


def test_the_sdist_holds_all_that_a_clone_does(packages):
    with tarfile.open(packages[0]) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked() - members == set()
    nets = {path.name for path in (ROOT / "models" / "prototxt").iterdir()}
    assert {f"python/sphereface/prototxt/{name}" for name in nets} <= members
    assert not [name for name in members if name.endswith((".so", ".pyc"))]


def test_the_wheel_holds_the_package_and_nothing_else(packages):
    with zipfile.ZipFile(packages[1]) as archive:
        members = {name for name in archive.namelist() if not name.endswith("/")}
    package = {name.removeprefix("python/") for name in tracked("python")}
    nets = {f"sphereface/prototxt/{p.name}" for p in (ROOT / "models" / "prototxt").iterdir()}
    assert (package | nets) - members == set()
    extra = members - package - nets
    compiled = {name for name in extra if ".so" in name}
    assert {name.split("/")[1].split(".")[0] for name in compiled if name.startswith("sphereface/")} == {"_C", "_numpy_ops"}  # fmt: skip  # noqa: E501
    # The library that another machine may lack, and no torch.
    assert {n.split("/")[1].split("-")[0] for n in compiled if "sphereface.libs/" in n} == {
        "libgomp"
    }
    assert all(".dist-info/" in name for name in extra - compiled)


def test_the_wheel_is_portable_and_serves_every_torch(packages):
    wheel = packages[1]
    assert "manylinux" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        assert "sphereface/_C.abi3.so" in archive.namelist()


def test_the_wheel_runs_alone(packages, tmp_path):
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", site, packages[1]], check=True)
    run = subprocess.run(
        [sys.executable, "-c", IMPORT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=True,
        capture_output=True,
        text=True,
    )
    place, count, ours, numpys, parameters = run.stdout.splitlines()
    assert Path(place).is_relative_to(site)
    assert int(count) == len(list((ROOT / "models" / "prototxt").iterdir()))
    assert float(ours) == pytest.approx(float(numpys), abs=1e-6)
    assert int(parameters) == 12_562_496


def test_a_checkout_without_links_is_told(tmp_path):
    shutil.copy(ROOT / "setup.py", tmp_path)
    folder = tmp_path / "python" / "sphereface"
    folder.mkdir(parents=True)
    (folder / "prototxt").write_text("../../models/prototxt")
    done = subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "core.symlinks" in done.stderr
