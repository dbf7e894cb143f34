from __future__ import annotations

import cv2
import numpy as np
import pytest

from sphereface.caffe import DataOptions, load, open_net
from sphereface.errors import SphereFaceError


def net(type_: str, params: str, tops: str = 'top: "data" top: "label"', **kwargs):
    text = f'layer {{ name: "d" type: "{type_}" {tops} {params} }}'
    return load(text, phase="TRAIN", **kwargs)


@pytest.mark.parametrize(
    ("type_", "options", "transform", "shape"),
    [
        ("ImageData", "new_height: 112 new_width: 96", "", (8, 3, 112, 96)),
        ("ImageData", "new_height: 9 new_width: 7 is_color: false", "", (8, 1, 9, 7)),
        ("ImageData", "", "crop_size: 5", (8, 3, 5, 5)),
        ("ImageData", "new_height: 9 new_width: 7", "crop_size: 5", (8, 3, 5, 5)),
        ("Data", "", "crop_size: 227 mean_value: [1, 2, 3]", (8, 3, 227, 227)),
        ("Data", "", "crop_size: 5 force_color: true", (8, 3, 5, 5)),
        ("Data", "", "crop_size: 5 force_gray: true", (8, 1, 5, 5)),
        ("MemoryData", "channels: 1 height: 8 width: 9", "", (8, 1, 8, 9)),
        ("WindowData", "", "crop_size: 6 force_color: true", (8, 3, 6, 6)),
    ],
)
def test_shapes_from_the_parameters(type_, options, transform, shape):
    field = {"Data": "data_param", "ImageData": "image_data_param"}.get(
        type_, f"{type_.removesuffix('Data').lower()}_data_param"
    )
    built = net(type_, f"{field} {{ batch_size: 8 {options} }} transform_param {{ {transform} }}")
    assert built.blob_shapes == {"data": shape, "label": shape[:1]}
    assert built.inputs == ("data", "label")


@pytest.mark.parametrize(
    ("transform", "shape"),
    [
        ("resize_param { height: 300 width: 200 }", (8, 3, 300, 200)),
        ("resize_param { height: 300 width: 200 } crop_size: 5", (8, 3, 5, 5)),
        # MobileNet-YOLO's, which trains in sizes that take turns.
        ("resize_param { height: 60 width: 50 } resize_param { height: 30 }", (8, 3, 60, 50)),
        ("crop_h: 4 crop_w: 6 force_gray: true", (8, 1, 4, 6)),
    ],
)
def test_pictures_with_boxes(transform, shape):
    """SSD's net builds, and the program gives it its batches."""
    params = f"data_param {{ batch_size: 8 }} transform_param {{ {transform} }}"
    params += " annotated_data_param { batch_sampler { max_sample: 1 } }"
    built = net("AnnotatedData", params)
    assert built.blob_shapes == {"data": shape, "label": (1, 1, 1, 8)}
    given = {"data": (2, *shape[1:]), "label": (1, 1, 7, 8)}
    assert net("AnnotatedData", params, input_shapes=given).blob_shapes == given


def test_pictures_with_boxes_have_no_reader():
    text = """layer { name: "d" type: "AnnotatedData" top: "data" top: "label"
        data_param { source: "lmdb" batch_size: 8 }
        transform_param { resize_param { height: 30 width: 20 } } }"""
    message = (
        'no reader for a layer of type "AnnotatedData".*pictures with boxes, are not read here'
    )
    with pytest.raises(SphereFaceError, match=message):
        open_net(text, data=DataOptions())
    own_size = text.replace("height: 30", "resize_mode: FIT_SMALL_SIZE height: 30")
    with pytest.raises(
        SphereFaceError, match="does not exist, and only the data tell|not tell the"
    ):
        load(own_size)


@pytest.mark.parametrize(
    ("type_", "params"),
    [
        ("ImageData", "image_data_param { batch_size: 8 }"),
        ("Data", "data_param { batch_size: 4 }"),
        ("Data", "data_param { batch_size: 4 } transform_param { crop_size: 227 }"),
        ("HDF5Data", "hdf5_data_param { batch_size: 4 }"),
    ],
)
def test_an_unknown_shape_comes_from_the_caller(type_, params):
    with pytest.raises(SphereFaceError, match=r'prototxt:1: layer "d" .*pass it: input_shapes'):
        net(type_, params)
    shapes = {"data": (5, 3, 7, 7), "label": (5,)}
    assert net(type_, params, input_shapes=shapes).blob_shapes == shapes


