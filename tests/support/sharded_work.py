"""What the processes of a test of `sphereface.distributed` do; arguments and results are numpy."""

from __future__ import annotations

import functools
import gc

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from sphereface.annealing import Annealing
from sphereface.class_range import ClassRange
from sphereface.distributed import ShardedMarginLoss, load_caffemodel, save_caffemodel
from sphereface.distributed import ranks as ranks_module
from sphereface.distributed.ranks import Ranks
from sphereface.distributed.row_service import RowService, scatter_rows
from sphereface.errors import SphereFaceError
from sphereface.margin_policy import CosFace
from sphereface.proto import schema
from sphereface.weights import StreamedArray, write_caffemodel


def shares(count, ranks, sizes=None):
    """Return the slice of `count` rows that each rank has."""
    sizes = sizes or [len(part) for part in np.array_split(np.arange(count), ranks)]
    ends = np.cumsum(sizes)
    assert ends[-1] == count
    return [slice(int(end - size), int(end)) for end, size in zip(ends, sizes, strict=True)]


def make(group, x, weight, **options):
    loss = ShardedMarginLoss(
        x.shape[1], len(weight), group=group, dtype=torch.from_numpy(x).dtype, **options
    )
    with torch.no_grad():
        loss.weight.copy_(torch.from_numpy(weight[loss.classes.rows]))
    return loss


def one_step(group, x, weight, label, options, sizes=None, cotangent=None, scale=None):
    """Return loss, gradients and statistics of this rank's share."""
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    mine = shares(len(x), ranks, sizes)[rank]
    if scale is not None:
        options = {"margin": CosFace(0.35, nn.Parameter(torch.tensor(scale).double()))}
    # A scale's gradient is the same whatever the net before does with those of x.
    loss = make(group, x, weight, backbone="sum" if scale is None else "mean", **options)
    own = torch.from_numpy(x[mine]).requires_grad_()
    value, stats = loss(own, torch.from_numpy(label[mine]), return_stats=True)
    grad = torch.ones_like(value) if cotangent is None else torch.from_numpy(cotangent[mine])
    value.backward(grad)
    return {
        "loss": value.detach().numpy(),
        "dx": own.grad.numpy(),
        "dweight": loss.weight.grad.to_dense().numpy(),
        "weight": loss.weight.detach().numpy(),
        "stats": [field.numpy() for field in stats],
        "dscale": None if loss.scale is None else loss.scale.grad.numpy(),
    }


def train_with_ddp(group, x, weight, label, first_layer, steps):
    """Train a linear net under DistributedDataParallel and the loss; return what they became."""
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    mine = shares(len(x), ranks)[rank]
    net = nn.Linear(x.shape[1], first_layer.shape[0], bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(first_layer))
    model = nn.parallel.DistributedDataParallel(net, process_group=group)
    loss = ShardedMarginLoss(
        first_layer.shape[0], len(weight), 3, annealing=Annealing(10, 0.5, 1, 1), group=group,
        dtype=torch.float64,
    )  # fmt: skip
    with torch.no_grad():
        loss.weight.copy_(torch.from_numpy(weight[loss.classes.rows]))
    optimizer = torch.optim.SGD([*net.parameters(), *loss.parameters()], 0.1, momentum=0.9)
    values = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(model(torch.from_numpy(x[mine])), torch.from_numpy(label[mine]))
        value.backward()
        optimizer.step()
        values.append(float(value))
    return values, net.weight.detach().numpy(), loss.weight.detach().numpy()


def message_of(group, x, weight, label, options, bad_rank):
    """Return the error that a NaN in the weight of one rank gives."""
    loss = make(group, x, weight, **options)
    if dist.get_rank(group) == bad_rank:
        with torch.no_grad():
            loss.weight[0, 0] = float("nan")
    try:
        loss(torch.from_numpy(x), torch.from_numpy(label))
    except SphereFaceError as error:
        return str(error)
    return None


