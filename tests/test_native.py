"""The native core outside Python: C++ tests, the installed CMake package, sanitizers, CUDA objects.

Every main of tests/cpp is an item here. The builds live in pytest's cache folder, so that a second
run compiles only what changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "docs" / "examples" / "cpp"
SOURCES = [*(ROOT / "tests" / "cpp").glob("test_*.cpp"), *EXAMPLE.glob("*.cpp")]
CPP_TESTS = sorted(path.stem for path in SOURCES)
# cmake and ninja of this environment come before the system's, also when it is not activated.
PATH = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
CUDA_BIN = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin"
NVCC = shutil.which("nvcc", path=os.pathsep.join([PATH, str(CUDA_BIN)]))


def run(*command: str | Path) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


def build(folder: Path, *options: str, source: Path = ROOT, target: str = "all") -> Path:
    run("cmake", "-S", source, "-B", folder, "-G", "Ninja", *options)
    run("cmake", "--build", folder, "--target", target)
    return folder


@pytest.fixture(scope="module")
def cache(pytestconfig: pytest.Config) -> Path:
    return pytestconfig.cache.mkdir("native")


@pytest.fixture(scope="module")
def release(cache: Path) -> Path:
    return build(cache / "release", "--preset", "release")


@pytest.mark.parametrize("name", CPP_TESTS)
def test_cpp(release: Path, name: str) -> None:
    run(
        "ctest", "--test-dir", release, "-R", f"^{name}$", "--output-on-failure", "--no-tests=error"
    )


@pytest.mark.slow
def test_cpp_with_sanitizers(cache: Path) -> None:
    folder = build(cache / "asan", "--preset", "asan")
    output = run("ctest", "--test-dir", folder, "--output-on-failure", "--no-tests=error")
    # Newer CMake leaves ", 0 tests failed" out of the line.
    assert re.search(rf"100% tests passed.* out of {len(CPP_TESTS)}\b", output)


@pytest.fixture(params=["static-openmp", "shared-serial"])
def core(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A build to install; of the second kind the place and the linking count, not the speed."""
    if request.param == "static-openmp":
        built: Path = request.getfixturevalue("release")
        return built
    options = ("-DBUILD_SHARED_LIBS=ON", "-DSPHEREFACE_OPENMP=OFF", "-DSPHEREFACE_TESTS=OFF")
    return build(tmp_path / "core", "--preset", "debug", *options)


def test_installed_package(core: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    run("cmake", "--install", core, "--prefix", prefix)
    example = build(tmp_path / "example", f"-DCMAKE_PREFIX_PATH={prefix}", source=EXAMPLE)
    # lambda of iteration 300: 1000 / (1 + 0.12 * 300)
    assert run(example / "train").startswith("lambda 27.0270, loss ")
    assert "60 of 60 right without the margin" in run(example / "fused")

    (version_file,) = prefix.rglob("sphereface-config-version.cmake")
    version = re.search(r'^version = "([\d.]+)', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert f'set(PACKAGE_VERSION "{version[1]}")' in version_file.read_text()


def test_document_quotes_the_example() -> None:
    text = (ROOT / "docs" / "embedding-cpp.md").read_text()
    quotes = re.findall(r"```(cpp|cmake)\n(.*?)```", text, re.S)
    assert {language for language, _ in quotes} == {"cpp", "cmake"}
    sources = {
        "cpp": "".join((EXAMPLE / f"{name}.cpp").read_text() for name in ("train", "fused")),
        "cmake": (EXAMPLE / "CMakeLists.txt").read_text(),
    }
    # Quotes are not indented.
    flat = {name: re.sub(r"^ +", "", text, flags=re.M) for name, text in sources.items()}
    for language, quote in quotes:
        assert re.sub(r"^ +", "", quote, flags=re.M) in flat[language], quote


@pytest.mark.skipif(NVCC is None, reason="nvcc is not on PATH nor in CUDA_HOME or /usr/local/cuda")
def test_cuda_compiles_without_warnings(cache: Path) -> None:
    folder = build(
        cache / "cuda",
        "--preset",
        "cuda",
        f"-DCMAKE_CUDA_COMPILER={NVCC}",
        target="sphereface_cuda",
    )
    library = (folder / "libsphereface_cuda.a").read_bytes()
    assert b"sm_80" in library
    assert b"sm_90" in library
