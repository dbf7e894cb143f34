from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sphereface.errors import ExistsError, SphereFaceError
from sphereface.files import (
    atomic_folder,
    atomic_path,
    check_output,
    open_regular,
    read_bytes,
    read_text,
)


def test_a_file_is_read_whole_up_to_the_limit(tmp_path):
    path = tmp_path / "ü.bin"
    path.write_bytes(b"\xff" + bytes(99))
    assert read_bytes(path, limit=100) == b"\xff" + bytes(99)
    with pytest.raises(SphereFaceError, match=r"ü.bin: list of 100 bytes; expected at most 99 bytes"):  # fmt: skip  # noqa: E501
        read_bytes(path, limit=99, what="list")
    path.write_bytes(b"\xff" + b"a" * 99)
    assert read_text(path, limit=100).encode("utf-8", "surrogateescape") == path.read_bytes()


def test_a_size_that_a_file_hides_does_not_help(tmp_path):
    # Files of /proc say that they have no bytes.
    with pytest.raises(SphereFaceError, match="expected at most 3 bytes"):
        read_bytes("/proc/self/maps", limit=3)


def test_pipes_devices_sockets_and_folders_are_refused(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path, problem in [
            (pipe, "a pipe"),
            (Path("/dev/zero"), "a device"),
            (tmp_path, "a folder"),
            (tmp_path / "socket", "No such device or address"),
        ]:
            with pytest.raises(SphereFaceError, match=problem):
                open_regular(path)
            with pytest.raises(SphereFaceError, match=problem):
                read_bytes(path, limit=10)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(SphereFaceError, match=r"nowhere.txt: no such prototxt"):
        read_bytes(tmp_path / "nowhere.txt", limit=1, what="prototxt")
    with pytest.raises(SphereFaceError, match="cannot be read"):
        open_regular("a\0b")


def test_an_output_is_asked_for_before_it_is_replaced(tmp_path):
    path = tmp_path / "out.npy"
    check_output(path)
    path.write_bytes(b"old")
    with pytest.raises(SphereFaceError, match=r"out.npy: exists already.*overwrite=True"):
        check_output(path)
    check_output(path, overwrite=True)
    with pytest.raises(SphereFaceError, match="a folder"):
        check_output(tmp_path, overwrite=True)
    with pytest.raises(SphereFaceError, match="no folder .*nowhere"):
        check_output(tmp_path / "nowhere" / "out.npy")
    for stream in ("/dev/null", "/dev/stdout", "/dev/fd/1"):
        check_output(stream)


def test_an_input_is_never_an_output(tmp_path):
    path, link, hard = tmp_path / "x.npy", tmp_path / "link.npy", tmp_path / "hard.npy"
    path.write_bytes(b"input")
    link.symlink_to(path)
    hard.hardlink_to(path)
    for name in (path, link, hard):
        with pytest.raises(SphereFaceError, match="the output is an input"):
            check_output(name, overwrite=True, inputs=[tmp_path / "other", path])


def test_a_link_is_written_through(tmp_path):
    path, link = tmp_path / "real.txt", tmp_path / "link.txt"
    path.write_text("old")
    link.symlink_to("real.txt")
    with atomic_path(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    broken = tmp_path / "broken.txt"
    broken.symlink_to("later.txt")
    check_output(broken)
    with atomic_path(broken) as temporary:
        temporary.write_text("first")
    assert (tmp_path / "later.txt").read_text() == "first"
    assert broken.is_symlink()


def test_a_pipe_is_written_into_and_stays(tmp_path):
    pipe, got = tmp_path / "pipe.txt", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    with atomic_path(pipe) as temporary:
        temporary.write_text("through")
    reader.join()
    assert got == ["through"]
    assert pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == [pipe]


def test_a_stream_that_the_shell_opened_keeps_its_file(tmp_path):
    script = (
        "from sphereface.files import atomic_path\n"
        "print('before')\n"
        "with atomic_path('/dev/stdout') as path:\n"
        "    path.write_text('written\\n')\n"
        "print('after')"
    )
    with (tmp_path / "out.txt").open("wb") as out:
        subprocess.run([sys.executable, "-c", script], stdout=out, check=True)
    assert (tmp_path / "out.txt").read_text() == "before\nwritten\nafter\n"


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o640)
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "made"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("first")
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:  # noqa: PT012
        (folder / "a").write_text("half")
        raise RuntimeError
    assert (target / "a").read_text() == "first"
    with atomic_folder(target) as folder:
        (folder / "b").write_text("second")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(ExistsError):
        check_output(target, holds=("b",))
    check_output(target, holds=("b", "c"), overwrite=True)
    with pytest.raises(SphereFaceError, match="the output holds an input, b; write to another"):
        check_output(target, holds=("b",), inputs=[target / "b"], overwrite=True)
    with pytest.raises(SphereFaceError, match="a folder that holds b; expected only a"):
        check_output(target, holds=("a",), overwrite=True)
    with pytest.raises(SphereFaceError, match="a file; expected a folder to write"):
        check_output(target / "b", holds=("a",), overwrite=True)
