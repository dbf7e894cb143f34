import hashlib
import http.server
import threading

import pytest

from sphereface.faces.datasets.download import DownloadError, download

CONTENT = bytes(range(256)) * 3000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `CONTENT`; the path tells what goes wrong."""

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.seen.append((self.path, asked))
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if self.path == "/gone":
            self.send_error(404)
            return
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = b"<html>" if self.path == "/page" else CONTENT
        if self.path == "/other":
            body = CONTENT[::-1]
        if self.path == "/whole":  # a server without ranges
            start = 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "text/html" if self.path == "/page" else "x/y")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        breaks = self.path == "/breaks" or (self.path == "/breaks-once" and not start)
        self.wfile.write(body[start : start + 200_000] if breaks else body[start:])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.seen = []
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    made.url = f"http://127.0.0.1:{made.server_port}"
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sha256", ["", SHA256])
def test_fetches(server, tmp_path, sha256):
    target = tmp_path / "file"
    assert download([f"{server.url}/good"], target, sha256) == SHA256
    assert target.read_bytes() == CONTENT
    assert names(tmp_path) == ["file"]


def test_continues_after_a_break(server, tmp_path):
    download([f"{server.url}/breaks-once"], tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.seen == [("/breaks-once", None), ("/breaks-once", "bytes=200000-")]


def test_continues_what_an_earlier_run_left(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT[:5000])
    download([f"{server.url}/good"], tmp_path / "file", SHA256)
    assert server.seen == [("/good", "bytes=5000-")]
    (tmp_path / "whole.part").write_bytes(CONTENT)
    download([f"{server.url}/good"], tmp_path / "whole", SHA256)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "file").read_bytes() == CONTENT


def test_without_a_hash_nothing_is_continued_from_before(server, tmp_path):
    (tmp_path / "file.part").write_bytes(b"of another file")
    assert download([f"{server.url}/good"], tmp_path / "file") == SHA256


def test_servers_without_ranges(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT[:5000])
    assert download([f"{server.url}/whole"], tmp_path / "file", SHA256) == SHA256


def test_mirrors(server, tmp_path):
    urls = [f"{server.url}/{name}" for name in ("gone", "page", "other", "breaks", "good")]
    urls = ["http://127.0.0.1:9/closed", "file:///etc/hostname", *urls]
    assert download(urls, tmp_path / "file", SHA256) == SHA256
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_every_reason_is_told(server, tmp_path):
    urls = [f"{server.url}/{name}" for name in ("gone", "page", "other")]
    with pytest.raises(DownloadError) as caught:
        download([*urls, "ftp://x/y"], tmp_path / "file", SHA256)
    message = str(caught.value)
    for expected in (
        "/gone: 404 Not Found",
        "/page: the server sent a web page",
        f"/other: sha256 {hashlib.sha256(CONTENT[::-1]).hexdigest()}",
        "ftp://x/y: no address; expected http://",
        f"expected sha256 {SHA256}",
    ):
        assert expected in message
    assert names(tmp_path) == []


def test_what_arrived_is_kept(server, tmp_path):
    with pytest.raises(DownloadError, match="ended after 600,000 of 768,000 bytes"):
        download([f"{server.url}/breaks"], tmp_path / "file", SHA256)
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:600_000]
    download([f"{server.url}/good"], tmp_path / "file", SHA256)
    assert server.seen[-1] == ("/good", "bytes=600000-")
    assert names(tmp_path) == ["file"]
