"""The page in a browser, and the address that it is served on."""

from __future__ import annotations

import base64
import http.client
import json
import re
import shutil
import subprocess
import threading
from html import unescape
from urllib.parse import urlsplit

import cv2
import pytest

from sphereface.errors import SphereFaceError
from sphereface.recognition import Gallery, Threshold

pytest.importorskip("flask")

from sphereface.recognition.page import MAX_PAGE_BYTES, create_app
from sphereface.recognition.page_server import PageServer, trusted_names

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

# Uses the page, in a frame, as a person would, and shows what it says; `DATA` are the pictures.
DRIVER = """<!DOCTYPE html><body><iframe src="/" style="width:1000px;height:900px"></iframe>
<pre id="told"></pre><script>
const DATA = %s, frame = document.querySelector("iframe"), told = {requests: 0};
const until = async (what) => { while (!what()) await new Promise(r => setTimeout(r, 20)); };
frame.onload = async () => {
  const page = frame.contentDocument, window = frame.contentWindow;
  const fetched = window.fetch;
  window.fetch = (...given) => { told.requests += 1; return fetched(...given); };
  const says = () => page.getElementById("verdict").textContent;
  const give = (field, name) => {
    const bytes = Uint8Array.from(atob(DATA[name]), c => c.charCodeAt(0));
    const files = new window.DataTransfer();
    files.items.add(new window.File([bytes], name + ".png", {type: "image/png"}));
    const input = page.querySelector(`[data-field=${field}] input`);
    input.files = files.files;
    input.dispatchEvent(new window.Event("change"));
  };
  const slide = value => {
    page.getElementById("threshold").value = value;
    page.getElementById("threshold").dispatchEvent(new window.Event("input"));
  };
  const pixel = (field, x, y) => [...page.querySelector(`[data-field=${field}] canvas`)
    .getContext("2d").getImageData(x, y, 1, 1).data].slice(0, 3);
  await until(() => page.getElementById("model").textContent);
  told.model = page.getElementById("model").textContent;
  told.empty = says();
  give("first", "two"); give("second", "pink");
  await until(() => /cosine/.test(says()));
  told.pair = says();
  told.origin = page.getElementById("origin").textContent;
  const asked = told.requests;
  await until(() => pixel("first", 100, 40).some(Boolean));
  told.boxes = [pixel("first", 0, 40), pixel("first", 90, 40)];
  slide(0.99);
  told.stricter = says();
  told.strictBoxes = [pixel("first", 0, 40), pixel("first", 90, 40)];
  const canvas = page.querySelector("[data-field=first] canvas");
  const area = canvas.getBoundingClientRect();
  canvas.dispatchEvent(new window.MouseEvent("click", {bubbles: true, cancelable: true,
    clientX: area.left + area.width * 110 / 200, clientY: area.top + area.height / 2}));
  told.other = says();
  page.getElementById("reset").click();
  told.reset = says();
  told.more = told.requests - asked;
  give("second", "broken");
  await until(() => /expected|damaged|truncated|picture/.test(says()));
  told.broken = says();
  page.querySelector("[data-mode=identify]").click();
  give("picture", "two");
  await until(() => /cosine/.test(says()));
  told.people = [...page.querySelectorAll("#verdict li")].map(line => line.textContent);
  slide(1);
  told.unknown = [...page.querySelectorAll("#verdict li")].map(line => line.textContent);
  document.getElementById("told").textContent = JSON.stringify(told);
};
</script>"""


@pytest.fixture
def served():
    """served(app) is the server of an application, which ends with the test."""
    running = []

    def serve(app):
        server = PageServer(app)
        thread = threading.Thread(target=server.serve)
        thread.start()
        running.append((server, thread))
        return server

    yield serve
    for server, thread in running:
        server.close()
        thread.join()


@pytest.fixture
def app(analyzer):
    rows = [[1.0, 0, 0], [0, 1, 0]]
    gallery = Gallery(["Ann", "Bob"], rows, ["a", "b"], embedder="c0", label="colours")
    return create_app(analyzer, Threshold(0.7, "of a test"), gallery)


