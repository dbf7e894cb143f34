"""What the page's server answers, and what it refuses."""

from __future__ import annotations

import io
import threading

import cv2
import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.faces import FaceAnalyzer
from sphereface.recognition import Gallery, Threshold

pytest.importorskip("flask")

from sphereface.recognition.drawing import colour_of
from sphereface.recognition.page import MAX_PAGE_BYTES, create_app


def png(image):
    return io.BytesIO(cv2.imencode(".png", image[:, :, ::-1])[1].tobytes())


def unit(*colour):
    return np.array(colour) / np.linalg.norm(colour)


@pytest.fixture
def gallery(colours):
    names = list(colours)
    rows = [unit(*colours[name]) for name in names]
    return Gallery(names, rows, names, embedder="c0", label="colours")


@pytest.fixture
def client(analyzer, gallery):
    app = create_app(analyzer, Threshold(0.9, "test"), gallery)
    app.testing = True  # an error that no handler takes is raised
    return app.test_client()


def post(client, route, headers=None, **files):
    # Werkzeug's own encoder for tests writes large bodies into temporary files.
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="%s"; filename="a.png"\r\n\r\n%s\r\n'
        % (name.encode(), stream.getvalue())
        for name, stream in files.items()
    ]
    return client.post(
        route,
        data=b"".join(parts) + b"--x--\r\n",
        content_type="multipart/form-data; boundary=x",
        headers=headers or {},
    )


def test_every_face_against_every_face(client, picture, colours):
    pink = (250, 150, 150)
    first, second = picture((0, "Ann"), (90, "Bob")), picture((30, pink), size=(100, 120))
    answer = post(client, "/compare", first=png(first), second=png(second)).get_json()
    one, two = answer["pictures"]
    assert (one["width"], one["height"], two["width"], two["height"]) == (200, 80, 120, 100)
    assert [face["box"] for face in one["faces"]] == [[1, 21, 40, 60], [91, 21, 130, 60]]
    expected = np.array([[unit(*colours["Ann"])], [unit(*colours["Bob"])]]) @ unit(*pink)
    np.testing.assert_allclose(answer["cosines"], expected, atol=0.02)
    assert (one["largest"], two["largest"]) == (0, 0)


def test_a_picture_without_a_face(client, picture):
    answer = post(client, "/compare", first=png(picture()), second=png(picture((0, "Ann"))))
    told = answer.get_json()
    assert told["cosines"] == []
    assert told["pictures"][0]["faces"] == []
    assert told["pictures"][0]["largest"] is None
    assert told["pictures"][1]["largest"] == 0


def test_a_picture_and_the_gallery(client, picture):
    white = (250, 250, 250)
    answer = post(client, "/identify", picture=png(picture((0, "Bob"), (90, white)))).get_json()
    bob, stranger = answer["pictures"][0]["faces"]
    assert bob["nearest"] == "Bob"
    assert bob["cosine"] == pytest.approx(1, abs=0.01)
    assert bob["colour"] == "#{:02x}{:02x}{:02x}".format(*colour_of("Bob"))
    assert stranger["cosine"] == pytest.approx(unit(*white) @ unit(250, 20, 20), abs=0.02)
    assert (
        post(client, "/identify", picture=png(picture())).get_json()["pictures"][0]["faces"] == []
    )


def test_about(client, analyzer):
    told = client.get("/about").get_json()
    assert told == {
        "model": "colours", "threshold": 0.9, "origin": "test", "people": 3,
        "max_bytes": MAX_PAGE_BYTES,
    }  # fmt: skip
    bare = create_app(analyzer).test_client().get("/about").get_json()
    assert (bare["threshold"], bare["origin"], bare["people"]) == (None, None, None)


def test_the_page_needs_nothing_from_elsewhere(client):
    response = client.get("/")
    assert response.mimetype == "text/html"
    assert "<canvas" in response.text
    assert "://" not in response.text
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({}, "first: no photograph"),
        ({"first": b"GIF89a"}, "first photograph: "),
        ({"first": b"hello"}, "first photograph: "),
    ],
)
def test_what_is_no_photograph(client, files, text):
    response = post(client, "/compare", **{k: io.BytesIO(v) for k, v in files.items()})
    assert response.status_code == 400
    assert text in response.get_json()["error"]


