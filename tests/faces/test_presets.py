import json

import pytest

from sphereface.errors import SphereFaceError
from sphereface.faces.presets import PRESETS, check_crops, find_preset


def test_the_originals():
    preset = find_preset("sphereface")
    assert (preset.color, preset.mean, preset.scale) == ("bgr", 127.5, 0.0078125)
    assert preset.with_mirror
    assert preset.template(112, 96).name == "112x96"
    assert preset.template(112, 96).fit == "inverse"


def test_mobilefacenet():
    preset = find_preset("mobilefacenet")
    assert (preset.color, preset.mean, preset.scale) == ("rgb", 128, 0.0078125)
    assert preset.template(112, 112).fit == "forward"


@pytest.mark.parametrize("name", PRESETS)
def test_sizes_without_a_template(name):
    with pytest.raises(SphereFaceError, match=r"no template of 96x112; expected .*112x112"):
        find_preset(name).template(96, 112)


def test_unknown():
    with pytest.raises(SphereFaceError, match='no preset "sphere"; expected one of sphereface'):
        find_preset("sphere")


def test_crops_of_another_template(tmp_path):
    check_crops(tmp_path, PRESETS["sphereface"], 112, 96)
    meta = {"template": {"name": "112x96"}}
    (tmp_path / "aligned.jsonl.meta.json").write_text(json.dumps(meta))
    check_crops(tmp_path, PRESETS["sphereface"], 112, 96)
    with pytest.raises(SphereFaceError, match=r"template 112x96; expected arcface-112x112, of"):
        check_crops(tmp_path, PRESETS["mobilefacenet"], 112, 112)