def test_labels_follow_the_batch_of_the_images():
    built = net(
        "ImageData", "image_data_param { batch_size: 8 }", input_shapes={"data": (2, 3, 4, 4)}
    )
    assert built.blob_shapes["label"] == (2,)


def test_images_without_labels():
    params = "data_param { batch_size: 4 } transform_param { crop_size: 5 force_color: true }"
    assert net("Data", params, 'top: "data"').blob_shapes == {"data": (4, 3, 5, 5)}


def test_wrong_options():
    with pytest.raises(SphereFaceError, match="expected both or neither"):
        net("ImageData", "image_data_param { batch_size: 8 new_height: 4 }")
    with pytest.raises(SphereFaceError, match="all of them, positive"):
        net("MemoryData", "memory_data_param { batch_size: 8 }")
    with pytest.raises(SphereFaceError, match="expected 2 top blobs"):
        net("ImageData", "image_data_param { batch_size: 8 }", 'top: "data"')


def test_the_first_sample_tells_what_the_parameters_do_not(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 7, 3), np.uint8))
    (tmp_path / "list").write_text(f"{tmp_path}/a.png 0\n")
    params = f'image_data_param {{ source: "{tmp_path}/list" batch_size: 8 is_color: false }}'
    assert net("ImageData", params).blob_shapes == {"data": (8, 1, 9, 7), "label": (8,)}
    given = {"data": (2, 3, 4, 4)}
    assert net("ImageData", params, input_shapes=given).blob_shapes["data"] == (2, 3, 4, 4)
    (tmp_path / "a.png").unlink()
    with pytest.raises(SphereFaceError, match=r"list:1: .*no such picture"):
        net("ImageData", params)


def test_forced_colour_of_image_lists():
    for force, channels in (("force_gray", 1), ("force_color", 3)):
        built = net(
            "ImageData",
            "image_data_param { batch_size: 8 new_height: 4 new_width: 4"
            f" is_color: {str(channels == 1).lower()} }} transform_param {{ {force}: true }}",
        )
        assert built.blob_shapes["data"] == (8, channels, 4, 4)


@pytest.mark.parametrize(
    ("type_", "options", "transform", "images", "labels"),
    [
        ("DenseImageData", "new_height: 9 new_width: 7", "", (3, 9, 7), (1, 9, 7)),
        (
            "DenseImageData", "new_height: 512 new_width: 1024 label_divide_factor: 8", "",
            (3, 512, 1024), (1, 64, 128),
        ),
        (
            "DenseImageData", "new_height: 9 new_width: 7 crop_height: 5 crop_width: 4 is_color: f",
            "", (1, 5, 4), (1, 5, 4),
        ),
        ("ImageLabelmapData", "", "crop_size: 8", (3, 8, 8), (1, 8, 8)),
        ("ImageLabelmapData", "new_height: 9 new_width: 7", "", (3, 9, 7), (1, 9, 7)),
        ("ImageSegData", "", "crop_size: 321", (3, 321, 321), (1, 321, 321)),
        ("ImageSegData", "label_type: IMAGE", "crop_size: 321", (3, 321, 321), (1, 1, 1)),
        ("ImageSegData", "is_color: false", "crop_h: 5 crop_w: 6", (1, 5, 6), (1, 5, 6)),
    ],
)  # fmt: skip
def test_images_of_labels(type_, options, transform, images, labels):
    field = {"DenseImageData": "dense_image_data_param"}.get(type_, "image_data_param")
    params = f"{field} {{ batch_size: 4 {options} }} transform_param {{ {transform} }}"
    built = net(type_, params)
    assert built.blob_shapes == {"data": (4, *images), "label": (4, *labels)}


