# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fila.look.frame_sheet import draw_frame_sheet, see_frames
from tests.real_clip import real_clip
from tests.tiny_videos import video_model, video_processor


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny checkpoint that takes videos."""
    folder = tmp_path_factory.mktemp("videos") / "tiny"
    model = video_model({"type": "stc", "depth": 1, "image_frames": 3})
    model.save_pretrained(folder)
    video_processor(model).save_pretrained(folder)
    return str(folder)


def test_ask_about_a_real_clip(fila: Callable[..., Any], videos: str) -> None:
    found = fila("ask", videos, real_clip(), "What happens?", "--max-new-tokens", 5, "--device", "cpu")
    assert found.exit_code == 0, found.stderr
    # 4 frames of 4 x 4 patches, padded by one: 3 steps of 3 x 3 tokens
    assert "prompt: 27 image tokens (4 frames) + " in found.stderr
    assert "answer: " in found.stderr


def test_ask_about_an_image_and_a_clip(fila: Callable[..., Any], videos: str, image: str) -> None:
    found = fila("ask", videos, image, real_clip(), "Alike?", "--max-new-tokens", 2, "--device", "cpu")
    assert found.exit_code == 0, found.stderr
    assert "tiles, 4 frames)" in found.stderr


def test_ask_names_a_broken_clip(fila: Callable[..., Any], videos: str, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    found = fila("ask", videos, tmp_path / "clip.mp4", "What?", "--device", "cpu")
    assert found.exit_code == 2
    assert "Video 0 is no video that can be read" in found.stderr


def test_ask_a_checkpoint_without_videos(fila: Callable[..., Any], checkpoint: str) -> None:
    found = fila("ask", checkpoint, real_clip(), "What?", "--device", "cpu")
    assert found.exit_code == 2
    assert "because the processor has no video processor" in found.stderr


def test_view_draws_a_contact_sheet(fila: Callable[..., Any], videos: str, tmp_path: Path) -> None:
    for options, frames in (([], 8), (["--checkpoint", videos], 4)):
        found = fila("view", real_clip(), "-o", tmp_path / "sheet.png", *options)
        assert found.exit_code == 0, found.stderr
        assert found.stderr.count("frame ") == frames
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.width == 1240


def test_missing_decoder_is_named_in_one_line(
    fila: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    found = fila("view", real_clip(), "-o", tmp_path / "sheet.png")
    assert found.exit_code == 2
    assert found.stderr.startswith("error: Decoding a video needs PyAV")
    assert found.stderr.count("\n") == 1


def test_contact_sheet_shows_the_pixels_of_the_processor() -> None:
    model = video_model({"type": "mlp"})
    frames = [Image.new("RGB", (28, 28), colour) for colour in ("red", "lime", "blue")]
    pictures, captions = see_frames(video_processor(model).video_processor, frames)
    assert [picture.getpixel((3, 3)) for picture in pictures] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert captions == ["frame 0", "frame 1", "frame 2"]
    colours = draw_frame_sheet(pictures, captions, title="a", note="b").getcolors(1 << 20)
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255)} <= {colour for _, colour in colours or []}
