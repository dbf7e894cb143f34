"""A folder of pictures that go wrong in every way, and two that do not."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

#: Names that must be found to be bad, with the status that a folder run gives them.
BAD = {
    "empty.jpg": "unreadable",
    "text.png": "unreadable",
    "cut.jpg": "unreadable",
    "cut.png": "unreadable",
    "huge.png": "too_large",
    "one.png": "too_small",
    "thin.png": "too_small",
    "gone.jpg": "unreadable",
}
#: Names of readable pictures.
GOOD = [
    "alpha.png",
    "cmyk.jpg",
    "deep.png",
    "gray.jpg",
    "new\nline.jpg",
    "palette.gif",
    "plain.jpg",
    "schön/人 1.jpg",
    "turned.jpg",
]


def write_folder(folder, image):
    """Write the pictures; `image` is RGB, (H, W, 3), what the good ones show."""
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    pil = Image.fromarray(image)
    jpeg, png = (cv2.imencode(suffix, bgr)[1].tobytes() for suffix in (".jpg", ".png"))
    (folder / "schön").mkdir(parents=True)
    for name in ("plain.jpg", "new\nline.jpg", "schön/人 1.jpg"):
        (folder / name).write_bytes(jpeg)
    pil.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    pil.convert("L").save(folder / "gray.jpg", quality=95)
    pil.quantize(64).save(folder / "palette.gif")
    alpha = np.dstack([bgr, np.full(bgr.shape[:2], 90, np.uint8)])
    (folder / "alpha.png").write_bytes(cv2.imencode(".png", alpha)[1].tobytes())
    deep = bgr.astype(np.uint16) * 257
    (folder / "deep.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn to the left; shown upright by a turn to the right
    stored = io.BytesIO()
    pil.transpose(Image.Transpose.ROTATE_90).save(stored, "JPEG", quality=95, exif=exif)
    (folder / "turned.jpg").write_bytes(stored.getvalue())

    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("not a picture\n")
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "cut.png").write_bytes(png[: len(png) // 2])
    (folder / "huge.png").write_bytes(huge_png(200_000, 200_000))
    (folder / "one.png").write_bytes(cv2.imencode(".png", bgr[:1, :1])[1].tobytes())
    (folder / "thin.png").write_bytes(cv2.imencode(".png", bgr[:, :5])[1].tobytes())
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "notes.txt").write_text("no picture by its name\n")
    (folder / "loop").symlink_to(folder)


def huge_png(height, width):
    """A PNG whose header promises more than memory holds; its data are a few bytes."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"IDAT", b""), chunk(b"IEND", b"")]
    )


def forbid(path):
    """Take all permissions of a file; return whether that means anything to this user."""
    path.chmod(0)
    return not os.access(path, os.R_OK)
