"""Which channels go: those whose filters have the smallest L1 norms.

Source: Li et al., Pruning Filters for Efficient ConvNets (ICLR 2017), as SphereFace's compression
did. Filters of channels that are tied (residual sums, depthwise convolutions) are ranked by the sum
of their norms and go together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError, nearest
from sphereface.pruning.channels import ChannelMap, Filters, Ids

__all__ = ["choose_kept"]

# 0.29 x 100 is 28.999999999999996.
_ROUNDING = 1e-9


def choose_kept(
    channels: ChannelMap, roots: Ids, ratio: float, keep: Mapping[str, int]
) -> NDArray[np.bool_]:
    """Return which channels stay.

    Parameters
    ----------
    channels : ChannelMap
    roots : Ids
        What ``channels.settle()`` returned.
    ratio : float
        Share of the removable channels of every convolution that goes, rounded down.
    keep : mapping of str to int
        Convolution to how many of its channels stay, in the place of `ratio`.

    Returns
    -------
    ndarray of bool
        For each channel number.

    Raises
    ------
    SphereFaceError
        `keep` names what is no convolution, or asks for what cannot be.
    """
    scores = np.zeros(len(roots))
    for filters in channels.filters:
        np.add.at(scores, roots[filters.ids], _norms(filters))
    names = [filters.layer.name for filters in channels.filters]
    for name in keep:
        if name not in names:
            raise SphereFaceError(
                f'no convolution "{name}"', where="--keep", fix=nearest(name, names)
            )
    kept = np.ones(len(roots), bool)
    guard = _Guard(channels.blobs, roots)
    for group in _groups(channels.filters, roots):
        members = np.unique(np.concatenate([roots[filters.ids] for filters in group]))
        free = np.array([root for root in members if int(root) not in channels.frozen], np.int64)
        wanted = _wanted(group, members, free, keep, channels, roots)
        count = int(ratio * len(free) + _ROUNDING) if wanted is None else len(members) - wanted
        for root in free[np.lexsort((free, scores[free]))].tolist():
            if count and guard.remove(root):
                kept[root] = False
                count -= 1
        if count and wanted is not None:
            raise SphereFaceError(
                f"{count} more channels would leave a blob without any",
                where=f"--keep {group[0].layer.name}",
            )
    return kept[roots]


def _norms(filters: Filters) -> NDArray[np.float64]:
    weight = filters.layer.weight.detach().to("cpu").double().abs().numpy()
    return weight.sum(axis=tuple(a for a in range(weight.ndim) if a != filters.axis))


def _groups(convolutions: Sequence[Filters], roots: Ids) -> list[list[Filters]]:
    """Return the convolutions in groups that have channels in common, in file order."""
    group_of: dict[int, int] = {}
    groups: dict[int, list[Filters]] = {}
    for number, filters in enumerate(convolutions):
        own = set(roots[filters.ids].tolist())
        joined = sorted({group_of[root] for root in own & group_of.keys()})
        target = joined[0] if joined else number
        members = [f for other in joined for f in groups.pop(other)]
        groups[target] = [*members, filters]
        for f in groups[target]:
            group_of.update(dict.fromkeys(roots[f.ids].tolist(), target))
    return list(groups.values())


def _wanted(
    group: Sequence[Filters],
    members: Ids,
    free: Ids,
    keep: Mapping[str, int],
    channels: ChannelMap,
    roots: Ids,
) -> int | None:
    """Return how many of `members` stay as `keep` says, or None if it does not say."""
    asked = {f.layer.name: f for f in group if f.layer.name in keep}
    if not asked:
        return None
    wishes = set()
    for name, filters in asked.items():
        where, wish, total = f"--keep {name}={keep[name]}", keep[name], len(filters.ids)
        each = total // len(members)
        if each * len(members) != total or set(roots[filters.ids].tolist()) != set(members):
            others = ", ".join(f.layer.name for f in group if f.layer.name != name)
            raise SphereFaceError(
                f"{total} channels, joined unevenly with those of {others}",
                where=where,
                expected="a convolution whose channels are tied one to one, or --ratio",
            )
        if not 1 <= wish <= total or wish % each:
            steps = f", a multiple of {each}" if each > 1 else ""
            raise SphereFaceError(f"{wish}", where=where, expected=f"1 to {total}{steps}")
        if wish // each < len(members) - len(free):
            reason = next(channels.frozen[int(r)] for r in members if int(r) in channels.frozen)
            raise SphereFaceError(
                f"{len(members) - len(free)} of its channels have to stay: {reason}", where=where
            )
        wishes.add(wish // each)
    if len(wishes) > 1:
        raise SphereFaceError(
            f"different numbers for {', '.join(asked)}",
            where="--keep",
            expected="one number, because their channels are tied",
        )
    return wishes.pop()


class _Guard:
    """Lets no blob lose its last channel."""

    def __init__(self, blobs: Sequence[Ids], roots: Ids) -> None:
        self._left: list[int] = []
        self._uses: dict[int, list[tuple[int, int]]] = {}
        for blob, ids in enumerate(blobs):
            self._left.append(len(ids))
            for root, uses in Counter(roots[ids].tolist()).items():
                self._uses.setdefault(root, []).append((blob, uses))

    def remove(self, root: int) -> bool:
        uses = self._uses.get(root, [])
        if any(self._left[blob] <= count for blob, count in uses):
            return False
        for blob, count in uses:
            self._left[blob] -= count
        return True