def test_images_of_labels_whose_shape_the_caller_gives():
    params = 'image_data_param { source: "list.txt" batch_size: 1 label_type: NONE }'
    tops = 'top: "data" top: "label" top: "dim"'
    shapes = {"data": (1, 3, 5, 6), "label": (1, 1, 5, 6)}
    built = net("ImageSegData", params, tops, input_shapes=shapes)
    assert built.blob_shapes == {**shapes, "dim": (1, 1, 1, 2)}
    with pytest.raises(SphereFaceError, match="pass it: input_shapes"):
        net("ImageSegData", params, tops)
    params = "dense_image_data_param { new_height: 2 new_width: 2 label_divide_factor: 0 }"
    with pytest.raises(SphereFaceError, match="label_divide_factor 0; expected at least 1"):
        net("DenseImageData", params)


@pytest.mark.parametrize(
    ("params", "shape"),
    [
        (
            "image_data_param { batch_size: 8 new_length: 16 new_height: 128 new_width: 171"
            " crop_size: 112 }",
            (8, 3, 16, 112, 112),
        ),
        (
            "video_data_param { batch_size: 8 new_length: 5 num_segments: 3 }"
            " transform_param { crop_size: 224 multi_scale: true scale_ratios: [1, 0.8] }",
            (8, 30, 224, 224),
        ),
        (
            "video_data_param { batch_size: 8 num_segments: 3 modality: RGB new_height: 4"
            " new_width: 6 }",
            (8, 9, 4, 6),
        ),
        (
            "video_data_param { video_type: VIDEO } data_param { batch_size: 8 }"
            " transform_param { resize_param { height: 30 width: 20 } }",
            (8, 3, 30, 20),
        ),
    ],
)
def test_clips_of_videos(params, shape):
    assert net("VideoData", params).blob_shapes == {"data": shape, "label": (8,)}


def test_options_of_clips_are_refused_elsewhere():
    with pytest.raises(SphereFaceError, match="new_length; expected no such option"):
        net("ImageData", "image_data_param { new_height: 4 new_width: 4 new_length: 2 }")


@pytest.mark.parametrize(
    ("options", "transform", "images", "labels"),
    [
        ("", "crop_size: 64 mean_value: 0", (8, 3, 64, 64), (8, 1, 64, 64)),
        ("label_slice { dim: [8, 9] }", "crop_size: 64 force_gray: true", (8, 1, 64, 64),
         (8, 1, 8, 9)),
    ],
)  # fmt: skip
def test_images_and_labels_of_two_lists(options, transform, images, labels):
    params = (
        'image_label_data_param { image_list_path: "i" label_list_path: "l" batch_size: 8'
        f" threads: 1 backend: LMDB {options} }} transform_param {{ {transform} }}"
    )
    assert net("ImageLabelData", params).blob_shapes == {"data": images, "label": labels}


def test_a_slice_of_labels_has_two_sizes():
    params = "image_label_data_param { label_slice { dim: 3 } } transform_param { crop_size: 8 }"
    with pytest.raises(SphereFaceError, match="label_slice of 1 dim; expected height and width"):
        net("ImageLabelData", params)


def test_images_with_many_labels():
    params = (
        "image_data_param { batch_size: 8 new_height: 60 new_width: 50 is_color: false "
        "face_transform: true max_rotate_angle: 10 min_random_scale: 0.8 face_point_num: 5 }"
    )
    given = {"label": (8, 12)}
    built = net("MultiLabelImageData", params, input_shapes=given)
    assert built.blob_shapes == {"data": (8, 1, 60, 50), **given}
    with pytest.raises(SphereFaceError, match="pass it: input_shapes"):
        net("MultiLabelImageData", params)
    with pytest.raises(SphereFaceError, match="no such option, which MultiLabelImageData has"):
        net("ImageData", params)


def test_true_boxes_of_yolo():
    params = (
        "data_param { batch_size: 4 }"
        " annotated_data_param { yolo_data_type: 1 yolo_data_jitter: 0.3 }"
        " transform_param { resize_param { height: 32 width: 32 } }"
    )
    shapes = net("AnnotatedData", params).blob_shapes
    assert shapes == {"data": (4, 3, 32, 32), "label": (4, 300, 5)}
