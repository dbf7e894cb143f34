import cv2
import lmdb
import numpy as np
import pytest
from google.protobuf import text_format

from reference.datum_wire import encode_datum
from sphereface.proto import schema


@pytest.fixture
def layer():
    """layer("ImageData", 'image_data_param { ... }') as a LayerParameter."""

    def parse(type_, text, tops=("data", "label")):
        param = schema.message("LayerParameter")(name="data", type=type_, top=tops)
        return text_format.Parse(text, param)

    return parse


@pytest.fixture
def transform_param():
    def parse(text):
        return text_format.Parse(text, schema.message("TransformationParameter")())

    return parse


@pytest.fixture
def faces(tmp_path, rng):
    """Ten PNGs of 9 x 7 whose pixels are known, and their list; labels 0, 1, 2, 0, 1, ..."""

    class Faces:
        def __init__(self):
            self.images = [rng.integers(0, 256, (9, 7, 3)).astype(np.uint8) for _ in range(10)]
            self.labels = [index % 3 for index in range(10)]
            self.folder = tmp_path / "faces"
            self.list = tmp_path / "list.txt"

        def param(self, options="", transform="", batch=4):
            return (
                f'image_data_param {{ source: "{self.list}" root_folder: "{self.folder}/"'
                f" batch_size: {batch} {options} }} transform_param {{ {transform} }}"
            )

    made = Faces()
    made.folder.mkdir()
    for index, image in enumerate(made.images):
        assert cv2.imwrite(str(made.folder / f"{index}.png"), image)
    made.list.write_text("".join(f"{i}.png {label}\n" for i, label in enumerate(made.labels)))
    return made


@pytest.fixture
def make_lmdb(tmp_path):
    """make_lmdb([record, ...]) writes an LMDB as Caffe does and returns its folder."""

    def make(records, name="lmdb"):
        path = tmp_path / name
        with lmdb.open(str(path), map_size=1 << 24) as env, env.begin(write=True) as transaction:
            for index, record in enumerate(records):
                transaction.put(b"%08d_%d.png" % (index, index), record)
        return path

    return make


@pytest.fixture
def face_lmdb(faces, make_lmdb):
    return make_lmdb(
        [encode_datum(i, label) for i, label in zip(faces.images, faces.labels, strict=True)]
    )
