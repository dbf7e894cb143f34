from __future__ import annotations

import pytest

from sphereface.errors import SphereFaceError


def test_it_is_refused_by_name(layer_net):
    text = (
        'layer { name: "l" type: "Correlation" bottom: "a" bottom: "b" top: "y" correlation_param {'
        " pad: 20 kernel_size: 1 max_displacement: 20 stride_1: 1 stride_2: 2 } }"
    )
    with pytest.raises(SphereFaceError, match=r'"l" \(Correlation\): FlowNet.s Correlation is not'):
        layer_net(text, a=(1, 2, 3, 4), b=(1, 2, 3, 4))