def test_too_many_pixels_are_not_decoded(client, picture):
    wide = png(picture()).getvalue()
    header = np.array([8000, 5001], ">u4").tobytes()
    wide = wide[:16] + header + wide[24:]
    response = post(client, "/identify", picture=io.BytesIO(wide))
    assert response.status_code == 400
    assert "5001 x 8000 pixels; expected at most 40,000,000" in response.get_json()["error"]


def test_too_many_bytes(client):
    response = post(client, "/identify", picture=io.BytesIO(bytes(MAX_PAGE_BYTES)))
    assert response.status_code == 413
    assert "more than 20 MB in one request" in response.get_json()["error"]


def test_too_many_parts(client):
    files = {f"f{i}": io.BytesIO(b"x") for i in range(5)}
    assert post(client, "/compare", **files).status_code == 413


def test_photographs_stay_in_memory(client, monkeypatch, rng):
    """Noise of more bytes than Werkzeug keeps in memory by itself."""

    def refused(*args, **named):
        raise AssertionError("a temporary file")

    monkeypatch.setattr("werkzeug.formparser.SpooledTemporaryFile", refused)
    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    noise = png(rng.integers(0, 1, (700, 700, 3), np.uint8))
    padded = io.BytesIO(noise.getvalue() + bytes(1 << 20))
    assert post(client, "/identify", picture=padded).status_code == 200


ORIGINS = [
    ({}, 200),
    ({"Origin": "http://localhost"}, 200),
    ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 200),
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "http://localhost:81"}, 403),
    ({"Origin": "null"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Sec-Fetch-Site": "none"}, 403),
]


@pytest.mark.parametrize(("headers", "status"), ORIGINS)
def test_requests_of_other_sites(client, picture, headers, status):
    response = post(client, "/identify", headers, picture=png(picture()))
    assert response.status_code == status
    if status == 403:
        assert "another site" in response.get_json()["error"]


@pytest.mark.parametrize("route", ["/", "/about", "/identify"])
def test_names_that_point_here(client, analyzer, route, picture):
    """DNS rebinding: the other site's name in Host."""
    call = client.post if route == "/identify" else client.get
    for host in ("evil.example", "evil.example:8017", "127.0.0.1.evil.example"):
        response = call(route, headers={"Host": host})
        assert response.status_code == 400
        assert response.get_json()["error"].endswith("is not trusted.")
    for host in ("127.0.0.1:8017", "localhost"):
        assert client.get("/about", headers={"Host": host}).status_code == 200
    named = create_app(analyzer, hosts=["studio.lan"]).test_client()
    assert named.get("/about", headers={"Host": "studio.lan:8017"}).status_code == 200


def test_what_is_not_there(client, analyzer, picture):
    assert "error" in client.get("/other").get_json()
    assert client.get("/compare").status_code == 405
    bare = create_app(analyzer).test_client()
    response = post(bare, "/identify", picture=png(picture()))
    assert response.status_code == 400
    assert "no gallery; start the page with --gallery FILE" in response.get_json()["error"]


def test_another_models_gallery_or_threshold(analyzer):
    with pytest.raises(SphereFaceError, match="a threshold of another model"):
        create_app(analyzer, Threshold(0.3, "x", "other"))
    with pytest.raises(SphereFaceError, match="a gallery of O"):
        create_app(analyzer, None, Gallery(["a"], [[1.0, 0]], ["a"], embedder="o", label="O"))


def test_one_inference_at_a_time(analyzer, gallery, picture):
    inside, most, gate = [], [], threading.Barrier(3)

    class Watched(FaceAnalyzer):
        def get(self, image):
            inside.append(1)
            most.append(len(inside))
            threading.Event().wait(0.02)
            inside.pop()
            return super().get(image)

    app = create_app(Watched(analyzer.detector, analyzer.embedder), None, gallery)
    statuses = []

    def ask():
        gate.wait()
        response = post(app.test_client(), "/identify", picture=png(picture((0, "Ann"))))
        statuses.append(response.status_code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 3
    assert most == [1] * 3
