from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.floating[Any]]

NO_IGNORE_INDEX: int

def annealed_lambda(
    iteration: int, base: float, gamma: float, power: float, lambda_min: float
) -> float: ...
def first_bad_label(label: NDArray[np.int64], classes: int, ignore_index: int) -> int: ...
def first_non_finite_row(rows: _Floats) -> int: ...
def normalize(weight: _Floats) -> int: ...
def forward(
    x: _Floats,
    weight: _Floats,
    label: NDArray[np.int64],
    lambda_: float,
    margin: float,
    exact: bool,
    ignore_index: int,
) -> _Floats: ...
def input_gradient(
    grad: _Floats,
    x: _Floats,
    weight: _Floats,
    label: NDArray[np.int64],
    lambda_: float,
    margin: float,
    exact: bool,
    ignore_index: int,
) -> _Floats: ...
def weight_gradient(
    grad: _Floats,
    x: _Floats,
    weight: _Floats,
    label: NDArray[np.int64],
    lambda_: float,
    margin: float,
    exact: bool,
    ignore_index: int,
) -> _Floats: ...
