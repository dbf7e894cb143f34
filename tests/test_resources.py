from __future__ import annotations

from pathlib import Path

import pytest

import sphereface
from sphereface.errors import SphereFaceError
from sphereface.resources import find_prototxt, list_nets, prototxt_names, prototxt_path

ROOT = Path(__file__).parents[1]


def test_names_are_the_files_of_the_folder() -> None:
    stems = sorted(path.stem for path in (ROOT / "models" / "prototxt").iterdir())
    assert prototxt_names() == stems
    assert {"sphereface_20_deploy", "sphereface_64_paper_train", "det3", "digits_solver"} < {*stems}


@pytest.mark.parametrize("name", ["sphereface_20_deploy", "sphereface_20_deploy.prototxt"])
def test_path(name: str) -> None:
    path = prototxt_path(name)
    assert path.read_text().splitlines()[2] == 'name: "SpherefaceNet-20"'


def test_unknown_name() -> None:
    with pytest.raises(SphereFaceError, match=r'"sphereface_20_deplyo".*did you mean'):
        prototxt_path("sphereface_20_deplyo")


def test_nets_are_listed_by_pattern() -> None:
    assert list_nets("det*") == ["det1", "det2", "det3"]
    assert "sphereface_20_train" in list_nets()
    assert not [name for name in list_nets() if "solver" in name]
    assert list_nets("nothing") == []


def test_a_file_goes_before_a_packaged_net_of_that_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_prototxt("det1") == prototxt_path("det1")
    Path("det1").write_text("")
    assert find_prototxt("det1") == Path("det1")
    assert find_prototxt("other/net.prototxt") == Path("other/net.prototxt")


def test_nets_load_by_name() -> None:
    net = sphereface.caffe.load("sphereface_4_deploy.prototxt")
    assert net.name == sphereface.caffe.load(prototxt_path("sphereface_4_deploy")).name
    with pytest.raises(SphereFaceError, match=r'sphereface_4_deploi: .*"sphereface_4_deploy"'):
        sphereface.caffe.load("sphereface_4_deploi")
