from __future__ import annotations

import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto import text
from sphereface.solver.update_rules import RULES


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('type: "AdaGrad" momentum: 0.9', "momentum 0.9 with AdaGrad"),
        ('type: "RMSProp" momentum: 0.9', "momentum 0.9 with RMSProp"),
        ('type: "RMSProp" rms_decay: 1', "rms_decay 1; expected at least 0"),
        ('type: "Adam" momentum: 1', "momentum 1 of Adam"),
        ('type: "Adam" momentum2: 1.5', "momentum2 1.5 of Adam"),
    ],
)
def test_impossible_constants_are_refused(fields, message):
    param = text.read(fields, "SolverParameter")
    with pytest.raises(SphereFaceError, match=message):
        RULES[param.type].check(param, "solver.prototxt")


def test_names_are_caffes():
    assert {name: rule.histories for name, rule in RULES.items()} == {
        "SGD": 1, "Nesterov": 1, "AdaGrad": 1, "RMSProp": 1, "AdaDelta": 2, "Adam": 2,
    }  # fmt: skip
