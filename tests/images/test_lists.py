import os
from pathlib import Path

import pytest

from sphereface.errors import SphereFaceError
from sphereface.images import (
    ImageFile,
    UnreadableImageError,
    list_images,
    read_image,
    read_image_list,
)


def test_lines_are_split_at_the_last_space(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"a.jpg 3\nsome folder/b c.jpg 0\r\n\n  d.jpg -1  \ne.jpg +7\nf.jpg 0042")
    entries = read_image_list(path)
    assert entries.names == ["a.jpg", "some folder/b c.jpg", "  d.jpg", "e.jpg", "f.jpg"]
    assert entries.labels.tolist() == [3, 0, -1, 7, 42]
    assert [entries.where(i) for i in range(5)] == [f"{path}:{line}" for line in (1, 2, 4, 5, 6)]


def test_of_several_labels_the_last_counts_as_in_caffe(tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg 3 5\nb.jpg 1 2\n")
    entries = read_image_list(tmp_path / "list.txt")
    assert entries.names == ["a.jpg 3", "b.jpg 1"]
    assert entries.labels.tolist() == [5, 2]


def test_a_list_without_labels_has_label_0_as_atoi_gave(tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg\nmy holiday/b c.PNG\n/x/person_7\n")
    entries = read_image_list(tmp_path / "list.txt")
    assert entries.names == ["a.jpg", "my holiday/b c.PNG", "/x/person_7"]
    assert entries.labels.tolist() == [0, 0, 0]


def test_any_bytes_can_be_a_name(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfM\xfcller.jpg 1\n")
    (name,) = read_image_list(tmp_path / "list.txt").names
    assert os.fsencode(name) == b"M\xfcller.jpg"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b.jpg", '"b.jpg" without a label; expected NAME LABEL, as in line 1'),
        ("b.jpg one", '"b.jpg one"; expected NAME LABEL, an integer'),
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


def test_a_label_where_there_were_none(tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg 1\n")
    with pytest.raises(SphereFaceError, match="list.txt:2: .* with a label; expected NAME, as in"):
        read_image_list(tmp_path / "list.txt")
    assert read_image_list(tmp_path / "list.txt", labels=False).names == ["a.jpg", "b.jpg"]


def test_no_lines_and_no_file(tmp_path):
    (tmp_path / "empty.txt").write_text("\n  \n")
    with pytest.raises(SphereFaceError, match="empty.txt: no images: zero lines"):
        read_image_list(tmp_path / "empty.txt")
    with pytest.raises(SphereFaceError, match='layer "x": .*gone.txt: no such list of images'):
        read_image_list(tmp_path / "gone.txt", 'layer "x"')


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).touch()


def test_a_folder_means_the_pictures_in_it_and_below(tmp_path):
    odd = os.fsdecode(b"M\xfc\nller.webp")
    make(tmp_path, "b.png", "a.JPG", "sub/c.pgm", "sub/notes.md", "sub/ä.tif", odd)
    found = list_images([tmp_path])
    assert [file.name for file in found] == sorted(
        ["a.JPG", "b.png", "sub/c.pgm", "sub/ä.tif", odd]
    )
    assert all(os.path.exists(file.path) for file in found)  # noqa: PTH110 - a str
    assert ImageFile(f"{tmp_path}/", "a.JPG") in found
    assert [file.name for file in list_images([tmp_path], suffixes=[".md"])] == ["sub/notes.md"]


def test_links_are_followed_once(tmp_path):
    make(tmp_path, "real/a.png", "in/b.png")
    (tmp_path / "in/link").symlink_to(tmp_path / "real")
    (tmp_path / "real/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/self").symlink_to(tmp_path / "in")
    (tmp_path / "in/broken").symlink_to(tmp_path / "nowhere")
    assert [file.name for file in list_images([tmp_path / "in"])] == ["b.png", "link/a.png"]


def test_lists_and_files(tmp_path):
    make(tmp_path, "one.png")
    listing = tmp_path / "list.txt"
    listing.write_text("x y.png 3\n\nz.png\n/absolute/w.png 0\n")
    found = list_images([listing, tmp_path / "one.png"], "root")
    assert [file.path for file in found] == [
        "root/x y.png",
        "root/z.png",
        "/absolute/w.png",
        str(tmp_path / "one.png"),
    ]
    assert [file.name for file in found][:3] == ["x y.png", "z.png", "/absolute/w.png"]


def test_nothing_found(tmp_path):
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(SphereFaceError, match=r"list\.txt: no images"):
        list_images([tmp_path / "list.txt"])
    (tmp_path / "folder").mkdir()
    with pytest.raises(SphereFaceError, match=r"folder: no images; expected files named \*\.avif"):
        list_images([tmp_path / "folder"])
    with pytest.raises(SphereFaceError, match=r"gone\.png: no such file or folder"):
        list_images([tmp_path / "gone.png"])


def test_a_closed_folder_below_is_named_by_whoever_reads_it(tmp_path, monkeypatch):
    # Permissions mean nothing to root, so the system's answer is given here.
    for name in ("a.png", "closed/b.png", "z/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = list_images([tmp_path])
    assert [file.name for file in found] == ["a.png", "closed", "z/c.png"]
    with pytest.raises(UnreadableImageError, match="closed: "):
        read_image(found[1].path)
    with pytest.raises(SphereFaceError, match=r"cannot be read \(Permission denied\)"):
        list_images([tmp_path / "closed"])
