"""A forked child computes with one thread.

Threads do not survive a fork, and OpenMP's waits for ever for those that the parent had. torch's
own DataLoader does the same in its workers. A program that wants more threads starts its processes
by "spawn" or "forkserver".
"""

from __future__ import annotations

import os

import torch

__all__: list[str] = []


def _compute_with_one_thread() -> None:
    torch.set_num_threads(1)


os.register_at_fork(after_in_child=_compute_with_one_thread)
