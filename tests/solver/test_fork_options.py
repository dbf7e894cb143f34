from __future__ import annotations

import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto import text
from sphereface.solver.config import read_solver
from sphereface.solver.fork_options import refuse_fork_options

SPARSE = """
net_param { layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } } }
base_lr: 0.1 lr_policy: "fixed" display_sparsity: 1000 sparse_mode: SPARSE_UPDATE
sparsity_target: 0.8 sparsity_step_factor: 0.02 sparsity_step_iter: 1000 sparsity_start_iter: 0
"""


@pytest.mark.filterwarnings("ignore:.*display_sparsity")
def test_a_sparse_training_is_read_and_not_trained():
    param = text.parse(SPARSE, "SolverParameter").message
    assert param.sparsity_step_iter == 1000
    with pytest.raises(
        SphereFaceError,
        match="sparse_mode: SPARSE_UPDATE of a fork.*remove sparse_mode and sparsity_\\*",
    ):
        read_solver(SPARSE)
    assert read_solver(SPARSE.replace("SPARSE_UPDATE", "SPARSE_NONE")).param.base_lr > 0


@pytest.mark.parametrize(
    ("option", "harmless"),
    [
        ("larc: true", "larc: false"),
        ("local_lr_auto: true local_gw_ratio: 0.1", "local_gw_ratio: 0.1"),
        ('momentum_policy: "poly"', 'momentum_policy: "fixed" max_momentum: 0.5'),
        ('weight_decay_policy: "poly"', 'weight_decay_policy: "fixed"'),
        ("disabled_update: true", "disabled_update: false"),
    ],
)
def test_what_is_refused(option, harmless):
    name = option.partition(":")[0]
    with pytest.raises(SphereFaceError, match=f"here: {name}: .*remove {name}"):
        refuse_fork_options(text.read(option, "SolverParameter"), "here")
    refuse_fork_options(text.read(harmless, "SolverParameter"), "here")
