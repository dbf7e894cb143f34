from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_kills_leave_a_right_snapshot() -> None:
    command = [sys.executable, ROOT / "tools" / "kill_resume.py", "--kills", "6", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.match(r"6 of 6 kills left a newest snapshot that loads and equals", done.stdout)
