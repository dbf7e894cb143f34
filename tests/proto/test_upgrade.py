from __future__ import annotations

import pytest

from sphereface.proto import schema, text
from sphereface.proto.upgrade import upgrade_net

EVERY_AGE = """
input: "data" input_dim: [1, 3, 8, 8]
layers {
  layer { name: "d" type: "images" source: "list" scale: 0.5 }
  top: "image"
}
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "pad" }
layers { layer { name: "c" type: "conv" kernelsize: 3 } bottom: "pad" top: "c" }
"""


def test_upgrades_run_after_each_other_and_leave_the_original_alone():
    old = text.read(EVERY_AGE)
    kept = old.SerializeToString()
    upgraded = upgrade_net(old)
    assert old.SerializeToString() == kept
    assert upgraded.changes == (
        "V0 layers to V1 layers",
        "V1 layers to layer",
        "input fields to an Input layer",
    )
    assert [layer.type for layer in upgraded.message.layer] == ["Input", "ImageData", "Convolution"]
    assert upgraded.origin == (-1, 0, 2)
    again = upgrade_net(upgraded.message)
    assert again.message == upgraded.message
    assert again.changes == ()
    assert again.origin == (0, 1, 2)


@pytest.mark.parametrize("field", ["force_backward", "debug_info"])
def test_flags_of_the_net_are_kept(field):
    assert getattr(upgrade_net(text.read(f"{field}: true" + EVERY_AGE)).message, field) is True


def test_a_net_of_earlier_classes_upgrades(monkeypatch):
    monkeypatch.setattr(schema, "_pool", schema._pool)
    old = text.read(EVERY_AGE)
    schema.extend_layer_parameter("late_param", "message LateParameter { optional int32 n = 1; }")
    net = upgrade_net(old).message
    assert isinstance(net, schema.message("NetParameter"))
    net.layer[0].late_param.n = 1
