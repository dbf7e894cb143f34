"""Which layers of a net run backward, and to which bottoms.

Source: the second half of Net::Init (net.cpp). Without ``force_backward`` only what leads from a
learning parameter to a loss has a gradient: a deploy net has none at all, and the data have none.
"""

from __future__ import annotations

from typing import NamedTuple

from sphereface.caffe import Net

__all__ = ["BackwardPlan", "plan_backward"]

# Bottoms whose gradient Caffe does not compute even if forced, where torch would (the targets of a
# loss, the sequence marks of a recurrent layer).
_NEVER_FORCED = {("SigmoidCrossEntropyLoss", 1), ("LSTM", 1), ("RNN", 1)}


class BackwardPlan(NamedTuple):
    """For each layer whether it runs backward, and for each of its bottoms whether it does so."""

    layers: list[bool]
    bottoms: list[list[bool]]


def plan_backward(net: Net) -> BackwardPlan:
    """Return Caffe's plan for a net whose blobs have one reader each (`insert_splits`)."""
    plan = _from_parameters(net)
    _to_losses(net, plan)
    if net.force_backward:
        for node, wanted in zip(net.graph.nodes, plan.bottoms, strict=True):
            plan.layers[node.index] = True
            for position in range(len(wanted)):
                wanted[position] |= (node.type, position) not in _NEVER_FORCED
    return plan


def _from_parameters(net: Net) -> BackwardPlan:
    """Mark what is computed from parameters that learn."""
    plan = BackwardPlan([], [])
    depends = [False] * len(net.graph.blob_names)
    for node, layer in zip(net.graph.nodes, net.layers, strict=True):
        wishes = list(node.param.propagate_down)
        plan.bottoms.append(wishes or [depends[slot] for slot in node.bottoms])
        runs = any(depends[slot] for slot in node.bottoms) or any(layer.lr_mult)
        plan.layers.append(runs)
        for slot in node.tops:
            depends[slot] = runs
    return plan


def _to_losses(net: Net, plan: BackwardPlan) -> None:
    """Unmark what no loss depends on, and layers all of whose tops stay without a diff."""
    names = net.graph.blob_names
    under_loss: set[str] = set()
    without_diff: set[str] = set()
    for node, layer in zip(reversed(net.graph.nodes), reversed(net.layers), strict=True):
        wanted = plan.bottoms[node.index]
        tops = [names[slot] for slot in node.tops]
        contributes = any(layer.loss_weight) or not under_loss.isdisjoint(tops)
        if not contributes or without_diff.issuperset(tops):
            plan.layers[node.index] = False
            wanted[:] = [False] * len(wanted)
        for slot, wish in zip(node.bottoms, wanted, strict=True):
            if contributes:
                under_loss.add(names[slot])
            if not wish:
                without_diff.add(names[slot])
