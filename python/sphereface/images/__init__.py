"""Pictures: one reader and one writer for everyone, lists of them, means. Needs no torch."""

from sphereface.images.errors import ImageError, ImageTooLargeError, UnreadableImageError
from sphereface.images.header import ImageHeader
from sphereface.images.lists import (
    IMAGE_SUFFIXES,
    ImageFile,
    ImageList,
    list_images,
    read_image_list,
)
from sphereface.images.means import read_mean, read_mean_file
from sphereface.images.preprocessing import Preprocessing
from sphereface.images.read import (
    MAX_PIXELS,
    Color,
    decode_image,
    image_header,
    image_size,
    read_image,
    read_image_bytes,
)
from sphereface.images.resize import resize_image
from sphereface.images.write import encode_image, write_image

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "Color",
    "ImageError",
    "ImageFile",
    "ImageHeader",
    "ImageList",
    "ImageTooLargeError",
    "Preprocessing",
    "UnreadableImageError",
    "decode_image",
    "encode_image",
    "image_header",
    "image_size",
    "list_images",
    "read_image",
    "read_image_bytes",
    "read_image_list",
    "read_mean",
    "read_mean_file",
    "resize_image",
    "write_image",
]