def sampled_training(group, x, weight, label, rate, steps, folder, stop_at, kind):
    """Train with sampled classes; with `stop_at`, through a checkpoint there."""
    import torch.distributed.checkpoint as dcp

    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    mine = shares(len(x), ranks)[rank]

    def fresh():
        loss = make(group, x, weight, margin=1, gradient="exact", sample_rate=rate, seed=5)
        optimizer = kind(loss.parameters())
        loss.attach(optimizer)
        return loss, optimizer

    loss, optimizer = fresh()
    moved = []
    for step in range(steps):
        if step == stop_at:
            dcp.save(
                {"loss": loss.state_dict(), "optimizer": optimizer.state_dict()},
                checkpoint_id=folder, process_group=group,
            )  # fmt: skip
            loss, optimizer = fresh()
            # State to load into, as torch asks for: made by a step of zeros.
            loss.weight.grad = torch.zeros_like(loss.weight)
            optimizer.step()
            state = {"loss": loss.state_dict(), "optimizer": optimizer.state_dict()}
            dcp.load(state, checkpoint_id=folder, process_group=group)
            loss.load_state_dict(state["loss"])
            optimizer.load_state_dict(state["optimizer"])
        before = loss.weight.detach().clone()
        optimizer.zero_grad()
        loss(torch.from_numpy(x[mine]), torch.from_numpy(label[mine])).backward()
        drawn = loss.weight.grad.coalesce().indices()[0]
        optimizer.step()
        changed = (loss.weight.detach() != before).any(1).nonzero()[:, 0]
        moved.append((drawn.numpy(), changed.numpy()))
    return loss.weight.detach().numpy(), moved


def save_checkpoint(group, weight, folder):
    import torch.distributed.checkpoint as dcp

    loss = make(group, weight, weight, margin=1)
    loss.iteration.fill_(7)
    optimizer = torch.optim.Adam(loss.parameters())
    loss.attach(optimizer)
    loss.weight.grad = torch.from_numpy(weight[loss.classes.rows]).clone()
    optimizer.step()
    dcp.save({"loss": loss.state_dict(), "optimizer": optimizer.state_dict()},
             checkpoint_id=folder, process_group=group)  # fmt: skip
    return loss.weight.detach().numpy(), optimizer.state[loss.weight]["exp_avg"].numpy()


def load_checkpoint(group, weight, folder):
    import torch.distributed.checkpoint as dcp

    loss = make(group, weight, np.zeros_like(weight), margin=1)
    optimizer = torch.optim.Adam(loss.parameters())
    loss.attach(optimizer)
    loss.weight.grad = torch.zeros_like(loss.weight)
    optimizer.step()
    state = {"loss": loss.state_dict(), "optimizer": optimizer.state_dict()}
    dcp.load(state, checkpoint_id=folder, process_group=group)
    loss.load_state_dict(state["loss"])
    optimizer.load_state_dict(state["optimizer"])
    assert int(loss.iteration) == 7
    return loss.weight.detach().numpy(), optimizer.state[loss.weight]["exp_avg"].numpy()


def save_head(group, weight, path):
    save_caffemodel(make(group, weight, weight), path)


def load_head(group, weight, path):
    loss = make(group, weight, np.zeros_like(weight))
    load_caffemodel(loss, path)
    return loss.weight.detach().numpy()


def half_step(group, x, weight, label):
    """Return loss and gradients in bfloat16."""
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    mine = shares(len(x), ranks)[rank]
    loss = ShardedMarginLoss(
        x.shape[1], len(weight), CosFace(0.35, 10), group=group, backbone="sum",
        dtype=torch.bfloat16,
    )  # fmt: skip
    with torch.no_grad():
        loss.weight.copy_(torch.from_numpy(weight[loss.classes.rows]))
    own = torch.from_numpy(x[mine]).bfloat16().requires_grad_()
    value = loss(own, torch.from_numpy(label[mine]))
    value.backward()
    assert value.dtype == torch.float32
    return float(value), own.grad.float().numpy(), loss.weight.grad.float().numpy()


def started(group, features, classes):
    loss = ShardedMarginLoss(features, classes, group=group)
    return loss.weight.detach().numpy()


def reference_step(x, weight, label, loss_of, cotangent=None):
    """Return loss and gradients of one process; `loss_of` takes x, weight and label."""
    x, weight = (torch.from_numpy(a.copy()).requires_grad_() for a in (x, weight))
    value = loss_of(x, weight, torch.from_numpy(label))
    grad = torch.ones_like(value) if cotangent is None else torch.from_numpy(cotangent)
    value.backward(grad)
    return value.detach().numpy(), x.grad.numpy(), weight.grad.numpy()


def normalised_product(x, weight):
    return F.normalize(x) @ F.normalize(weight).T


def _parts(group, arrays):
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    parts = []
    for array in arrays:
        classes = ClassRange.of(rank, ranks, len(array))
        parts.append((torch.from_numpy(array[classes.rows].copy()), classes))
    return parts


