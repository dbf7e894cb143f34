from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    """The long run is `tools/fuzz_models.py` with its defaults."""
    command = [sys.executable, ROOT / "tools/fuzz_models.py", "--runs", "150"]
    done = subprocess.run(
        [*map(str, command), "--seed", "12345", "--keep", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = re.findall(
        r"^(\S.*): (\d+) inputs, (\d+) read, (\d+) refused, 0 broken", done.stdout, re.MULTILINE
    )
    assert len(figures) == 20
    # Both outcomes occur, so neither the readers nor the mutations are vacuous.
    assert all(int(read) > 0 and int(refused) > 0 for _, _, read, refused in figures)
    assert not list(tmp_path.iterdir())
