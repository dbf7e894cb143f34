"""Build a wheel that installs and runs elsewhere: through the sdist, made portable by auditwheel.

    python tools/make_wheel.py [--output dist]

The sdist comes first, so that what the wheel needs is known to be in it. auditwheel gives the wheel
its manylinux tag and takes libgomp in, which a machine without a compiler lacks; torch's libraries
are torch's. Needs the extra ``dev``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Loaded with torch before the operators are; a wheel that held them would have a second torch.
OF_TORCH = (
    "libc10.so", "libc10_cuda.so", "libtorch.so", "libtorch_cpu.so", "libtorch_cuda.so",
    "libcudart.so.*", "libcublas.so.*",
)  # fmt: skip


def run(*command: str | Path) -> None:
    """Run a command of this environment; its output is shown if it fails."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")


def make_wheel(output: Path, source: Path = ROOT) -> tuple[Path, Path]:
    """Write the sdist and the wheel of `source` into `output`; return their paths."""
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder)
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", built, source)
        (sdist,), (plain,) = built.glob("*.tar.gz"), built.glob("*.whl")
        excluded = [word for name in OF_TORCH for word in ("--exclude", name)]
        run("auditwheel", "repair", *excluded, "--wheel-dir", built / "repaired", plain)
        (wheel,) = (built / "repaired").glob("*.whl")
        output.mkdir(parents=True, exist_ok=True)
        return shutil.move(sdist, output / sdist.name), shutil.move(wheel, output / wheel.name)


def main() -> int:
    """Run the command; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="(default: dist)")
    for path in make_wheel(parser.parse_args().output):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
