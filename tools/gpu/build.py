"""Builds the package and unpacks the pack's wheels into out/gpu-build.

TORCH_CUDA_ARCH_LIST says for which cards; the driver sets it to the one found.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from gpu.results import figure

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "out" / "gpu-build"


def unpack_wheels(pack: Path, site: Path) -> None:
    """Unpack every wheel, which is a zip archive of packages."""
    for wheel in sorted((pack / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)


def main() -> None:
    """Build."""
    begin = time.perf_counter()
    unpack_wheels(ROOT / ".gpu", BUILD / "site")
    os.environ.setdefault("MAX_JOBS", str(os.cpu_count() or 1))
    command = [sys.executable, "setup.py", "build", "--build-base", str(BUILD / "base")]
    command += ["--build-lib", str(BUILD / "lib")]
    # The package asks its metadata for its version.
    command += ["install_egg_info", "--install-dir", str(BUILD / "lib")]
    done = subprocess.run(command, cwd=ROOT, check=False)
    figure("build", time.perf_counter() - begin, "s")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
