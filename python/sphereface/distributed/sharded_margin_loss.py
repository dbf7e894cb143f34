"""A margin softmax loss whose class weights are split over processes.

Source: Deng et al., "ArcFace", CVPR 2019, section 3.1; An et al., "Partial FC", 2021. What differs:
every softmax member of the family, A-Softmax with its annealing included; processes may have
different numbers of rows, and classes that do not divide evenly.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sphereface.annealing import Annealing
from sphereface.class_range import ClassRange
from sphereface.distributed.first_rows import fill_rows
from sphereface.distributed.optimizer_rows import OptimizerRows
from sphereface.distributed.ranks import Ranks
from sphereface.distributed.row_losses import row_losses
from sphereface.distributed.row_problem import RowProblem
from sphereface.distributed.sampling import ClassSampler
from sphereface.distributed.shared_values import shared_value, total_of_shares
from sphereface.errors import SphereFaceError
from sphereface.loss_options import named_loss_options
from sphereface.margin_policy import MarginPolicy, policy_of
from sphereface.nn.margin_inner_product import SEEN, check_integer
from sphereface.ops import annealed_lambda
from sphereface.ops.labels import check_tensors, class_numbers
from sphereface.ops.margin_softmax import MarginSoftmaxStats, plain_logits, scaled_rows
from sphereface.ops.products import product_dtype

__all__ = ["ShardedMarginLoss"]


class ShardedMarginLoss(nn.Module):
    """Margin softmax loss over classes that are split over the processes of a group.

    Each process has the rows of the weight of its `classes`, and gives its own rows of x. What it
    returns is the loss of one process on the rows of all in the order of the ranks, and so are the
    gradients. All processes make the module, and run forward and backward, together. Keep it out of
    DistributedDataParallel, which would average the shares.

    Parameters
    ----------
    in_features, num_classes : int
        K and N, over all processes.
    margin : float, str or policy
        As in `sphereface.margin_softmax_loss`, but not SphereFace2 and without a bias. A scale that
        is a Parameter is one of the module's, with the gradient of all processes' rows.
    annealing : Annealing, optional
        Of lambda with the training forwards, as in `sphereface.nn.ASoftmaxLoss`; None is lambda 0.
    gradient : {"caffe", "exact"}
        Of A-Softmax, in training.
    ignore_index : int, optional
        Rows with this label count for nothing.
    sample_rate : float
        Below 1, only this part of each process's classes takes part in a training step: those of
        the batch and random others (Partial FC). Needs `attach`.
    backbone : {"mean", "sum"}
        What is done with the processes' gradients of the net before the loss: their mean, as
        DistributedDataParallel and FSDP do, or their sum.
    equal_batches : bool
        Every process always has as many rows. Without it they tell each other, which waits for a
        GPU.
    seed : int
        Of the weight's start and of sampling; the same on every process.
    group : ProcessGroup, optional
        Who shares the classes; by default all processes of torch.distributed.
    device, dtype
        Of the weight.
    reduction, label_smoothing, class_weight, memory, products
        As `sphereface.margin_softmax_loss`: `class_weight` of all classes, `memory` of a process;
        the rows are sent in the dtype of the products, too.

    Attributes
    ----------
    classes : ClassRange
        Which classes are here.
    weight : Parameter of shape (classes.count, K)
        Their rows, filled uniformly in +-sqrt(3 / K); the start does not depend on the number of
        processes. In the state_dict it is a DTensor of shape (N, K), so that
        torch.distributed.checkpoint saves the whole and loads it on any number of processes.
    iteration : Tensor of shape (), int64
        Training forwards so far.
    lambda_ : Tensor of shape (), float32
        Buffer, not saved: lambda at the current count; 0 without annealing.
    target_cosine, x_norm : Tensor of shape (), float32
        Buffers, not saved, the same on every process: the mean cosine between the rows of all
        processes in the last forward and the weights of their labels (NaN if none has a label), and
        the mean length of these rows. Both are 0 before.

    Raises
    ------
    SphereFaceError
        An option is out of its range, or does not go with sampling.

    Examples
    --------
    >>> loss = ShardedMarginLoss(512, 1_000_000, sphereface.margin_policy.CosFace())
    ... # doctest: +SKIP
    """

    iteration: Tensor
    lambda_: Tensor
    target_cosine: Tensor
    x_norm: Tensor
    class_weight: Tensor | None
    class_weight_sum: Tensor | None

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: float | str | MarginPolicy = 4,
        *,
        annealing: Annealing | None = None,
        gradient: str = "caffe",
        ignore_index: int | None = None,
        sample_rate: float = 1.0,
        backbone: str = "mean",
        equal_batches: bool = False,
        seed: int = 0,
        group: dist.ProcessGroup | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **loss_options: Any,
    ) -> None:
        super().__init__()
        self.in_features = check_integer("in_features", in_features, 1)
        self.num_classes = check_integer("num_classes", num_classes, 1)
        self.margin = policy_of(margin, type(self).__name__)
        if not (annealing is None or isinstance(annealing, Annealing)):
            raise _error(f"annealing is {annealing!r}", "a sphereface.annealing.Annealing or None")
        self.annealing, self.gradient = annealing, gradient
        if self.margin.binary or self.margin.bias is not None:
            raise _error(f"margin is {self.margin}", "a softmax member without a bias")
        self.exact = self.margin.is_exact(gradient)
        self.scale = self.margin.scale if isinstance(self.margin.scale, nn.Parameter) else None
        self.ignore_index, self.equal_batches = ignore_index, equal_batches
        if backbone not in ("mean", "sum"):
            raise _error(f"backbone is {backbone!r}", '"mean" or "sum"')
        self.backbone = backbone
        self.ranks = Ranks(group)
        self.classes = ClassRange.of(self.ranks.rank, self.ranks.ranks, self.num_classes)
        self.sampler = ClassSampler(sample_rate, check_integer("seed", seed, 0))
        options = named_loss_options(loss_options, self.num_classes, type(self).__name__)
        self._set_options(options, device, dtype)
        self.weight = nn.Parameter(
            torch.empty(self.classes.count, self.in_features, device=device, dtype=dtype)
        )
        self.register_buffer("iteration", torch.zeros((), dtype=torch.int64, device=device))
        for name in SEEN:
            seen = torch.zeros((), dtype=torch.float32, device=device)
            self.register_buffer(name, seen, persistent=False)
        self._attached: OptimizerRows | None = None
        self.reset_parameters()
        self.register_state_dict_post_hook(_shard_weight)
        self.register_load_state_dict_pre_hook(_localise_weight)

    def _set_options(self, options: dict[str, Any], device: Any, dtype: Any) -> None:
        self.reduction: str = options["reduction"]
        self.label_smoothing: float = options["label_smoothing"]
        self.memory: str | int | None = options["memory"]
        self.products: torch.dtype | str | None = options["products"]
        whole = options["class_weight"]
        if self.sampler.rate < 1 and (self.label_smoothing or whole is not None):
            raise _error(
                "label_smoothing or class_weight with sample_rate below 1",
                "neither: they are sums over all classes",
            )
        own = total = None
        if whole is not None:
            math_dtype = torch.promote_types(dtype or torch.get_default_dtype(), torch.float32)
            whole = whole.detach().to(math_dtype)
            own, total = whole[self.classes.rows].clone().to(device), whole.sum().to(device)
        self.register_buffer("class_weight", own, persistent=False)
        self.register_buffer("class_weight_sum", total, persistent=False)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fill the weight in +-sqrt(3 / in_features), whatever the split, and start counting."""
        fill_rows(self.weight, self.classes, self.sampler.seed)
        self.iteration.zero_()
        for name in SEEN:
            getattr(self, name).zero_()
        self._anneal()
        self.sampler.draws = 0

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Let `optimizer`, which has the weight, follow sampling and checkpoints; once.

        Its ``state_dict()`` then holds the state of the weight as a DTensor. With sampling, its
        steps touch the rows that took part only.

        Raises
        ------
        SphereFaceError
            The optimiser does not have the weight, or one is attached already.
        """
        if self._attached is not None:
            raise _error("a second optimizer", "one")
        if not any(p is self.weight for group in optimizer.param_groups for p in group["params"]):
            raise _error("an optimizer without this weight", "one made with parameters()")
        self._attached = OptimizerRows(optimizer, self.weight, self.sharded, self.local)

    def forward(
        self, x: Tensor, label: Tensor | None = None, return_stats: bool = False
    ) -> Tensor | tuple[Tensor, MarginSoftmaxStats]:
        """Return the loss over the rows of all processes; without a label, logits.

        Without a label, in evaluation mode, it returns the logits (M, classes.count) without a
        margin of this process's rows for this process's `classes`. Nothing is exchanged then, so
        that processes may call it on their own.

        Parameters
        ----------
        x : Tensor of shape (M, K)
            This process's embeddings; M may be 0.
        label : Tensor of shape (M,) of integers, optional
            Counted over all classes.
        return_stats : bool
            Return a `MarginSoftmaxStats` of this process's rows as well.

        Returns
        -------
        Tensor
            Of shape (), the same on every process; with ``reduction="none"`` this process's (M,).

        Raises
        ------
        SphereFaceError
            As `sphereface.margin_softmax_loss`; no label in training mode; sampling has no
            optimiser.
        """
        check_tensors(type(self).__name__, x=x)
        if x.dim() != 2 or x.shape[1] != self.in_features:
            raise _error(f"x has shape {tuple(x.shape)}", f"(M, {self.in_features})")
        if label is None:
            return self._logits(x, return_stats)
        check_tensors(type(self).__name__, label=label)
        label = class_numbers(label, x, self.num_classes)
        if len(label) != len(x):
            raise _error(f"{len(label)} labels for {len(x)} rows of x", "as many")
        products = product_dtype(self.products, x)
        if torch.is_autocast_enabled(x.device.type):
            x = x.float()
        policy = self.margin
        input_scale = self.ranks.ranks if self.backbone == "mean" else 1
        if self.scale is not None:
            shared = shared_value(self.scale, self.ranks, input_scale)
            policy = dataclasses.replace(policy, scale=shared)  # type: ignore[type-var]
        lengths = torch.linalg.vector_norm(x.detach(), dim=1)
        x = scaled_rows(x, policy)
        exact = self.exact or not self.training
        problem = RowProblem(
            self.classes,
            self.ranks,
            self.margin,
            exact,
            in_place=not exact,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            memory=self.memory,
            products=products,
            equal_batches=self.equal_batches,
            sampler=self._sampler(),
            input_scale=input_scale,
            want_stats=return_stats,
        )
        losses, counts, stats, means = row_losses(
            x,
            self.weight,
            label,
            self._lambda(),
            problem,
            self.class_weight,
            self.class_weight_sum,
            lengths,
        )
        self.target_cosine.copy_(means[0])
        self.x_norm.copy_(means[1])
        loss = losses if self.reduction == "none" else self._reduced(losses, counts)
        return (loss, stats) if return_stats else loss

    def _logits(self, x: Tensor, return_stats: bool) -> Tensor:
        if self.training or return_stats:
            raise _error(
                "no label" + (" in training mode" if self.training else " with return_stats"),
                "x and label",
                "after eval() it gives this process's logits without a margin",
            )
        return plain_logits(x, self.weight, self.margin)

    def _sampler(self) -> ClassSampler | None:
        if not self.training or self.sampler.rate == 1:
            return None
        if self._attached is None:
            raise _error(
                "sampling of classes without an optimizer",
                "attach(optimizer) before the first step",
                "others would move the classes that take no part, by their momentum",
            )
        return self.sampler

    @torch.no_grad()
    def _lambda(self) -> Tensor:
        if self.training:
            self.iteration.add_(1)
        return self._anneal()

    @torch.no_grad()
    def _anneal(self) -> Tensor:
        if self.annealing is None:
            return torch.zeros((), device=self.iteration.device)
        lambda_ = annealed_lambda(self.iteration, *self.annealing)
        self.lambda_.copy_(lambda_)
        return lambda_

    def _reduced(self, losses: Tensor, counts: Tensor) -> Tensor:
        own = losses.sum()
        if self.reduction == "mean":
            own = own / self.ranks.total(counts.sum())
        return total_of_shares(own, self.ranks)

    # ---- state

    def get_extra_state(self) -> Tensor:
        """Return the seed and the count of samples that were drawn, for the state_dict."""
        return torch.tensor([self.sampler.seed, self.sampler.draws])

    def set_extra_state(self, state: Tensor) -> None:
        """Go on with the seed and the count of a state_dict."""
        self.sampler.seed, self.sampler.draws = (int(value) for value in state)

    def sharded(self, tensor: Tensor) -> Tensor:
        """Return a tensor of this process's rows as the DTensor (N, K) of which it is a part."""
        if self.ranks.ranks == 1:
            return tensor
        # Imported where they are needed: it takes seconds.
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.tensor import DTensor, Shard

        group = self.ranks.group or dist.group.WORLD
        assert group is not None
        return DTensor.from_local(
            tensor,
            DeviceMesh.from_group(group, tensor.device.type),
            [Shard(0)],
            run_check=False,
            shape=torch.Size((self.num_classes, self.in_features)),
            stride=(self.in_features, 1),
        )

    def local(self, tensor: Tensor) -> Tensor:
        """Return this process's rows of a DTensor, or of a whole weight (N, K)."""
        if hasattr(tensor, "to_local"):
            part: Tensor = tensor.to_local()
            return part
        if self.ranks.ranks > 1 and len(tensor) == self.num_classes:
            return tensor[self.classes.rows]
        return tensor

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        names = ("annealing", "ignore_index", "memory", "products")
        chosen = [f"{n}={getattr(self, n)}" for n in names if getattr(self, n) is not None]
        if self.label_smoothing:
            chosen.append(f"label_smoothing={self.label_smoothing:g}")
        if self.sampler.rate < 1:
            chosen.append(f"sample_rate={self.sampler.rate:g}")
        first, count = self.classes.first, self.classes.count
        here = f"classes {first} to {first + count - 1} here" if count else "no classes here"
        sizes = f"in_features={self.in_features}, num_classes={self.num_classes}"
        kind = f"margin={self.margin}, gradient={self.gradient!r}, reduction={self.reduction!r}"
        return ", ".join([sizes, kind, *chosen, here])


def _shard_weight(
    module: ShardedMarginLoss, state_dict: dict[str, Any], prefix: str, metadata: Any
) -> None:
    key = f"{prefix}weight"
    state_dict[key] = module.sharded(state_dict[key])


def _localise_weight(
    module: ShardedMarginLoss, state_dict: dict[str, Any], prefix: str, *_: Any
) -> None:
    key = f"{prefix}weight"
    if key in state_dict:
        state_dict[key] = module.local(state_dict[key])


def _error(problem: str, expected: str, fix: str = "") -> SphereFaceError:
    return SphereFaceError(problem, where="ShardedMarginLoss", expected=expected, fix=fix)
