"""``python -m sphereface.pycaffe script.py [arguments]``: a pycaffe script, unchanged.

The script sees this package as ``caffe``, itself as the main program, and its arguments in
``sys.argv``.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from sphereface.allocator import tune_allocator
from sphereface.pycaffe.install import install

__all__ = ["main"]


def main() -> None:
    """Run the script of the command line."""
    arguments = sys.argv[1:]
    if not arguments or not Path(arguments[0]).is_file():
        problem = f"no file {arguments[0]}" if arguments else "no script"
        raise SystemExit(f"{problem}; usage: python -m sphereface.pycaffe script.py [arguments]")
    tune_allocator()
    install()
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).resolve().parent)
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
