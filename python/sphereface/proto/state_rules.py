"""Which layers a net keeps: include and exclude rules against phase, level and stages.

Source: Net::FilterNet and Net::StateMeetsRule of Caffe.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sphereface.errors import SphereFaceError, nearest
from sphereface.proto import schema

__all__ = [
    "filter_by_state",
    "filter_net",
    "kept_layers",
    "meets_rule",
    "phase_number",
    "state_text",
]


def phase_number(phase: str | int) -> int:
    """Return 0 for ``"TRAIN"`` and 1 for ``"TEST"``, in any case, or the number itself."""
    phases = schema.enum_values("Phase")
    if isinstance(phase, str) and phase.upper() in phases:
        return phases[phase.upper()]
    if phase in (schema.TRAIN, schema.TEST):
        return int(phase)
    raise SphereFaceError(
        f"phase {phase!r}", expected='"TRAIN" or "TEST"', fix=nearest(str(phase), phases)
    )


def state_text(state: Any) -> str:
    """Return ``"phase TEST, level 1, stage deploy"`` of a NetState, for errors."""
    words = [f"phase {'TEST' if state.phase == schema.TEST else 'TRAIN'}"]
    words += [f"level {state.level}"] if state.level else []
    words += [f"stage {name}" for name in state.stage]
    return ", ".join(words)


def meets_rule(state: Any, rule: Any) -> bool:
    """Tell whether a NetState satisfies every condition of a NetStateRule."""
    stages = set(state.stage)
    return (
        (not rule.HasField("phase") or rule.phase == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and stages.issuperset(rule.stage)
        and stages.isdisjoint(rule.not_stage)
    )


def kept_layers(net: Any) -> list[int]:
    """Return the indices of the layers that ``net.state`` keeps.

    A layer without rules stays; with ``include`` one rule must be met, with ``exclude`` none.

    Raises
    ------
    SphereFaceError
        A layer has both ``include`` and ``exclude``.
    """
    kept = []
    for index, layer in enumerate(net.layer):
        if layer.include and layer.exclude:
            raise SphereFaceError(
                "both include and exclude rules",
                where=f'layer "{layer.name}" ({layer.type})',
                expected="one kind",
            )
        rules = layer.include or layer.exclude
        if any(meets_rule(net.state, rule) for rule in rules) == bool(layer.include):
            kept.append(index)
    return kept


def filter_by_state(net: Any) -> Any:
    """Return a copy of an upgraded NetParameter with the layers that its own state keeps."""
    result = type(net)()
    result.CopyFrom(net)
    result = schema.current(result)
    dropped = set(range(len(net.layer))).difference(kept_layers(net))
    for index in sorted(dropped, reverse=True):
        del result.layer[index]
    return result


def filter_net(net: Any, phase: str | int, level: int = 0, stages: Iterable[str] = ()) -> Any:
    """Return a copy of `net` with the layers of a phase, level and stages.

    As Caffe's Net(file, phase, level, stages): phase and level replace those of the net's own
    state, stages are added to it. The result's ``state`` says which were used.
    """
    result = type(net)()
    result.CopyFrom(net)
    result.state.phase = phase_number(phase)
    result.state.level = level
    result.state.stage.extend(stages)
    return filter_by_state(result)
