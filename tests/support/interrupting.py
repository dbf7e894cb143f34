"""A Ctrl-C at a known place of a command that runs in this process."""

from __future__ import annotations

import signal
import sys
from typing import Any

__all__ = ["Interrupting"]


class Interrupting:
    """A stderr whose reader presses Ctrl-C when a line says `text`."""

    def __init__(self, text: str) -> None:
        self._text, self._stream = text, sys.stderr

    def write(self, text: str) -> int:
        if self._text in text:
            self._text = "\0"
            signal.raise_signal(signal.SIGINT)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