def test_the_page_in_a_browser(app, served, picture, tmp_path):
    if not CHROMIUM:
        pytest.skip("needs chromium (apt-get install chromium)")
    pictures = {"two": picture((0, "Ann"), (90, "Bob")), "pink": picture((30, (250, 150, 150)))}
    data = {
        name: base64.b64encode(cv2.imencode(".png", image[:, :, ::-1])[1]).decode()
        for name, image in pictures.items()
    }
    data["broken"] = base64.b64encode(b"hello").decode()
    app.add_url_rule("/driver", "driver", lambda: DRIVER % json.dumps(data))
    app.after_request_funcs[None].insert(0, _without_policy)  # the last one to run
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path}", "--virtual-time-budget=30000", "--dump-dom",
        served(app).url + "driver",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="told">(.+?)</pre>', done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-2000:]
    told = json.loads(unescape(found[1]))
    # Ann's (250, 20, 20) and Bob's (20, 250, 20) with pink (250, 150, 150), by hand.
    ann = (250 * 250 + 2 * 20 * 150) / ((250**2 + 2 * 20**2) * (250**2 + 2 * 150**2)) ** 0.5
    bob = (20 * 250 + 250 * 150 + 20 * 150) / ((250**2 + 2 * 20**2) * (250**2 + 2 * 150**2)) ** 0.5
    assert told["model"] == "Model: colours; gallery of 2 people"
    assert told["empty"] == "Give two photographs."
    assert told["origin"] == "of a test"
    assert told["pair"].startswith("The same person")
    assert _cosine(told["pair"]) == pytest.approx(ann, abs=0.02)
    assert told["stricter"].startswith("Two people")
    assert _cosine(told["stricter"]) == _cosine(told["pair"])
    assert told["other"].startswith("Two people")
    assert _cosine(told["other"]) == pytest.approx(bob, abs=0.02)
    assert told["reset"].endswith("threshold 0.700")
    assert told["more"] == 0  # neither slider nor another face asks the server
    chosen, other = told["boxes"]
    assert chosen[1] > chosen[0] + 50  # green: the same person
    assert max(other) - min(other) < 120
    assert told["strictBoxes"][0][0] > told["strictBoxes"][0][1] + 50  # red
    assert "second photograph" in told["broken"]
    assert [line.split(":")[0] for line in told["people"]] == ["Ann", "Bob"]
    assert all(line.startswith("unknown") for line in told["unknown"])


def _without_policy(response):
    from flask import request

    if request.path == "/driver":  # the test's own page runs a script in a frame
        response.headers.pop("Content-Security-Policy", None)
    return response


def _cosine(text):
    return float(re.search(r"cosine (-?[\d.]+)", text)[1])


def test_too_much_is_told_to_a_browser_that_still_sends(app, served):
    connection = http.client.HTTPConnection(urlsplit(served(app).url).netloc, timeout=60)
    head = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'
    connection.request(
        "POST", "/identify", head + bytes(MAX_PAGE_BYTES),
        {"Content-Type": "multipart/form-data; boundary=x"},
    )  # fmt: skip
    response = connection.getresponse()
    assert response.status == 413
    assert "more than 20 MB" in json.loads(response.read())["error"]
    connection.close()


def test_only_this_machine(app, served):
    server = served(app)
    assert urlsplit(server.url).hostname == "127.0.0.1"
    with pytest.raises(SphereFaceError, match=r"127\.0\.0\.1:\d+: .*give others by --host"):
        PageServer(app, port=urlsplit(server.url).port)
    with pytest.raises(SphereFaceError, match="expected an address of this machine"):
        PageServer(app, "192.0.2.1")
    with pytest.raises(SphereFaceError, match="port 70000; expected 0 to 65535"):
        PageServer(app, port=70000)


def test_names_for_other_hosts():
    assert trusted_names("192.168.1.5") == ["192.168.1.5"]
    with pytest.raises(SphereFaceError, match="expected an IPv4 address"):
        trusted_names("fd00::5")
    assert trusted_names("0.0.0.0", ["studio.lan"]) == ["studio.lan"]
    with pytest.raises(SphereFaceError, match="without a name; expected --name"):
        trusted_names("0.0.0.0")
