# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import builtins
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fila.processing import video_decode
from fila.processing.video_decode import AvVideo, open_video
from fila.processing.video_error import UnusableVideo
from tests.processing.videos import number_of, rotated, video_bytes, video_of


@pytest.mark.parametrize(
    ("container", "codec", "b_frames"),
    [
        ("mp4", "mpeg4", 0),
        ("mp4", "mpeg4", 2),
        ("matroska", "mpeg4", 2),
        ("avi", "mpeg4", 0),
        ("mpegts", "mpeg2video", 0),
    ],
)
def test_chosen_frames_are_the_frames_of_the_file(container: str, codec: str, b_frames: int) -> None:
    with open_video(video_bytes(container=container, codec=codec, b_frames=b_frames)) as video:
        assert video.clip.num_frames == 25
        assert video.clip.fps == pytest.approx(10)
        assert video.clip.times == pytest.approx([index / 10 for index in range(25)], abs=2e-3)
        chosen = [3, 3, 0, 17, 24, 9]
        assert [number_of(frame) for frame in video.frames(chosen)] == chosen


def test_gif_is_a_video() -> None:
    with open_video(video_bytes(4, container="gif", codec="gif")) as video:
        assert video.clip.num_frames == 4
        assert [abs(number_of(frame) - index) <= 1 for index, frame in enumerate(video.frames(range(4)))] == [True] * 4


def test_path_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(video_bytes(6))
    with open_video(str(tmp_path / "clip.mp4")) as video:
        assert [number_of(frame) for frame in video.frames([5])] == [5]


def test_only_parts_from_key_frames_on_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    every = AvVideo._decoded

    def counted(self: AvVideo) -> Any:
        for frame in every(self):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(AvVideo, "_decoded", counted)
    with open_video(video_bytes(100, gop=5)) as video:
        assert [number_of(frame) for frame in video.frames([2, 3, 51, 98])] == [2, 3, 1, 23]
    assert len(decoded) <= 12
    assert len(decoded) == len(set(decoded))


def test_times_of_a_variable_rate_are_the_files() -> None:
    with open_video(video_bytes(5, times=[0, 1, 2, 19, 32])) as video:
        assert video.clip.times == pytest.approx([0.0, 0.1, 0.2, 1.9, 3.2])
        assert [number_of(frame) for frame in video.frames([4, 1])] == [4, 1]


def test_rotated_video_is_shown_upright() -> None:
    data = video_bytes(2, size=(32, 48))
    with open_video(rotated(data)) as video:
        frame = np.asarray(video.frames([1])[0])
    assert frame.shape == (48, 32, 3)
    assert frame[:16].mean() < frame[-16:].mean() - 2  # clockwise: the dark left half goes to the top
    marked = np.zeros((32, 48, 3), np.uint8)
    marked[0, 0] = 255
    opaque = types.SimpleNamespace(components=[], has_palette=False)
    turned = types.SimpleNamespace(height=32, width=48, rotation=-90, format=opaque, to_ndarray=lambda format: marked)
    assert np.asarray(video_decode.upright(turned))[0, 31, 0] == 255  # a clockwise turn: top left goes to top right


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    with open_video(video_bytes(), lambda *report: told.append(report)) as video:
        video.frames([1, 20])
    assert told[-1] == ("decoding", 2, 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no video that can be read"),
        (b"no video at all", "is no video that can be read"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "is no video that can be read"),
        (video_bytes()[:200], "is no video that can be read"),
    ],
    ids=["empty", "text", "playlist", "cut"],
)
def test_what_is_no_video_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(UnusableVideo, match=message):
        open_video(data)


def test_sound_alone_is_refused() -> None:
    import io

    import av

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream: Any = output.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with pytest.raises(UnusableVideo, match="has no picture stream"):
        open_video(file.getvalue())


def test_damaged_frames_are_named() -> None:
    data = bytearray(video_bytes(100, container="matroska"))
    half = len(data) // 2
    with open_video(bytes(data[:half])) as video:
        assert 20 < video.clip.num_frames < 80
    with open_video(bytes(data)) as video:
        video._decoded = lambda: iter(())  # type: ignore[method-assign, union-attr]
        with pytest.raises(UnusableVideo, match=r"is damaged: frame 99 of 100 cannot be decoded"):
            video.frames([99])


def test_huge_frames_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnusableVideo, match="has frames of 32x48 pixels, more than 1000"):
        open_video(video_bytes(2))


def test_too_many_frames_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_decode, "MAX_LISTED_FRAMES", 20)
    with pytest.raises(UnusableVideo, match="has more than 20 frames"):
        open_video(video_bytes(25))


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"needs PyAV, .* pip install av"):
        open_video(video_bytes(2))


def test_files_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = builtins.open

    def watched(*args: Any, **kwargs: Any) -> Any:
        opened.append(real(*args, **kwargs))
        return opened[-1]

    (tmp_path / "no.mp4").write_bytes(b"no video")
    (tmp_path / "clip.mp4").write_bytes(video_bytes(2))
    monkeypatch.setattr(builtins, "open", watched)
    with open_video(str(tmp_path / "clip.mp4")):
        pass
    with pytest.raises(UnusableVideo):
        open_video(str(tmp_path / "no.mp4"))
    assert len(opened) == 2
    assert all(file.closed for file in opened)


def test_vp9_with_alpha_is_drawn_on_white() -> None:
    clear = np.zeros((32, 48, 4), np.uint8)
    clear[:, :24] = (200, 30, 60, 255)
    data = video_of([clear] * 3, container="webm", codec="libvpx-vp9", form="yuva420p")
    with open_video(data) as video:
        (frame,) = (np.asarray(picture).astype(int) for picture in video.frames([2]))
    assert np.abs(frame[:, :16] - [200, 30, 60]).max() <= 8
    assert frame[:, 40:].min() >= 250


@pytest.mark.parametrize(("name", "what"), [("MAX_HELD", "held"), ("MAX_DECODED", "decoded")])
def test_frames_beyond_the_bounds_are_refused(name: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 32 * 48)
    monkeypatch.setattr(video_decode, name, 3)
    with open_video(video_bytes(25, gop=5)) as video:
        assert len(video.frames([5, 6, 7])) == 3
        with pytest.raises(UnusableVideo, match=rf"has 4 frames of 32x48 pixels to be {what}, more than 3 times"):
            video.frames([5, 6, 7, 8])
