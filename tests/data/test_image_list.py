import os

import pytest

from sphereface.data.image_list import read_image_list
from sphereface.errors import SphereFaceError


def test_lines_are_split_at_the_last_space(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"a.jpg 3\nsome folder/b c.jpg 0\r\n\n  d.jpg -1  \ne.jpg +7\nf.jpg 0042")
    entries = read_image_list(path)
    assert entries.names == ["a.jpg", "some folder/b c.jpg", "  d.jpg", "e.jpg", "f.jpg"]
    assert entries.labels.tolist() == [3, 0, -1, 7, 42]
    assert [entries.where(i) for i in range(5)] == [f"{path}:{line}" for line in (1, 2, 4, 5, 6)]


def test_any_bytes_can_be_a_name(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfM\xfcller.jpg 1\n")
    (name,) = read_image_list(tmp_path / "list.txt").names
    assert os.fsencode(name) == b"M\xfcller.jpg"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b.jpg", '"b.jpg"; expected NAME LABEL, an integer'),
        ("b.jpg one", '"b.jpg one"'),
        ("b.jpg 1.5", '"b.jpg 1.5"'),
        ("b.jpg 1x", '"b.jpg 1x"'),
        ("b.jpg ١", '"b.jpg'),
        ("b.jpg\t1", "separate the label by a space"),
        ("my b.jpg,1", "separate the label by a space"),
        (" 5", '" 5"'),
        ("b.jpg 2147483648", "label 2147483648; expected an integer of 32 bits"),
        ("x" * 200, r"xxx\.\.\."),
    ],
)
def test_garbage_is_named_with_file_and_line(tmp_path, line, message):
    path = tmp_path / "list.txt"
    path.write_text(f"a.jpg 0\n{line}\nc.jpg 1\n")
    with pytest.raises(SphereFaceError, match=f"list.txt:2: .*{message}"):
        read_image_list(path)


def test_no_lines_and_no_file(tmp_path):
    (tmp_path / "empty.txt").write_text("\n  \n")
    with pytest.raises(SphereFaceError, match="empty.txt: zero lines"):
        read_image_list(tmp_path / "empty.txt")
    with pytest.raises(
        SphereFaceError, match='layer "x": .*gone.txt: list of images cannot be read .No such file'
    ):
        read_image_list(tmp_path / "gone.txt", 'layer "x"')
