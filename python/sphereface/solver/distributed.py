"""Several processes that train together, one a device.

Source: P2PSync and NCCL of Caffe's parallel.cpp: every process runs the prototxt's batch on its own
part of the data, gradients are averaged, rank 0 logs and snapshots. What differs: it also works on
CPUs (gloo) and over machines (torchrun); losses are averaged too, so that all see the same ones;
one reduction an iteration, whatever ``iter_size`` is.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from sphereface.allocator import tune_allocator
from sphereface.distributed.ranks import Ranks
from sphereface.errors import SphereFaceError
from sphereface.solver.records import SolverCallback
from sphereface.solver.sharded_classes import Sharing
from sphereface.solver.signals import Action

if TYPE_CHECKING:
    from sphereface.solver.solver import Solver

__all__ = ["Place", "RankGroup", "StartTogether", "devices_of", "spawn", "torchrun_place"]

_ACTIONS = (Action.NONE, Action.SNAPSHOT, Action.STOP)  # a later one wins over those before
_GRACE = 60.0  # seconds in which the others may snapshot and end when one process failed
_POLL = 0.2  # seconds between two looks at the signals, while other processes train
_BAD_INPUT = 2


@dataclass(frozen=True)
class Place:
    """One process's part.

    Attributes
    ----------
    rank, ranks : int
        Which of how many.
    device : str
        Where it computes; empty to let the solver's prototxt say.
    meeting : str
        ``init_method`` of torch.distributed.
    """

    rank: int = 0
    ranks: int = 1
    device: str = ""
    meeting: str = "env://"


def devices_of(gpu: str | None, ranks: int = 1) -> list[str]:
    """Return the device of each process for Caffe's flag ``-gpu``: ``0,1``, ``all`` or ``none``.

    Without the flag, the prototxt's ``solver_mode`` decides, which is the device ``""``.

    Raises
    ------
    SphereFaceError
        A GPU that there is not, or several processes that are not for CPUs.
    """
    if ranks < 1 or (ranks > 1 and gpu != "none"):
        raise SphereFaceError(
            f"{ranks}", where="--ranks", expected="1 or more, with --gpu none (processes on CPUs)"
        )
    if gpu is None:
        return [""]
    if gpu == "none":
        return ["cpu"] * ranks
    count = torch.cuda.device_count()
    wanted = list(map(str, range(count))) if gpu == "all" else gpu.split(",")
    known = {str(index) for index in range(count)}
    if not wanted or not known.issuperset(wanted) or len(set(wanted)) < len(wanted):
        there = f"one or more of {', '.join(sorted(known))}, or " if known else ""
        raise SphereFaceError(
            f'"{gpu}"' if known else f'"{gpu}", and torch sees no CUDA device',
            where="--gpu",
            expected=f"{there}none",
        )
    return [f"cuda:{index}" for index in wanted]


def torchrun_place(gpu: str | None) -> Place | None:
    """Return this process's place if torchrun started it, else None."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1 or "RANK" not in os.environ:
        return None
    local = int(os.environ.get("LOCAL_RANK", "0"))
    use_gpu = gpu != "none" and torch.cuda.is_available()
    return Place(int(os.environ["RANK"]), ranks, f"cuda:{local}" if use_gpu else "cpu")


class RankGroup:
    """The processes that train together; with one of them, nothing happens.

    A context manager: entering waits for all.
    """

    def __init__(self, place: Place) -> None:
        self.rank, self.ranks = place.rank, place.ranks
        self._place = place
        self._control: Any = None

    def __enter__(self) -> RankGroup:
        if self.ranks > 1:
            cuda = self._place.device.startswith("cuda")
            if cuda:
                torch.cuda.set_device(self._place.device)
            dist.init_process_group(
                "nccl" if cuda else "gloo",
                init_method=self._place.meeting,
                rank=self.rank,
                world_size=self.ranks,
            )
            # Agreements are between CPUs: they must not wait for a GPU.
            self._control = dist.new_group(backend="gloo")
        return self

    def __exit__(self, *raised: object) -> None:
        if self.ranks > 1:
            dist.destroy_process_group()

    def sharing(self) -> Sharing:
        """Return who shares the classes of a net that is split over the processes."""
        return Sharing(Ranks(), Ranks(self._control))

    def share(self, value: int) -> int:
        """Return rank 0's value."""
        if self.ranks == 1:
            return value
        box = torch.tensor([value])
        dist.broadcast(box, 0, group=self._control)
        return int(box)

    def agree(self, action: Action) -> Action:
        """Return the weightiest action that any rank was asked for."""
        if self.ranks == 1:
            return action
        box = torch.tensor([_ACTIONS.index(action)])
        dist.all_reduce(box, dist.ReduceOp.MAX, group=self._control)
        return _ACTIONS[int(box)]

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the ranks."""
        if self.ranks == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.ranks
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def give(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by rank 0's."""
        for tensor in tensors:
            box = tensor.detach().contiguous()
            dist.broadcast(box, 0)
            tensor.detach().copy_(box)


