"""What can be wrong with a picture, in the words of a folder run's report."""

from __future__ import annotations

from typing import ClassVar

from sphereface.errors import SphereFaceError

__all__ = ["ImageError", "ImageTooLargeError", "UnreadableImageError"]


class ImageError(SphereFaceError):
    """A picture that cannot be used.

    Attributes
    ----------
    status : str
        One word for a table: "unreadable" or "too_large".
    """

    status: ClassVar[str] = "unreadable"


class UnreadableImageError(ImageError):
    """A file that is missing, empty, truncated, damaged or no picture."""


class ImageTooLargeError(ImageError):
    """A picture with more pixels than the caller allows."""

    status = "too_large"
