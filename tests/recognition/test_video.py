from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.recognition.video import Video, VideoFile, is_video


def frames(count, size=(48, 64)):
    return [np.full((*size, 3), (20 * index, 200 - 15 * index, 90), np.uint8)
            for index in range(count)]  # fmt: skip


@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_written_and_read(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with VideoFile(path, 10, (48, 64)) as video:
        for image in frames(6):
            video.write(image)
    with Video(str(path)) as video:
        assert (video.size, video.frames, round(video.rate)) == ((48, 64), 6, 10)
        read = list(video)
    assert [frame.number for frame in read] == list(range(6))
    np.testing.assert_allclose([frame.seconds for frame in read], np.arange(6) / 10, atol=1e-6)
    for frame, image in zip(read, frames(6), strict=True):  # the codecs lose a little
        assert np.abs(frame.image.mean((0, 1)) - image.mean((0, 1))).max() < 8


def test_what_was_written_stays_after_an_error(tmp_path):
    def write():
        with VideoFile(tmp_path / "a.mp4", 10, (48, 64)) as video:
            for image in frames(3):
                video.write(image)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    with Video(str(tmp_path / "a.mp4")) as video:
        assert len(list(video)) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_what_cannot_be_read_or_written(tmp_path):
    with pytest.raises(SphereFaceError, match="no such video"):
        Video(str(tmp_path / "gone.mp4"))
    (tmp_path / "text.mp4").write_text("no video at all")
    with pytest.raises(SphereFaceError, match=r"text\.mp4: no frame can be read"):
        Video(str(tmp_path / "text.mp4"))
    with pytest.raises(SphereFaceError, match=r"camera:97: no frame .*whether it is there"):
        Video("camera:97")
    with pytest.raises(SphereFaceError, match='"camera:x"; expected camera:0'):
        Video("camera:x")
    with pytest.raises(SphereFaceError, match=r'"\.mov"; expected \.mp4 or \.avi'):
        VideoFile(tmp_path / "a.mov", 10, (4, 4))


def test_which_names_are_videos():
    assert is_video("a/b.MP4")
    assert is_video("old.wmv")
    assert is_video("camera:0")
    assert not is_video("a/b.jpg")
    assert not is_video("folder")
