from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_checked_in_files_are_what_the_tool_writes() -> None:
    command = [sys.executable, ROOT / "tools" / "make_prototxts.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