def write_whole(group, arrays, path):
    """Write one caffemodel of arrays that are split; return the largest piece on rank 0."""
    parts, largest = _parts(group, arrays), 0

    def watched(array):
        nonlocal largest
        for piece in array.pieces():
            largest = max(largest, piece.nbytes)
            yield piece

    with RowService(Ranks(group), parts) as service:
        if dist.get_rank(group) == 0:
            layers = []
            for index, (tensor, _) in enumerate(parts):
                whole = service.whole(tensor)
                stream = StreamedArray(whole.shape, functools.partial(watched, whole))
                header = schema.message("LayerParameter")(name=f"w{index}", type="InnerProduct")
                layers.append((schema.encode(header), [stream]))
            write_caffemodel(path, "net", layers)
    return largest


def fail_while_writing(group, array):
    parts = _parts(group, [array])
    try:
        with RowService(Ranks(group), parts) as service:
            if dist.get_rank(group) == 0:
                pieces = service.whole(parts[0][0]).pieces()
                next(pieces), next(pieces)
                raise OSError("disk full")
    except OSError as error:
        return str(error)
    return "served"


def scattered(group, rows, columns):
    classes = ClassRange.of(dist.get_rank(group), dist.get_world_size(group), rows)
    part = torch.zeros(classes.count, columns)
    generator = torch.Generator().manual_seed(4)
    scatter_rows(Ranks(group), part, classes, lambda t: t.normal_(generator=generator))
    return part.numpy()


class _SentBytes:
    """Counts what a rank sends in rings, by the arguments of torch.distributed's calls."""

    def __init__(self, ranks):
        self.ranks, self.sent = ranks, 0.0

    def __enter__(self):
        share = (self.ranks - 1) / self.ranks
        calls = [
            (ranks_module, "_all_gather", lambda out, *_: share * out.nbytes),
            (ranks_module, "_reduce_scatter", lambda out, rows, *_: share * rows.nbytes),
            (dist, "all_reduce", lambda values, *_: 2 * share * values.nbytes),
        ]
        self.kept = [(place, name, getattr(place, name)) for place, name, _ in calls]
        for place, name, size in calls:
            setattr(place, name, functools.partial(self._count, getattr(place, name), size))
        return self

    def _count(self, call, size, *arguments, **keywords):
        self.sent += size(*arguments)
        return call(*arguments, **keywords)

    def __exit__(self, *raised):
        for place, name, call in self.kept:
            setattr(place, name, call)


def measured_step(group, classes, batch, features, memory, rate, optimizer):
    """Return the bytes that a step of this rank keeps, allocates at its peak, and sends."""
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    loss = ShardedMarginLoss(
        features, classes, CosFace(0.35, 10), sample_rate=rate, group=group,
        memory=memory,
    )  # fmt: skip
    kinds = {
        "sgd": functools.partial(torch.optim.SGD, lr=0.1),
        "momentum": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "adam": torch.optim.Adam,
    }
    optimizer = kinds[optimizer](loss.parameters())
    loss.attach(optimizer)
    gc.collect()  # what earlier steps left would count as given back in this one
    generator = torch.Generator().manual_seed(rank)
    x = torch.randn(batch // ranks, features, generator=generator, requires_grad=True)
    label = torch.randint(classes, (batch // ranks,), generator=generator)
    with (
        _SentBytes(ranks) as traffic,
        torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile,
    ):
        loss(x, label).backward()
    held = peak = 0
    events = profile.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    grad = loss.weight.grad
    if grad.is_sparse:
        grad = grad.coalesce()
        gradient = grad.values().nbytes + grad.indices().nbytes
    else:
        gradient = grad.nbytes
    optimizer.step()
    state = optimizer.state[loss.weight].values()
    return {
        "weight": loss.weight.nbytes,
        "state": sum(t.nbytes for t in state if t is not None and t.dim() == 2),
        "gradient": gradient,
        "peak": peak,
        "sent": traffic.sent,
    }


def seen_in_a_step(group, x, weight, label, options, sizes):
    """Return what the buffers of a training step say, and the logits of this rank afterwards."""
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    mine = shares(len(x), ranks, sizes)[rank]
    loss = make(group, x, weight, **options)
    loss(torch.from_numpy(x[mine]), torch.from_numpy(label[mine]))
    seen = [float(getattr(loss, name)) for name in ("lambda_", "target_cosine", "x_norm")]
    logits = loss.eval()(torch.from_numpy(x[mine]))
    return seen, logits.detach().numpy()
