import json

import cv2
import numpy as np

from sphereface.cli.main import main


def test_summary_and_exit_code(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), np.full((200, 200, 3), 99, np.uint8))
    points = [[80, 80], [120, 80], [100, 100], [85, 120], [115, 120]]
    face = {"box": [60, 50, 140, 150], "score": 0.9, "landmarks": points}
    records = [
        {"file": "a.png", "status": "ok", "faces": [face, face]},
        {"file": "b.png", "status": "no_face", "reason": "no face found", "faces": []},
    ]
    faces = tmp_path / "faces.jsonl"
    faces.write_text("".join(json.dumps(record) + "\n" for record in records))
    command = ["align", str(faces), "--root", str(tmp_path / "in")]
    options = ["--output", str(tmp_path / "out"), "--template", "112x112", "--format", "png"]
    assert main([*command, *options]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 crops of 1 of 2 pictures; 1 have more faces",
        "  no_face: 1",
        "  ok: 1",
        f"  what failed and why: {tmp_path}/out/failures.csv",
    ]
    crop = cv2.imread(str(tmp_path / "out" / "a.png"))
    assert crop.shape == (112, 112, 3)
    assert (crop == 99).all()
    assert main([*command, *options]) == 0  # done before
    capsys.readouterr()
    assert main([*command, *options[:-1], "jpg"]) == 2
    assert main([*command, *options, "--template", "112", "--overwrite"]) == 2
    assert 'no template "112"' in capsys.readouterr().err
