import cv2
import numpy as np
import pytest

from reference.datum_wire import decode_datum, encode_datum
from sphereface.data.datum import datum_image, encoded_datum, raw_datum, read_datum
from sphereface.errors import SphereFaceError
from sphereface.proto import schema

RNG = np.random.default_rng(5)
IMAGE = RNG.integers(0, 256, (6, 5, 3)).astype(np.uint8)
PNG = cv2.imencode(".png", IMAGE)[1].tobytes()


def test_raw_records_as_caffe_writes_them():
    datum = read_datum(encode_datum(IMAGE, 300))
    assert datum.label == 300
    assert (datum_image(datum) == IMAGE).all()
    assert (datum_image(datum, color=False) == IMAGE).all()  # forcing is for encoded ones


def test_float_records():
    planes = RNG.standard_normal((2, 6, 5)).astype(np.float32)
    image = datum_image(read_datum(encode_datum(label=-1, floats=planes)))
    assert image.dtype == np.float32
    assert (image == planes.transpose(1, 2, 0)).all()


@pytest.mark.parametrize("color", [None, True, False])
def test_encoded_records(color):
    image = datum_image(read_datum(encode_datum(encoded=PNG, label=4)), color)
    gray = cv2.imdecode(np.frombuffer(PNG, np.uint8), cv2.IMREAD_GRAYSCALE)[:, :, None]
    assert (image == (gray if color is False else IMAGE)).all()
    gray_file = cv2.imencode(".png", IMAGE[:, :, 0])[1].tobytes()
    image = datum_image(read_datum(encode_datum(encoded=gray_file)), color)
    assert (image == IMAGE[:, :, :1]).all()
    assert image.shape[2] == (3 if color else 1)


def test_our_records_byte_by_byte():
    assert decode_datum(raw_datum(IMAGE, 7)) == {
        "channels": 3, "height": 6, "width": 5, "label": 7,
        "data": IMAGE.transpose(2, 0, 1).tobytes(),
    }  # fmt: skip
    assert decode_datum(encoded_datum(PNG, 0)) == {"data": PNG, "label": 0, "encoded": 1}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoded": True}, "encoded Datum without data"),
        ({"encoded": True, "data": PNG[:30]}, "encoded Datum: truncated"),
        ({"channels": 3, "height": 0, "width": 5}, "Datum of channels, height, width"),
        (
            {"channels": 3, "height": 6, "width": 5, "data": b"abc"},
            "Datum of 3 values; expected 3 x 6 x 5",
        ),
        ({"channels": 2**31 - 1, "height": 2**31 - 1, "width": 2**31 - 1}, "Datum of 0 values"),
    ],
)
def test_damaged_records(fields, message):
    with pytest.raises(SphereFaceError, match=message):
        datum_image(schema.message("Datum")(**fields))
    with pytest.raises(SphereFaceError, match="not a binary Datum"):
        read_datum(b"\xff\xff")
