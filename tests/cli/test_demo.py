from __future__ import annotations

from pathlib import Path

import pytest

from sphereface.cli.main import main
from sphereface.demo import digits


def test_options(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(digits, "run_digits", lambda *arguments: calls.append(arguments))
    assert main(["demo"]) == 0
    assert main(["demo", "--out", "a/b.png", "--seeds", "3"]) == 0
    assert calls == [(Path("out/digits_embeddings.png"), 6), (Path("a/b.png"), 3)]


def test_bad_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--seeds", "0"]) == 2
    assert capsys.readouterr().err == "sphereface demo: demo: 0 seeds; expected at least one\n"