class StartTogether(SolverCallback):
    """Gives every rank the weights of rank 0 before anything is computed.

    Rank 0 alone resumes the random numbers of its snapshot; the others start theirs anew, or all
    would drop out the same units.
    """

    def __init__(self, group: RankGroup) -> None:
        self._group, self._done = group, group.ranks == 1
        self._seed = torch.initial_seed() + group.rank

    def on_solve(self, solver: Solver) -> None:
        """Spread the weights."""
        if self._group.ranks == 1:
            return
        own = {id(blob) for layer in solver.net.layers if layer.part for blob in layer.blobs}
        state = solver.net.state_dict(keep_vars=True).values()
        self._group.give([tensor for tensor in state if id(tensor) not in own])

    def on_forward(self, solver: Solver) -> None:
        """Start the random numbers, once."""
        if self._done:
            return
        self._done = True
        if self._group.rank:
            torch.manual_seed(self._seed + solver.iter)


# ---- starting the processes


def spawn(
    work: Callable[[Place, Any, Callable[[], Action]], None],
    devices: Sequence[str],
    options: Any,
    asked: Callable[[], Action],
) -> None:
    """Run ``work(place, options, action)`` in a process for each device, and wait for them.

    Parameters
    ----------
    work : callable
        Of a module's level; what it gets must be picklable.
    devices : sequence of str
        One a process.
    options : object
        Handed on.
    asked : callable
        What signals ask for, in this process; rank 0 hears of it.

    Raises
    ------
    SphereFaceError
        A process raised one; the others are ended.
    """
    import torch.multiprocessing as mp

    context = mp.get_context("spawn")
    request, errors = context.Value("i", 0), context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        processes = mp.start_processes(
            _child,
            (work, list(devices), meeting, options, request, errors),
            nprocs=len(devices),
            join=False,
            start_method="spawn",
        )
        try:
            action = Action.NONE
            while not processes.join(timeout=_POLL, grace_period=_GRACE):
                # Signals after a stop have their usual effect again.
                if action is not Action.STOP and (action := asked()) is not Action.NONE:
                    request.value = _ACTIONS.index(action)
        except (mp.ProcessExitedException, mp.ProcessRaisedException) as error:
            if errors.empty():
                raise SphereFaceError(
                    f"a training process failed: {str(error).strip()}", where="--gpu"
                ) from None
            raise SphereFaceError(errors.get()) from None
        finally:
            for process in processes.processes:
                if process.is_alive():
                    process.kill()  # snapshots survive that


def _child(
    rank: int,
    work: Callable[[Place, Any, Callable[[], Action]], None],
    devices: Sequence[str],
    meeting: str,
    options: Any,
    request: Any,
    errors: Any,
) -> None:
    import signal

    # A terminal's Ctrl-C, or a scheduler's SIGTERM, reaches every process; the one that started
    # them hears it and tells.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    tune_allocator()
    if devices[rank] == "cpu":
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // len(devices)))

    def action() -> Action:
        if rank:
            return Action.NONE
        with request.get_lock():
            asked, request.value = request.value, 0
        return _ACTIONS[asked]

    try:
        work(Place(rank, len(devices), devices[rank], meeting), options, action)
    except SphereFaceError as error:
        errors.put(str(error))
        sys.exit(_BAD_INPUT)
    except OSError as error:
        if error.filename is None:
            raise
        errors.put(f"{error.filename}: {error.strerror}")
        sys.exit(_BAD_INPUT)
