import pytest

from sphereface.data import check_labels, check_net_labels, class_count, open_source, open_sources
from sphereface.errors import SphereFaceError
from sphereface.proto.net_file import read_net


def placed(labels):
    return [(label, f"list.txt:{line}") for line, label in enumerate(labels, 1)]


def test_good_labels():
    report = check_labels(placed([2, 0, 1, 1]), 3)
    assert (report.samples, report.classes, report.complete) == (4, 3, True)
    assert report.empty == report.warnings == ()


def test_the_first_label_outside_is_named():
    with pytest.raises(
        SphereFaceError,
        match=r"list.txt:2: label 7 \(2 such labels\); expected 0 .. 4; labels go from -1 to 7",
    ):
        check_labels(placed([0, 7, 3, -1]), 5)


def test_one_based_labels():
    with pytest.raises(SphereFaceError, match="list.txt:3: label 3; .*1-based: subtract 1"):
        check_labels(placed([1, 2, 3]), 3)
    (warning,) = check_labels(placed([1, 2, 3]), 4).warnings
    assert warning.startswith("1 of 4 classes without an image: 0; are the labels 1-based?")


def test_empty_classes():
    report = check_labels(placed([3, 3, 9]), 10)
    assert report.empty == (0, 1, 2, 4, 5, 6, 7, 8)
    assert report.warnings == ("8 of 10 classes without an image: 0, 1, 2, 4, 5, ...",)


def test_no_labels_and_ignored_ones():
    with pytest.raises(SphereFaceError, match="list.txt: no labels"):
        check_labels([], 3, where="list.txt")
    assert check_labels(placed([0, -1, 1]), 2, ignore_label=-1).samples == 3
    with pytest.raises(SphereFaceError, match="labels go from -1 to 1"):
        check_labels(placed([0, -1, 1]), 2, ignore_label=255)


def test_a_limit_says_nothing_of_empty_classes():
    report = check_labels(placed([0, 0, 1, 99]), 2, limit=3)
    assert (report.samples, report.complete, report.empty) == (3, False, ())
    assert check_labels(placed([0, 0]), 2, limit=2).empty == (1,)


INNER = (
    'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"'
    " inner_product_param { num_output: 30 } }"
)
MARGIN = (
    'layer { name: "m" type: "MarginInnerProduct" bottom: "x" bottom: "label" top: "fc"'
    " margin_inner_product_param { num_output: 40 } }"
)
LOSS = 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }'
IN_PLACE = 'layer { name: "r" type: "Dropout" bottom: "fc" top: "fc" }'
SCALED = 'layer { name: "s" type: "Power" bottom: "fc" top: "scaled" }'


@pytest.mark.parametrize(
    ("layers", "count"),
    [
        (INNER + LOSS, (30, None)),
        (INNER + IN_PLACE + LOSS, (30, None)),
        (INNER + SCALED + LOSS.replace('"fc"', '"scaled"'), (30, None)),
        (MARGIN + LOSS, (40, None)),
        (INNER + LOSS.replace(" }", " loss_param { ignore_label: 255 } }"), (30, 255)),
        (LOSS, None),
        (INNER, None),
        (INNER + LOSS.replace("SoftmaxWithLoss", "EuclideanLoss"), None),
    ],
)
def test_the_classes_of_a_net(layers, count):
    assert class_count(read_net(layers).net, "label") == count


def test_the_classes_of_a_packaged_net():
    from sphereface.resources import prototxt_path

    net = read_net(prototxt_path("sphereface_20_train"), "TRAIN").net
    assert class_count(net, "label") == (10572, None)


def test_a_net_with_its_data(layer, faces):
    net = read_net(INNER.replace("30", "5") + LOSS).net
    source = open_sources([(layer("ImageData", faces.param()), "net:1")], workers=0)
    (warning,) = check_net_labels(net, source)
    assert warning == "net:1: 2 of 5 classes without an image: 3, 4"
    assert check_net_labels(net, source.members["data"]) == [warning]
    net = read_net(INNER.replace("30", "2") + LOSS).net
    with pytest.raises(SphereFaceError, match=r"list.txt:3: label 2 \(3 such labels\)"):
        check_net_labels(net, source)
    assert check_net_labels(read_net(INNER).net, source) == []


def test_an_lmdb_is_looked_at_up_to_a_limit(layer, face_lmdb):
    text = f'data_param {{ source: "{face_lmdb}" backend: LMDB batch_size: 2 }}'
    net = read_net(INNER.replace("30", "2") + LOSS).net
    with open_source(layer("Data", text), workers=0) as source:
        assert check_net_labels(net, source, limit=2) == []
        with pytest.raises(SphereFaceError, match="00000002_2.png"):
            check_net_labels(net, source)
