from __future__ import annotations

from sphereface.cli.main import main

LOG = """\
I0713 10:00:03.000001  4242 solver.cpp:218] Iteration 0 (0 iter/s, 1s/100 iters), loss = 9.26609
I0713 10:00:03.000002  4242 solver.cpp:237]     Train net output #0: lambda = 892.857
I0713 10:00:03.000004  4242 sgd_solver.cpp:105] Iteration 0, lr = 0.1
"""


def test_a_picture_and_where_the_log_ends(tmp_path, capsys):
    log, picture = tmp_path / "a.log", tmp_path / "a.svg"
    log.write_text(LOG)
    assert main(["plot-log", str(log), "--out", str(picture)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{log}: iteration 0, loss 9.26609, lambda 892.857, lr 0.1",
        str(picture),
    ]
    assert "<svg" in picture.read_text()


def test_bad_input(tmp_path, capsys):
    assert main(["plot-log", str(tmp_path / "none.log")]) == 2
    assert "none.log: no such log" in capsys.readouterr().err
