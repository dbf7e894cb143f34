import csv
import json

import pytest

from job_workers import make_dying, make_square, square
from sphereface.errors import SphereFaceError
from sphereface.faces.jobs import Journal, begun_with, read_lines, run_job, write_failures

NAMES = [f"p{i}.jpg" for i in range(11)]
META = {"settings": 1}


def journal(path, meta=None, names=NAMES, **options):
    return Journal(path, META if meta is None else meta, names, 4, counted="found", **options)


def run(path, **options):
    made = journal(path, **options)
    run_job(made, NAMES, make_square, batch=4, workers=1, label="test")
    return made


def test_one_run(tmp_path):
    path = tmp_path / "out.jsonl"
    made = run(path)
    assert [record["file"] for record in read_lines(path)] == NAMES
    assert made.counts == {"ok": 11}
    assert made.things == 4 * 4 + 4 * 4 + 3 * 3
    assert json.loads((tmp_path / "out.jsonl.meta.json").read_text()) == META
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.jsonl.meta.json"]


@pytest.mark.parametrize("cut", [0, 1, 80, 250, 400, 700, -1])
def test_a_cut_file_is_continued(tmp_path, cut):
    whole = tmp_path / "whole.jsonl"
    run(whole)
    data = whole.read_bytes()
    begun = journal(tmp_path / "cut.jsonl")
    begun.close()
    (tmp_path / "cut.jsonl.part").write_bytes(data[:cut])
    assert begun_with(tmp_path / "cut.jsonl", META)
    assert run(tmp_path / "cut.jsonl").things == 41
    assert (tmp_path / "cut.jsonl").read_bytes() == data


def test_what_is_done_is_not_done_again(tmp_path):
    run(tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    journal(tmp_path / "cut.jsonl").close()
    (tmp_path / "cut.jsonl.part").write_bytes(b"".join(lines[:6]))
    seen = []

    def watch(batch):
        seen.append(list(batch))
        return square(batch)

    made = journal(tmp_path / "cut.jsonl")
    assert made.done == 4
    run_job(made, NAMES, lambda: watch, batch=4, workers=1, label="test")
    assert seen == [NAMES[4:8], NAMES[8:]]


def test_lines_of_other_pictures_are_dropped(tmp_path):
    run(tmp_path / "whole.jsonl")
    journal(tmp_path / "cut.jsonl").close()
    (tmp_path / "cut.jsonl.part").write_bytes((tmp_path / "whole.jsonl").read_bytes())
    made = journal(tmp_path / "cut.jsonl", names=[*NAMES[:5], "new.jpg", *NAMES[5:]])
    assert made.done == 4
    made.close()


def test_an_interrupted_run_stays(tmp_path):
    def stop(batch):
        if batch[0] == NAMES[8]:
            raise KeyboardInterrupt
        return square(batch)

    made = journal(tmp_path / "out.jsonl")
    with pytest.raises(KeyboardInterrupt):
        run_job(made, NAMES, lambda: stop, batch=4, workers=1, label="test")
    assert not (tmp_path / "out.jsonl").exists()
    assert run(tmp_path / "out.jsonl").done == 11


def test_other_settings(tmp_path):
    journal(tmp_path / "out.jsonl").close()
    with pytest.raises(SphereFaceError, match="a run with other settings was begun there"):
        journal(tmp_path / "out.jsonl", meta={"settings": 2})
    journal(tmp_path / "out.jsonl", meta={"settings": 2}, overwrite=True).close()
    assert begun_with(tmp_path / "out.jsonl", {"settings": 2})


def test_existing_file(tmp_path):
    run(tmp_path / "out.jsonl")
    before = (tmp_path / "out.jsonl").read_bytes()
    with pytest.raises(SphereFaceError, match="exists already"):
        journal(tmp_path / "out.jsonl", meta={"settings": 2})
    journal(tmp_path / "out.jsonl", overwrite=True).close()
    assert (tmp_path / "out.jsonl").read_bytes() == before
    run(tmp_path / "out.jsonl", overwrite=True)


def test_a_run_that_has_ended_is_not_done_again(tmp_path):
    first = run(tmp_path / "out.jsonl")
    before = (tmp_path / "out.jsonl").stat().st_mtime_ns

    def never(batch):
        raise AssertionError(batch)

    again = journal(tmp_path / "out.jsonl")
    assert again.finished
    run_job(again, NAMES, lambda: never, batch=4, workers=1, label="test")
    assert (again.done, again.things, again.counts) == (first.done, first.things, first.counts)
    assert (tmp_path / "out.jsonl").stat().st_mtime_ns == before
    # What the lines tell of is gone, or a line is: the run is not whole.
    with pytest.raises(SphereFaceError, match="exists already"):
        journal(tmp_path / "out.jsonl", still_there=lambda record: record["file"] != NAMES[3])
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out.jsonl").write_bytes(b"".join(lines[:-1]))
    with pytest.raises(SphereFaceError, match="exists already"):
        journal(tmp_path / "out.jsonl")


def test_processes_give_the_same(tmp_path):
    run(tmp_path / "one.jsonl")
    made = journal(tmp_path / "two.jsonl")
    run_job(made, NAMES, make_square, batch=4, workers=2, label="test")
    assert (tmp_path / "two.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_a_dead_process_is_told(tmp_path):
    made = journal(tmp_path / "out.jsonl")
    with pytest.raises(SphereFaceError, match=r"a process died after 0 of 11 .* fewer --workers"):
        run_job(made, NAMES, make_dying, batch=4, workers=2, label="test")
    assert run(tmp_path / "out.jsonl").done == 11


def test_names_survive(tmp_path):
    names = ["schön/人.jpg", "new\nline.jpg", "no utf-8 \udcff.jpg", 'quo"te,.jpg']
    made = Journal(tmp_path / "out.jsonl", META, names, 4, counted="found")
    made.append([{"file": name, "status": "bad", "reason": "r, r", "found": []} for name in names])
    made.finish()
    assert "schön/人.jpg" in (tmp_path / "out.jsonl").read_text("utf-8").split('"')
    assert [record["file"] for record in read_lines(tmp_path / "out.jsonl")] == names
    count = write_failures(tmp_path / "f.csv", "test", read_lines(tmp_path / "out.jsonl"))
    with (tmp_path / "f.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.reader(file))
    assert count == 4
    assert rows == [["path", "stage", "status", "reason"]] + [
        [name, "test", "bad", "r, r"] for name in names
    ]
