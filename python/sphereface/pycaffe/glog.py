"""``caffe.init_log`` and ``caffe.log``: glog's lines on stderr.

Source: InitLog and Log of python/caffe/_caffe.cpp. What differs: with ``stderr=False`` nothing is
written, where glog writes files in /tmp.
"""

from __future__ import annotations

import os
import sys

from sphereface.solver.caffe_log import log_line

__all__ = ["init_log", "log", "logs_information"]

_level: int | None = None
_to_stderr = True


def init_log(level: int | None = None, stderr: bool = True) -> None:
    """Choose what is logged from now on.

    Parameters
    ----------
    level : int, optional
        0 for everything, 1 or more for nothing of a training; by default GLOG_minloglevel.
    stderr : bool
        Write it to stderr.
    """
    global _level, _to_stderr
    _level, _to_stderr = level, stderr


def log(message: str) -> None:
    """Write a line of level 0 (several lines: as they are, after one prefix)."""
    if logs_information():
        sys.stderr.write(log_line(message, "_caffe.cpp", 62))
        sys.stderr.flush()


def logs_information() -> bool:
    """Tell whether messages of level 0 are written, such as those of a training."""
    level = os.environ.get("GLOG_minloglevel") or 0 if _level is None else _level  # noqa: SIM112
    return int(level) < 1 and _to_stderr
