import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.faces.detectors import DetectorOptions, open_detector
from sphereface.faces.mtcnn.stages import build_net


def test_none_takes_the_whole_picture():
    opened = open_detector("none")
    ((face,),) = opened.detect([np.zeros((30, 20, 3), np.uint8)])
    assert face.box.tolist() == [0, 0, 19, 29]
    assert face.landmarks is None
    with pytest.raises(SphereFaceError, match='detector "none": it has no factor'):
        open_detector("none", DetectorOptions(factor=0.5))


def test_mtcnn_takes_its_settings(tmp_path, random_weights, drawing):
    for name, arrays in random_weights.nets.items():
        build_net(name, arrays).save(tmp_path / f"{name}.caffemodel")
    options = DetectorOptions(
        models=str(tmp_path), min_size=25, factor=0.7, thresholds=(0.6, 0.6, 0.6)
    )
    opened = open_detector("mtcnn", options)
    assert opened.smallest == 25
    assert opened.settings["factor"] == 0.7
    assert len(opened.files) == 3
    assert len(opened.settings["weights"]) == 64
    assert opened.detect([drawing(48, 61)])[0]


def test_unknown_detector():
    with pytest.raises(SphereFaceError, match='no detector "mtcn"; expected one of mtcnn'):
        open_detector("mtcn")


def test_yunet_refuses_what_it_has_not():
    for options, message in (
        (DetectorOptions(min_size=20), "it has no min_size"),
        (DetectorOptions(device="cuda"), 'device "cuda"; expected cpu'),
        (DetectorOptions(thresholds=(0.5, 0.6)), "expected one number"),
    ):
        with pytest.raises(SphereFaceError, match=message):
            open_detector("yunet", options)
