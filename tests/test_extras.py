from __future__ import annotations

import sys

import pytest

from sphereface import extras
from sphereface.errors import SphereFaceError


def test_what_is_installed_is_returned():
    import json

    assert extras.require("json", "data") is json


def test_what_is_missing_names_the_extra():
    with pytest.raises(SphereFaceError, match=r"no_such_thing is not installed; pip install 'sphereface\[hdf5\]'"):  # fmt: skip  # noqa: E501
        extras.require("no_such_thing", "hdf5")


def test_what_is_broken_says_why(tmp_path, monkeypatch):
    (tmp_path / "broken_extra.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SphereFaceError, match=r"cannot be imported \(No module named 'no_such_library'\)"):  # fmt: skip  # noqa: E501
        extras.require("broken_extra", "data")
    assert "broken_extra" not in sys.modules
