from __future__ import annotations

import json
import threading
import urllib.request

import pytest

from sphereface.cli.main import main

pytest.importorskip("flask")

from sphereface.recognition.page_server import PageServer


def asked(url, pictures=None):
    """Return the answer to a browser's request; `pictures` are posted, {field: path}."""
    request = urllib.request.Request(url)
    if pictures:
        parts = [
            b'--x\r\nContent-Disposition: form-data; name="%s"; filename="a.png"\r\n\r\n%s\r\n'
            % (field.encode(), path.read_bytes())
            for field, path in pictures.items()
        ]
        request = urllib.request.Request(url, b"".join(parts) + b"--x--\r\n")
        request.add_header("Content-Type", "multipart/form-data; boundary=x")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


@pytest.fixture
def answers(monkeypatch):
    """Answers of the page that a command serves, by route; then the page gets a Ctrl-C."""
    told, questions, serve = {}, {}, PageServer.serve

    def ask(server):
        try:
            for route, pictures in questions.items():
                told[route] = asked(server.url + route, pictures)
        finally:
            server.close()

    def served(server):
        asking = threading.Thread(target=ask, args=[server])
        asking.start()
        serve(server)
        asking.join()
        raise KeyboardInterrupt

    monkeypatch.setattr(PageServer, "serve", served)
    told["questions"] = questions
    return told


def test_the_page_is_served_with_model_threshold_and_gallery(folder, options, answers, capsys):
    people = folder / "people"
    gallery = str(folder / "g.npz")
    pictures = people / "p0/0.png", people / "p0/1.png"
    assert main(["enroll", str(people), "--output", gallery, *options]) == 0
    told = folder / "told.json"
    assert main(["verify", *map(str, pictures), "--json", str(told), *options]) == 2
    answers["questions"].update(
        {
            "about": None,
            "compare": dict(zip(("first", "second"), pictures, strict=True)),
            "identify": {"picture": pictures[1]},
        }
    )
    capsys.readouterr()
    command = ["page", "--port", "0", "--gallery", gallery, "--threshold", "0.8", *options]
    assert main(command) == 0
    model, address, end = capsys.readouterr().out.splitlines()
    assert model.startswith("model: ")
    assert "threshold: 0.8" in model
    assert address.startswith("http://127.0.0.1:")
    assert end == "ended"
    assert answers["about"]["threshold"] == 0.8
    score = json.loads(told.read_text())["score"]
    assert answers["compare"]["cosines"][0][0] == pytest.approx(score, abs=1e-4)
    assert answers["identify"]["pictures"][0]["faces"][0]["nearest"] == "p0"


def test_without_a_threshold_it_says_so(folder, options, answers, capsys):
    assert main(["page", "--port", "0", *options]) == 0
    assert "none is known, move the slider" in capsys.readouterr().out


def test_what_is_refused_before_anything_is_served(folder, options, answers, capsys):
    assert main(["page", "--host", "0.0.0.0", *options]) == 2
    assert "--name NAME" in capsys.readouterr().err
    assert main(["page", "--port", "70000", *options]) == 2
    assert "port 70000" in capsys.readouterr().err
    assert main(["page", "--gallery", str(folder / "gone.npz"), *options]) == 2
    assert "gone.npz" in capsys.readouterr().err
