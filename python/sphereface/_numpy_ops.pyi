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
def margin_softmax(
    x: _Floats,
    weight: _Floats,
    label: NDArray[np.int64],
    lambda_: float,
    family: int,
    margin: NDArray[np.float64],
    exact: bool,
    unit_rows: bool,
    ignore_index: int,
    label_smoothing: float,
    class_weight: _Floats | None,
    weight_sum: _Floats | None,
    label_weight: _Floats | None,
    bias: _Floats | None,
    grad: _Floats | None,
    keep: bool,
) -> tuple[
    _Floats,
    NDArray[np.float64],
    _Floats,
    _Floats,
    NDArray[np.int64],
    NDArray[np.int64],
    _Floats,
    _Floats,
    _Floats,
]: ...
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
