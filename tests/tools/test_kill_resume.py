from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_accidents_leave_a_right_snapshot() -> None:
    command = [sys.executable, ROOT / "tools" / "kill_resume.py", "--count", "12", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.match(r"12 of 12 accidents \(2 kill, .*\) left a newest snapshot", done.stdout)
