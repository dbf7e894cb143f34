"""Processes that form a gloo group, started once for a whole run of tests.

A test hands `run` a function of a module in this folder, the number of ranks that call it and its
arguments; the function gets the group first.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

PROCESSES = 4


def _serve(rank: int, meeting: str, tasks: Any, answers: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=PROCESSES)
    groups = {n: dist.new_group(list(range(n))) for n in range(1, PROCESSES + 1)}
    while True:
        work, ranks, arguments = tasks.get()
        try:
            answers.put((rank, work(groups[ranks], *arguments), None))
        except Exception:
            answers.put((rank, None, traceback.format_exc()))


class RankPool:
    def __init__(self, folder: Path) -> None:
        context = mp.get_context("spawn")
        self._tasks = [context.SimpleQueue() for _ in range(PROCESSES)]
        self._answers = context.SimpleQueue()
        meeting = (folder / "meeting").as_uri()
        self._processes = [
            context.Process(target=_serve, args=(rank, meeting, tasks, self._answers), daemon=True)
            for rank, tasks in enumerate(self._tasks)
        ]
        for process in self._processes:
            process.start()

    def run(self, work: Callable[..., Any], ranks: int, *arguments: Any) -> list[Any]:
        """Return what each of `ranks` processes returned."""
        for tasks in self._tasks[:ranks]:
            tasks.put((work, ranks, arguments))
        results = sorted((self._answers.get() for _ in range(ranks)), key=lambda answer: answer[0])
        errors = [error for _, _, error in results if error]
        assert not errors, "\n".join(errors)
        return [result for _, result, _ in results]

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
