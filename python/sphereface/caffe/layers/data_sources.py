"""Data layers (Data, ImageData, HDF5Data, MemoryData and others) as inputs of a net.

Source: Caffe's data_layer.cpp, image_data_layer.cpp and their kin; DenseImageData is SegNet's,
ImageSegData DeepLab's, ImageLabelmapData HED's, ImageLabelData that of dilated convolutions (Yu and
Koltun, 2016) and Texas Instruments', MultiLabelImageData NormFace's fork's, VideoData C3D's,
temporal segment networks' and SSD's. What differs: a layer here only says what its tops look like;
the tops are inputs of the net, and a reader of sphereface.data feeds them. Shapes come from the
parameters; where they do not tell (an LMDB's channels, images that are not resized), from the first
sample, as in Caffe, or from `input_shapes`. WindowData, SSD's AnnotatedData and these have no
reader: a program gives them their batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from sphereface.caffe.graph import Arity, at_least, exactly
from sphereface.caffe.layer import Layer, Shape, UnknownShapeError
from sphereface.caffe.registry import register_layer
from sphereface.data import SOURCE_TYPES, open_source
from sphereface.errors import SphereFaceError
from sphereface.proto import schema

__all__ = [
    "AnnotatedData",
    "Data",
    "DataSource",
    "DenseImageData",
    "HDF5Data",
    "ImageData",
    "ImageLabelData",
    "ImageLabelmapData",
    "ImageSegData",
    "MemoryData",
    "MultiLabelImageData",
    "VideoData",
    "WindowData",
]


class DataSource(Layer):
    """A layer whose tops are one batch: images, then labels (batch,)."""

    bottoms = exactly(0)
    tops = exactly(2)
    is_input = True

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape | None]:
        """Return the shapes of a batch, None where only the data could tell."""
        labels = [(self.batch_size,)] * (self.top_count - 1)
        return [self.image_shape(self.layer_param.transform_param), *labels]

    @property
    def batch_size(self) -> int:
        """The batch size in the file."""
        return self.options.batch_size

    def image_shape(self, transform: Any) -> Shape | None:
        """Return (batch, channels, height, width) if the parameters tell it."""
        channels = self.channel_count(transform)
        size = self._crop_size
        return (self.batch_size, channels, size, size) if channels and size else None

    def likely_shape(self) -> Shape | None:
        """Return the shape of coloured images, where only the number of channels is not told."""
        size = self._crop_size
        told = self.reshape([])[0] is not None
        return (self.batch_size, 3, size, size) if size and not told else None

    @property
    def _crop_size(self) -> int:
        # Data and WindowData once had crop_size in their own parameters.
        return int(
            self.layer_param.transform_param.crop_size or getattr(self.options, "crop_size", 0)
        )

    def channel_count(self, transform: Any) -> int | None:
        """Return the number of channels if the parameters tell it."""
        if transform.force_color or len(transform.mean_value) > 1:
            return 3 if transform.force_color else len(transform.mean_value)
        return 1 if transform.force_gray else None

    def input_shapes(self, given: Mapping[str, Shape]) -> Sequence[Shape | None]:
        """Return the shapes in `given`, and the other tops with the same batch size."""
        tops = list(self.layer_param.top)
        batch = next((given[name][:1] for name in tops if given.get(name)), None)
        shapes = self.reshape([])
        if any(s is None and name not in given for name, s in zip(tops, shapes, strict=True)):
            shapes = self._shapes_in_files() or shapes
        return [
            given.get(name, batch + shape[1:] if batch and shape else shape)
            for name, shape in zip(tops, shapes, strict=True)
        ]

    def unknown_shape(self, top: str) -> UnknownShapeError:
        """Return the error for a top whose shape only the data could tell, naming the data."""
        source = self._source
        if not source or Path(source).exists():
            return super().unknown_shape(top)
        return UnknownShapeError(
            top,
            f'source "{source}" does not exist, and only the data tell the shape of "{top}"',
            where=self.where,
            remedy=f"bring the data (paths are seen from {Path.cwd()})",
        )

    @property
    def _source(self) -> str:
        return getattr(self.options, "source", "")

    def _shapes_in_files(self) -> Sequence[Shape] | None:
        """Return what the first sample tells; None if the data are not here."""
        if self.type not in SOURCE_TYPES or not self._source or not Path(self._source).exists():
            return None
        try:
            with open_source(self.layer_param, self.where, workers=0) as reader:
                return [reader.shapes[name] for name in self.layer_param.top]
        except SphereFaceError as error:
            raise UnknownShapeError(
                self.layer_param.top[0],
                error.problem,
                where=error.where,
                expected=error.expected,
                remedy=error.fix,
            ) from None


@register_layer("Data", param="data_param")
class Data(DataSource):
    """Records of an LMDB or LevelDB."""

    tops = Arity(1, 2)


_OF_CLIPS = dict.fromkeys(
    ("new_length", "use_image", "use_temporal_jitter", "show_data"), "C3D's VideoData"
)
_OF_FACES = dict.fromkeys(
    (
        "face_transform",
        "face_point_num",
        "max_shear_ratio",
        "max_aspect_ratio",
        "max_rotate_angle",
        "min_random_scale",
        "max_random_scale",
        "max_random_shift",
    ),
    "MultiLabelImageData",
)


@register_layer("ImageData", param="image_data_param")
class ImageData(DataSource):
    """Image files of a list."""

    #: Options of other types that share this message, and whose they are.
    not_mine: ClassVar[Mapping[str, str]] = {**_OF_CLIPS, **_OF_FACES}

    def image_shape(self, transform: Any) -> Shape | None:
        """Return the shape of resized or cropped images."""
        options = self.options
        for name, whose in self.not_mine.items():
            if options.HasField(name):
                raise self.error(name, expected=f"no such option, which {whose} has")
        height, width = options.new_height, options.new_width
        if bool(height) != bool(width):
            raise self.error(f"new_height {height}, new_width {width}", expected="both or neither")
        size = (transform.crop_size,) * 2 if transform.crop_size else (height, width)
        color = (options.is_color or transform.force_color) and not transform.force_gray
        return (self.batch_size, 3 if color else 1, *size) if size[0] else None


@register_layer("MultiLabelImageData", param="image_data_param")
class MultiLabelImageData(ImageData):
    """Image files of a list with many labels each, whose number only the list tells."""

    not_mine = _OF_CLIPS

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape | None]:
        """Return the shape of the images, and None for the labels."""
        return [self.image_shape(self.layer_param.transform_param), None]


@register_layer("HDF5Data", param="hdf5_data_param")
class HDF5Data(DataSource):
    """Datasets of HDF5 files, one a top; only the files tell their shapes."""

    tops = at_least(1)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape | None]:
        """Return None for every top."""
        return [None] * self.top_count


@register_layer("MemoryData", param="memory_data_param")
class MemoryData(DataSource):
    """Arrays that a program sets."""

    def image_shape(self, transform: Any) -> Shape | None:
        """Return the shape in the file."""
        options = self.options
        shape = (options.batch_size, options.channels, options.height, options.width)
        if min(shape) < 1:
            raise self.error(
                f"batch_size, channels, height, width {shape}", expected="all of them, positive"
            )
        return shape


@register_layer("WindowData", param="window_data_param")
class WindowData(DataSource):
    """Windows of images (R-CNN)."""


class _ImagePairs(DataSource):
    """Images and images of labels; a program gives them, for there is no reader of such lists."""

    tops = Arity(1, 3)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape | None]:
        """Return the shapes of a batch, None where only the data could tell."""
        images = self.image_shape(self.layer_param.transform_param)
        labels = None if images is None else self.label_shape(images)
        return [images, labels, (self.batch_size, 1, 1, 2)][: self.top_count]

    def label_shape(self, images: Shape) -> Shape:
        """Return the shape of labels of `images`."""
        return (images[0], 1, *images[2:])


@register_layer("DenseImageData", param="dense_image_data_param")
class DenseImageData(_ImagePairs):
    """Image files of a list, and a label image beside each."""

    tops = Arity(1, 2)

    def image_shape(self, transform: Any) -> Shape | None:
        """Return the shape of resized or cropped images."""
        options = self.options
        size = (options.crop_height, options.crop_width)
        if not all(size):
            size = (options.new_height, options.new_width)
        return (self.batch_size, 3 if options.is_color else 1, *size) if all(size) else None

    def label_shape(self, images: Shape) -> Shape:
        """Return the shape of labels, smaller by ``label_divide_factor``."""
        factor = self.options.label_divide_factor
        if factor < 1:
            raise self.error(f"label_divide_factor {factor}", expected="at least 1")
        return (images[0], 1, *(size // factor for size in images[2:]))


@register_layer("ImageLabelmapData", param="image_data_param")
class ImageLabelmapData(_ImagePairs, ImageData):
    """Image files of a list, and a label image of the same size beside each."""

    tops = exactly(2)


@register_layer("ImageSegData", param="image_data_param")
class ImageSegData(_ImagePairs):
    """Image files of a list, as ``label_type`` a label image beside each, and their sizes."""

    def image_shape(self, transform: Any) -> Shape | None:
        """Return the shape of cropped images."""
        size = (transform.crop_h, transform.crop_w)
        if not all(size):
            size = (transform.crop_size,) * 2
        return (self.batch_size, 3 if self.options.is_color else 1, *size) if all(size) else None

    def label_shape(self, images: Shape) -> Shape:
        """Return the shape of labels of pixels, or of images."""
        if self.option_name("label_type") == "PIXEL":
            return super().label_shape(images)
        return (images[0], 1, 1, 1)


@register_layer("ImageLabelData", param="image_label_data_param")
class ImageLabelData(_ImagePairs):
    """Images and images of labels, of two lists or databases.

    With ``label_slice`` labels are those of its ``dim`` rows and columns.
    """

    tops = Arity(1, 2)

    def image_shape(self, transform: Any) -> Shape | None:
        """Return the shape of cropped images."""
        size = transform.crop_size
        channels = self.channel_count(transform) or 3
        return (self.batch_size, channels, size, size) if size else None

    def label_shape(self, images: Shape) -> Shape:
        """Return the shape of labels of pixels."""
        sizes = tuple(self.options.label_slice.dim) or images[2:]
        if len(sizes) != 2:
            raise self.error(f"label_slice of {len(sizes)} dim", expected="height and width")
        return (images[0], 1, *sizes)


def _resizing(transform: Any) -> Any:
    """Return the first ``resize_param``."""
    given = transform.resize_param
    return given[0] if given else schema.message("ResizeParameter")()


@register_layer("AnnotatedData", param="annotated_data_param")
class AnnotatedData(DataSource):
    """Pictures and the boxes of their objects (SSD); the batches are the program's to give.

    Tops: images, and true boxes (1, 1, M, 8) as `MultiBoxLoss` takes them, M of any size; with
    MobileNet-YOLO's ``yolo_data_type: 1`` 300 rows of label, x, y, width, height an image, as
    `Yolov3` takes them. Of several ``resize_param``, the sizes that it trains in turn, the shape is
    the first's.
    """

    tops = Arity(1, 2)

    @property
    def batch_size(self) -> int:
        """The batch size in the file, which stands in ``data_param``."""
        return int(self.layer_param.data_param.batch_size)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape | None]:
        """Return the shape of a batch, with one true box."""
        images = self.image_shape(self.layer_param.transform_param)
        yolo = self.options.yolo_data_type == 1
        boxes = (self.batch_size, 300, 5) if yolo else (1, 1, 1, 8)
        return [images, boxes][: self.top_count]

    def image_shape(self, transform: Any) -> Shape | None:
        """Return the shape that the resizing or the crop gives."""
        crop, resize = transform.crop_size, _resizing(transform)
        size = (transform.crop_h or crop, transform.crop_w or crop)
        if not all(size) and self._whole(resize):
            size = (resize.height, resize.width)
        channels = self.channel_count(transform) or 3
        return (self.batch_size, channels, *size) if all(size) else None

    @staticmethod
    def _whole(resize: Any) -> bool:
        """Tell whether pictures get the size of ``resize_param``."""
        return bool(resize.resize_mode != resize.FIT_SMALL_SIZE and resize.height and resize.width)

    def input_shapes(self, given: Mapping[str, Shape]) -> Sequence[Shape | None]:
        """Return the shapes in `given`; boxes have no batch axis."""
        return [
            given.get(name, shape)
            for name, shape in zip(self.layer_param.top, self.reshape([]), strict=True)
        ]


@register_layer("VideoData", param="video_data_param")
class VideoData(DataSource):
    """Clips of videos, and their labels; the batches are the program's to give.

    C3D's clips are (N, C, length, H, W), with its options in ``image_data_param``; those of
    temporal segment networks (N, segments * length * C, H, W), C being 3, or 2 for FLOW; SSD's the
    pictures of one video or camera.
    """

    tops = Arity(1, 2)

    @property
    def batch_size(self) -> int:
        """The batch size in the file."""
        param = self.layer_param
        if param.HasField("image_data_param"):
            return int(param.image_data_param.batch_size)
        return int(self.options.batch_size or param.data_param.batch_size)

    def image_shape(self, transform: Any) -> Shape | None:
        """Return the shape of a batch of clips."""
        clips = self.layer_param.HasField("image_data_param")
        options = self.layer_param.image_data_param if clips else self.options
        crop = transform.crop_size or getattr(options, "crop_size", 0)
        resize = _resizing(transform)
        size = (crop, crop) if crop else (options.new_height, options.new_width)
        size = size if all(size) else (resize.height, resize.width)
        if not all(size):
            return None
        if clips:
            return (self.batch_size, 3, options.new_length, *size)
        pictures = options.HasField("video_type")
        channels = 3 if pictures or self.option_name("modality") == "RGB" else 2
        frames = options.num_segments * options.new_length
        return (self.batch_size, channels * frames, *size)
