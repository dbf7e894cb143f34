"""A local page: two photographs, or a photograph and a gallery, compared in the browser.

Source: Flask. Photographs stay in memory, answers are JSON, and the page judges cosines by its own
slider, so that a threshold is tried without a request.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Collection
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.extras import require
from sphereface.faces import Face, FaceAnalyzer
from sphereface.faces.records import face_record
from sphereface.faces.selection import select
from sphereface.images import decode_image
from sphereface.recognition.calibration import Threshold
from sphereface.recognition.drawing import colour_of
from sphereface.recognition.gallery import Gallery

__all__ = ["MAX_PAGE_BYTES", "MAX_PAGE_PIXELS", "create_app"]

#: Bytes of a request, that is of both photographs, and pixels of one.
MAX_PAGE_BYTES = 20 << 20
MAX_PAGE_PIXELS = 40_000_000

_LOCAL = ("127.0.0.1", "localhost")
# The form is two files. Werkzeug reads in steps of 64 KiB, which must fit.
_MAX_PARTS, _MAX_FIELDS_BYTES = 4, 1 << 18
_DIGITS = 6
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src"
    " 'unsafe-inline'; img-src blob: data:; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_TOO_LARGE = (
    f"more than {MAX_PAGE_BYTES >> 20} MB in one request; expected smaller photographs, of at most "
    f"{MAX_PAGE_BYTES >> 20} MB together"
)


def create_app(
    analyzer: FaceAnalyzer,
    threshold: Threshold | None = None,
    gallery: Gallery | None = None,
    *,
    hosts: Collection[str] = (),
) -> Any:
    """Return the Flask application of the page.

    Parameters
    ----------
    analyzer : FaceAnalyzer
        Finds and embeds, for one request at a time.
    threshold : Threshold, optional
        Where the slider starts. Without it there is no verdict until somebody moves it.
    gallery : Gallery, optional
        Of the same embedder; without it the page compares two photographs only.
    hosts : collection of str
        Names that the browser's address bar may show, beside those of this machine for itself.

    Returns
    -------
    flask.Flask
        ``GET /`` is the page, ``GET /about`` tells model, threshold and limits.
        ``POST /compare`` takes the files ``first`` and ``second``, ``POST /identify`` the file
        ``picture``. Both answer ``{"pictures": [{"width", "height", "largest", "faces"}],
        "seconds"}``, faces as `face_record` writes them. `compare` adds ``cosines``, a row for
        each face of the first photograph, a column for each of the second; `identify` adds to each
        face ``nearest``, ``cosine`` and ``colour``. An error is ``{"error": text}``.

    Raises
    ------
    SphereFaceError
        Gallery or threshold are another model's, or Flask is missing.
    """
    flask, exceptions = require("flask", "page"), require("werkzeug.exceptions", "page")
    embedder = analyzer.embedder
    if threshold is not None:
        threshold.check(embedder.identity)
    if gallery is not None:
        gallery.check(embedder.identity, embedder.label)
    page = resources.files(__package__).joinpath("page.html").read_text("utf-8")
    lock = threading.Lock()

    class InMemory(flask.Request):  # type: ignore[name-defined]
        """Keeps uploads in memory; Werkzeug writes large ones into a temporary file."""

        def _get_file_stream(self, *args: object, **named: object) -> io.BytesIO:
            return io.BytesIO()

    app = flask.Flask(__name__, static_folder=None)
    app.request_class = InMemory
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_PAGE_BYTES,
        MAX_FORM_PARTS=_MAX_PARTS,
        MAX_FORM_MEMORY_SIZE=_MAX_FIELDS_BYTES,
        TRUSTED_HOSTS=[*_LOCAL, *hosts],
    )
    app.before_request(lambda: _refuse_other_sites(flask))
    app.after_request(_with_headers)
    app.register_error_handler(SphereFaceError, lambda error: ({"error": str(error)}, 400))
    app.register_error_handler(exceptions.HTTPException, _told)

    def photographs(*names: str) -> list[tuple[NDArray[np.uint8], list[Face]]]:
        found = []
        for name in names:
            if name not in flask.request.files:
                raise SphereFaceError("no photograph", where=name, expected="a file of the form")
            image = decode_image(
                flask.request.files[name].read(),
                color="rgb",
                max_pixels=MAX_PAGE_PIXELS,
                where=name if name == "picture" else f"{name} photograph",
            )
            found.append((image, analyzer.get(image)))
        return found

    def locked(answer: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        def answered() -> dict[str, Any]:
            _ = flask.request.files  # a slow sender must not hold the lock
            with lock:
                began = time.monotonic()
                return {**answer(), "seconds": round(time.monotonic() - began, 3)}

        return answered

    def about() -> dict[str, Any]:
        return {
            "model": embedder.label,
            "threshold": None if threshold is None else threshold.value,
            "origin": None if threshold is None else threshold.origin,
            "people": None if gallery is None else len(gallery.people),
            "max_bytes": MAX_PAGE_BYTES,
        }

    def compare() -> dict[str, Any]:
        found = photographs("first", "second")
        one, two = (_embeddings(faces) for _, faces in found)
        cosines = (one @ two.T).tolist() if len(one) and len(two) else []
        return {
            "pictures": [_described(image, faces) for image, faces in found],
            "cosines": [[round(value, _DIGITS) for value in row] for row in cosines],
        }

    def identify() -> dict[str, Any]:
        if gallery is None:
            raise SphereFaceError("no gallery", fix="start the page with --gallery FILE")
        ((image, faces),) = photographs("picture")
        told = _described(image, faces)
        matches = gallery.search(_embeddings(faces)) if faces else []
        for record, match in zip(told["faces"], matches, strict=True):
            red, green, blue = colour_of(match.name)
            record["nearest"], record["cosine"] = match.name, round(match.score, _DIGITS)
            record["colour"] = f"#{red:02x}{green:02x}{blue:02x}"
        return {"pictures": [told]}

    app.add_url_rule("/", "page", lambda: page)
    app.add_url_rule("/about", "about", about)
    app.add_url_rule("/compare", "compare", locked(compare), methods=["POST"])
    app.add_url_rule("/identify", "identify", locked(identify), methods=["POST"])
    return app


def _told(error: Any) -> tuple[dict[str, str], int]:
    text = _TOO_LARGE if error.code == 413 else error.description or error.name
    return {"error": text}, error.code


def _refuse_other_sites(flask: Any) -> None:
    """Refuse what another site's page posts here; programs without a browser name no site."""
    request = flask.request
    if request.method != "POST":
        return
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    foreign = origin is not None and urlsplit(origin).netloc != request.host
    if foreign or site not in (None, "same-origin"):
        flask.abort(403, description=f"a request from another site ({origin or site})")


def _with_headers(response: Any) -> Any:
    response.headers.update(_HEADERS)
    return response


def _embeddings(faces: list[Face]) -> NDArray[np.float32]:
    return np.array([face.embedding for face in faces], np.float32)


def _described(image: NDArray[np.uint8], faces: list[Face]) -> dict[str, Any]:
    height, width = image.shape[:2]
    chosen = select(faces, "largest", height, width)
    return {
        "width": width,
        "height": height,
        "largest": next((i for i, face in enumerate(faces) if face is chosen[0]), None),
        "faces": [face_record(face) for face in faces],
    }
