"""What folding did to a net, as a text."""

from __future__ import annotations

from sphereface.inference.fused.fold import Folded

__all__ = ["fused_text"]


def fused_text(folded: Folded) -> str:
    """Return a line an operation, the layers in it joined by ``+``, and what was dropped."""
    lines = [" + ".join(operation.names) for operation in folded.operations]
    layers = sum(len(operation.names) for operation in folded.operations)
    if folded.dropped:
        lines.append(f"dropped, as they do nothing in TEST: {', '.join(folded.dropped)}")
    total = layers + len(folded.dropped)
    return "\n".join([*lines, f"{total} layers run as {len(folded.operations)} operations"])
