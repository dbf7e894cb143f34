"""What of a run Caffe's two files do not hold, into a sidecar and back.

Source: Solver::Snapshot and Restore. What differs: without a sidecar, the counters that Caffe
starts again (of margin layers), or takes from the solver (of GradientScaler), follow from the
iteration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sphereface.caffe import Net
from sphereface.caffe.batch_source import BatchSource
from sphereface.caffe.layers.gradient_scaler import GradientScaler
from sphereface.caffe.layers.label_specific import LabelSpecificAdd
from sphereface.caffe.layers.margin_inner_product import AnnealedProduct
from sphereface.errors import SphereFaceError
from sphereface.solver.passes import Passes
from sphereface.solver.sidecar import Sidecar, load_buffers, net_buffers

__all__ = ["RunState"]

_COUNTING = (AnnealedProduct, LabelSpecificAdd, GradientScaler)


@dataclass(frozen=True)
class RunState:
    """The parts of a run that have a state besides weights, histories and the iteration.

    Attributes
    ----------
    nets : sequence of Net
        The train net, then the test nets.
    sources : sequence of BatchSource or None
        What feeds each.
    passes : Passes
        What runs the train net.
    device : torch.device
        Whose random numbers are used.
    """

    nets: Sequence[Net]
    sources: Sequence[BatchSource | None]
    passes: Passes
    device: torch.device

    def sidecar(self, iteration: int) -> Sidecar:
        """Return the state now."""
        return Sidecar(
            iteration,
            buffers={key: buffer.cpu().numpy() for key, buffer in net_buffers(self.nets).items()},
            generators=_generator_states(self.device),
            sources=[None if s is None else dict(s.state()) for s in self.sources],
            passes=self.passes.state(),
        )

    def restore(self, sidecar: Sidecar, where: str) -> list[str]:
        """Go on where `sidecar` was made; return what of it could not be used, a line each.

        Raises
        ------
        SphereFaceError
            It is of other nets, or holds no state.
        """
        load_buffers(self.nets, sidecar.buffers, where)
        _set_generators(sidecar.generators, where)
        lines = list(self.passes.restore(sidecar.passes))
        for source, saved in zip(self.sources, sidecar.sources, strict=False):
            if source is not None and saved is not None:
                lines += source.restore(saved) or ()
        return lines

    def rebuild(self, passes: int, sidecar: Path) -> str:
        """Set the counters of forwards to what they are after `passes`; return what was done."""
        counters = []
        for layer in self.nets[0].layers:
            # Without annealing LabelSpecificAdd counts nothing.
            if isinstance(layer, _COUNTING) and hasattr(layer, "iteration"):
                layer.count_from_start(passes)
                counters.append(f"{layer.name} {int(layer.iteration)}")
        told = f"; iteration of {', '.join(counters)} from the solver's" if counters else ""
        return f"No {sidecar.name}: random numbers and the order of the data start anew{told}"


def _generator_states(device: torch.device) -> dict[str, np.ndarray]:
    states = {"cpu": torch.get_rng_state().numpy()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device).numpy()
    return states


def _set_generators(states: dict[str, np.ndarray], where: str) -> None:
    try:
        torch.set_rng_state(torch.from_numpy(states["cpu"]))
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state(torch.from_numpy(states["cuda"]))
    except (KeyError, TypeError, RuntimeError) as error:
        raise SphereFaceError(
            f"no state of torch's random numbers ({error})",
            where=where,
            fix="remove the file to resume without it",
        ) from None
