"""The inner products of features on a device, for `sphereface.evaluation`, which knows no torch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sphereface.inference.predictor import find_device

__all__ = ["DeviceScorer"]


class DeviceScorer:
    """What `all_pairs`, `megaface`, `blufr` and `search` take as ``scorer``.

    Products are float32 without TF32: a score must not depend on where it was made by more than
    its rounding.

    Parameters
    ----------
    device : str
        ``"cuda"``, ``"cuda:1"``; also ``"cpu"``.

    Raises
    ------
    SphereFaceError
        There is no such device.

    Examples
    --------
    >>> DeviceScorer("cpu")(np.eye(2, dtype=np.float32), np.ones((3, 2), np.float32)).shape
    (2, 3)
    """

    def __init__(self, device: str = "cuda") -> None:
        self._device = find_device(device)

    def __call__(
        self, left: NDArray[np.float32], right: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the inner products of rows of shapes (m, K) and (n, K) as (m, n)."""
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            with torch.inference_mode():
                rows = torch.from_numpy(np.ascontiguousarray(left)).to(self._device)
                columns = torch.from_numpy(np.ascontiguousarray(right)).to(self._device)
                product: NDArray[np.float32] = (rows @ columns.T).cpu().numpy()
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
        return product
