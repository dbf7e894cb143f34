"""Which layer types the tests of each file have run, kept for the test that asks for all."""

from __future__ import annotations

import pytest

__all__ = ["TYPES_RUN"]

TYPES_RUN: pytest.StashKey[dict[str, set[str]]] = pytest.StashKey()
"""Test file's stem to the types of the layers that its tests built or ran."""
