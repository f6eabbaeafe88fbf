# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import io
import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.models.auto.video_processing_auto import AutoVideoProcessor
from transformers.video_utils import VideoMetadata

from fila import FilaImageProcessorPil, FilaVideoProcessor
from fila.processing import video_progress, video_source
from fila.processing.video_error import VideoInputError
from fila.processing.video_frame_crop import center_crop, center_crop_without_antialias
from tests.cases import each
from tests.goldens import tensors_of
from tests.helpers import random_image
from tests.processing.videos import number_of, pictures, video_bytes

SIZE = {"height": 28, "width": 28}


def processor(**changes: Any) -> FilaVideoProcessor:
    return FilaVideoProcessor(**({"size": SIZE, "sampling": {"type": "uniform", "num_frames": 4}} | changes))


def raw(**changes: Any) -> FilaVideoProcessor:
    """Without normalisation: pixels stay 0..255."""
    return processor(do_normalize=False, do_rescale=False, **changes)


def numbers(batch: Any) -> list[list[int]]:
    return [
        [number_of(frame[0].transpose(1, 2, 0)) for frame in video]
        for video in np.asarray(batch["pixel_values_videos"])
    ]


def test_encoded_video_is_sampled() -> None:
    batch = raw()(video_bytes(25), return_tensors="pt", return_metadata=True)
    assert batch["pixel_values_videos"].shape == (1, 4, 1, 3, 28, 28)
    assert batch["video_view_boxes"].tolist() == [[[[0, 0, 28, 28]]] * 4]
    assert batch["video_tile_grid"].tolist() == [[[1, 1]] * 4]
    assert numbers(batch) == [[3, 9, 15, 21]]
    assert batch["video_metadata"][0].frames_indices == [3, 9, 15, 21]
    assert batch["video_times"][0] == pytest.approx([0.3, 0.9, 1.5, 2.1])


@each(
    ("options", "expected"),
    [
        ({"sampling": {"type": "fps"}}, [5, 15]),
        ({"sampling": {"type": "seconds"}}, [0, 10, 20]),
        ({"sampling": {"type": "linspace", "num_frames": 3}}, [0, 12, 24]),
        ({"num_frames": 5}, [0, 5, 10, 15, 20]),
        ({"fps": 2}, [0, 5, 10, 15, 20]),
        ({"start": 1.0, "end": 2.0}, [10, 13, 15, 18]),
        ({"start": 1.0, "end": 2.0, "num_frames": 2}, [9, 14]),
        ({"start": 1.0, "end": 2.0, "fps": 2}, [9, 14]),
    ],
)
def test_call_says_which_frames(options: dict[str, Any], expected: list[int]) -> None:
    assert numbers(raw()(video_bytes(25), return_tensors="np", **options)) == [expected]


def test_every_kind_of_source_gives_the_same_frames(tmp_path: Path) -> None:
    data = video_bytes(9)
    (tmp_path / "clip.mp4").write_bytes(data)
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, picture in enumerate(pictures(9)):
        picture.save(folder / f"{index:03}.png")
    options = {"sampling": {"type": "uniform", "num_frames": 3}, "return_tensors": "np"}
    sources = [data, str(tmp_path / "clip.mp4"), tmp_path / "clip.mp4", io.BytesIO(data), str(folder), pictures(9)]
    arrays = np.stack([np.asarray(picture) for picture in pictures(9)])
    sources += [arrays, torch.from_numpy(arrays).permute(0, 3, 1, 2), list(arrays)]
    for source in sources:
        assert numbers(raw()(source, **options)) == [[1, 4, 7]]


def test_open_file_is_read_from_its_start() -> None:
    file = io.BytesIO(video_bytes(9))
    assert numbers(raw()(file, return_tensors="np")) == numbers(raw()(file, return_tensors="np"))


def test_a_stream_may_give_less_than_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(video_bytes(9))
    expected = numbers(raw()(tmp_path / "clip.mp4", return_tensors="np"))
    with (tmp_path / "clip.mp4").open("rb", buffering=0) as file:
        stream = SimpleNamespace(read=lambda size: file.read(min(size, 100)))
        assert numbers(raw()(stream, return_tensors="np")) == expected


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str) -> Any:
        raise PermissionError(13, "Permission denied", path)

    (tmp_path / "frames").mkdir()
    monkeypatch.setattr(video_source.os, "listdir", denied)
    with pytest.raises(VideoInputError, match=r"Video 0 cannot be read \(.*Permission denied: '.*frames'\)"):
        raw()(tmp_path / "frames")


def test_frames_that_are_handed_in_are_all_used() -> None:
    assert numbers(raw()(pictures(9), return_tensors="np")) == [list(range(9))]
    assert numbers(raw(do_sample_frames=True)(pictures(9), return_tensors="np")) == [[1, 3, 5, 7]]
    assert numbers(raw(do_sample_frames=False)(video_bytes(5), return_tensors="np")) == [list(range(5))]


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_floats_of_a_video_have_one_scale(kind: Any) -> None:
    clip = np.zeros((3, 28, 28, 3), np.float32)
    clip[1], clip[2] = 1, 200  # a fade from black
    pixels = np.asarray(processor(do_normalize=False)(kind(clip), return_tensors="np")["pixel_values_videos"])
    np.testing.assert_allclose(pixels.max(axis=(0, 2, 3, 4, 5)), [0, 1 / 255, 200 / 255], rtol=1e-6)
    fractions = np.asarray(processor(do_normalize=False)(kind(clip[:2]), return_tensors="np")["pixel_values_videos"])
    assert fractions.max() == 1


def test_folder_counts_as_three_frames_per_second(tmp_path: Path) -> None:
    for index, picture in enumerate(pictures(9)):
        picture.save(tmp_path / f"{index:03}.png")
    batch = raw()(str(tmp_path), sampling={"type": "fps"}, return_tensors="np", return_metadata=True)
    assert batch["video_times"][0] == pytest.approx([1 / 3, 4 / 3, 7 / 3])


def test_folder_is_sampled_as_a_file_is(tmp_path: Path) -> None:
    for index, picture in enumerate(pictures(9)):
        picture.save(tmp_path / f"{index:03}.png")
    assert numbers(raw()(str(tmp_path), return_tensors="np")) == [[1, 3, 5, 7]]
    assert numbers(raw(do_sample_frames=False)(tmp_path, return_tensors="np")) == [list(range(9))]


@pytest.mark.parametrize("kind", [dict, VideoMetadata])
def test_metadata_says_where_given_frames_were_taken_from(kind: Any) -> None:
    known = kind(total_num_frames=300, fps=30.0, frames_indices=[0, 90, 180, 270])
    options: dict[str, Any] = {"return_tensors": "np", "return_metadata": True, "video_metadata": [None, known]}
    batch = raw()([pictures(4), pictures(4)], **options)
    assert batch["video_times"] == [None, [0, 3, 6, 9]]
    given, found = batch["video_metadata"]
    assert (given.total_num_frames, given.fps, given.frames_indices) == (4, None, [0, 1, 2, 3])
    assert (found.total_num_frames, found.fps, found.duration) == (300, 30, 10)
    assert found.frames_indices == [0, 90, 180, 270]
    batch = raw()([pictures(4), pictures(4)], sampling={"type": "uniform", "num_frames": 2}, **options)
    assert numbers(batch) == [[1, 2], [1, 2]]
    assert batch["video_times"] == [None, [3, 6]]
    assert batch["video_metadata"][1].frames_indices == [90, 180]


def test_videos_of_a_batch_are_padded() -> None:
    batch = raw()([pictures(3), video_bytes(25), pictures(2)], return_tensors="pt")
    assert batch["pixel_values_videos"].shape[:2] == (3, 4)
    assert batch["video_view_boxes"].any(dim=-1).sum(dim=(1, 2)).tolist() == [3, 4, 2]
    assert not batch["pixel_values_videos"][2, 2:].any()
    unpadded = raw()([pictures(3), pictures(2)])
    assert [len(video) for video in unpadded["pixel_values_videos"]] == [3, 2]


def test_paths_lie_one_list_deep_and_frames_two(tmp_path: Path) -> None:
    pictures(1)[0].save(tmp_path / "0.png")
    (tmp_path / "clip.mp4").write_bytes(video_bytes(5))
    clip, frame = str(tmp_path / "clip.mp4"), str(tmp_path / "0.png")
    assert [len(video) for video in numbers(raw()([[clip], [[frame, frame]]], return_tensors="np"))] == [4, 4]
    assert [len(v) for v in raw()([[clip], [[frame, frame]]])["pixel_values_videos"]] == [4, 2]


def test_frames_are_drawn_as_images_are() -> None:
    frames = [random_image(40, 90, seed) for seed in range(3)]
    canvas = {"type": "llava_next", "tile_grids": [[1, 2], [2, 1]]}
    options: dict[str, Any] = {"size": SIZE, "canvas": canvas, "high_res_size": {"height": 64, "width": 64}}
    video = FilaVideoProcessor(**options)(frames, return_tensors="np")
    images = FilaImageProcessorPil(**options)(frames, return_tensors="np")
    assert set(video) == set(FilaVideoProcessor(**options).model_input_names)
    for name, array in images.items():
        assert np.array_equal(video["pixel_values_videos" if name == "pixel_values" else f"video_{name}"][0], array)


def test_slices_of_frames_differ_in_size() -> None:
    options = {"canvas": {"type": "minicpm", "patch_size": 7, "max_slices": 2}}
    batch = processor(**options)([random_image(40, 90), random_image(90, 40)], return_tensors="pt")
    assert batch["video_patch_grids"].shape[:2] == (1, 2)


def test_center_crop_is_clips() -> None:
    picture = random_image(50, 91)
    batch = raw(do_center_crop=True)([picture], return_tensors="np")
    expected = picture.resize((int(28 * 91 / 50), 28), Image.Resampling.BICUBIC).crop((11, 0, 39, 28))
    assert np.array_equal(batch["pixel_values_videos"][0, 0, 0], np.asarray(expected).transpose(2, 0, 1))
    assert center_crop(random_image(91, 50), 28, Image.Resampling.BICUBIC).size == (28, 28)


def test_crop_of_fractions_needs_rescaling() -> None:
    fractions = np.full((1, 40, 50, 3), 0.5, np.float32)
    with pytest.raises(VideoInputError, match=r"frame, number 0, that has floats within 0..1, which `do_center_crop`"):
        raw(do_center_crop=True)(fractions, return_tensors="np")
    with pytest.raises(ValueError, match=r"`antialias=False` gives values of 0..1; it goes with `do_rescale`"):
        raw(do_center_crop=True, antialias=False)(fractions, return_tensors="np")


def test_pixels_go_to_the_device_of_the_call() -> None:
    batch = processor()(pictures(2), return_tensors="pt", device="meta")
    assert batch["pixel_values_videos"].device.type == "meta"
    assert batch["video_view_boxes"].device.type == "cpu"  # as of images: what counts tokens is read here


def test_sample_frames_is_what_a_call_takes() -> None:
    made = raw(start=1, end=2)
    clip = VideoMetadata(total_num_frames=25, fps=10.0)
    assert made.sample_frames(clip) == [10, 13, 15, 18]
    assert numbers(made(video_bytes(25), return_tensors="np")) == [made.sample_frames(clip)]
    assert made.sample_frames(clip, start=None, end=None) == [3, 9, 15, 21]


def test_cogvlm2_pixels_golden() -> None:
    checked = 0
    for metadata, tensors in tensors_of("cogvlm2video_layout.safetensors"):
        video = tensors["in/video"].permute(1, 0, 2, 3).numpy()
        for case in json.loads(metadata["cases"]):
            expected = tensors[f"out/{case}.pixels"].numpy()
            side = expected.shape[-1]
            cropped = np.stack([center_crop_without_antialias(frame, side) for frame in video])
            mean, std = (np.reshape(value, (3, 1, 1)) for value in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
            # measured: 4.1e-7 of the largest
            assert np.abs((cropped - mean) / std - expected).max() <= 2e-6 * np.abs(expected).max()
            ours = FilaVideoProcessor(size={"height": side, "width": side}, do_center_crop=True, antialias=False)
            found = ours(video.transpose(0, 2, 3, 1), return_tensors="np")["pixel_values_videos"][0, :, 0]
            # the recorded video has fractions of gray levels, which are read as bytes: a level, in deviations
            assert np.abs(found - expected).max() <= 1 / 255 / 0.26
            checked += 1
    assert checked >= 5


def test_settings_survive(tmp_path: Path) -> None:
    saved = processor(canvas={"type": "square_pad", "exact": True}, max_frames=77)
    saved.save_pretrained(tmp_path)
    loaded = AutoVideoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is FilaVideoProcessor
    assert loaded.to_dict() == saved.to_dict()
    assert loaded.max_frames == 77


@each(
    ("videos", "message"),
    [
        ([video_bytes(3), b"nothing"], "Video 1 is no video that can be read"),
        (["nowhere.mp4"], "Video 0 'nowhere.mp4' is no file. Pass the path of a video"),
        ([None], "Video 0 is None. Pass a path"),
        (
            torch.nested.nested_tensor([torch.zeros(2, 3, 9)], layout=torch.jagged),
            "Video 0 is a nested tensor. Pass a path",
        ),
        (np.zeros((0, 4, 5, 3), np.uint8), "Video 0 has no frames"),
        ([[Image.new("RGB", (9, 9)), np.full((9, 9, 3), np.nan)]], "Video 0 has a frame, number 1, that"),
        ("https://192.0.2.1/clip.mp4", "Video 0 .*"),
    ],
)
def test_unusable_video_is_named(videos: Any, message: str) -> None:
    with pytest.raises(VideoInputError, match=message) as caught:
        processor()(videos, return_tensors="np")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@each(
    ("settings", "call", "message"),
    [
        ({"nonsense": 1}, {}, r"FilaVideoProcessor has no setting \['nonsense'\]"),
        ({}, {"nonsense": 1}, r"FilaVideoProcessor has no setting \['nonsense'\]"),
        ({"sampling": {"type": "all"}}, {}, r"`sampling` must be a dict whose 'type'"),
        ({}, {"num_frames": 9}, r"9 frames were asked for, and the video has 5"),
        ({}, {"num_frames": 2, "fps": 2}, r"`num_frames` and `fps` are two ways to sample"),
        ({}, {"num_frames": 0}, r"`num_frames` must be positive; got 0"),
        ({}, {"fps": -1}, r"`fps` must be positive; got -1"),
        (
            {},
            {"num_frames": 3, "start": 0, "end": 1, "video_metadata": [{"fps": 2}]},
            r"3 frames were asked for, and the video has 2 between `start` and `end`",
        ),
        ({}, {"sampling": {"type": "seconds"}}, r"needs the frames per second of the video"),
        ({"max_frames": 4}, {}, r"5 frames of a video would be shown, and `max_frames` is 4"),
        ({"max_frames": None}, {}, r"`max_frames` must be a positive integer; got None"),
        ({"do_resize": False}, {}, r"`do_resize` must be true: a canvas is drawn by resizing"),
        ({"do_center_crop": True}, {"crop_size": {"height": 14, "width": 14}}, r"`crop_size` is not supported"),
        (
            {"do_center_crop": True, "canvas": {"type": "llava_next"}},
            {},
            r"the canvas must show such a frame in one view of that size, as \"single\" does",
        ),
        (
            {},
            {"video_metadata": [{"total_num_frames": 5, "fps": 2}] * 2},
            r"2 entries of `video_metadata` for 1 videos",
        ),
    ],
)
def test_processor_rejects(settings: dict[str, Any], call: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        processor(**settings)(pictures(5), return_tensors="np", **call)


def test_progress_is_shown_for_slow_files_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Bar:
        def __init__(self, desc: str, total: int | None, leave: bool) -> None:
            shown.append([desc, total, 0])

        def update(self, steps: int) -> None:
            shown[-1][2] += steps

        def close(self) -> None:
            shown[-1].append("closed")

    monkeypatch.setattr(video_progress.logging, "tqdm", Bar)
    monkeypatch.setattr(video_progress, "PATIENCE", float("inf"))
    raw()(video_bytes(25), return_tensors="np")
    assert shown == []
    monkeypatch.setattr(video_progress, "PATIENCE", 0.0)
    raw()(video_bytes(25), return_tensors="np")
    assert shown == [["decoding frames", 4, 4, "closed"]]


def test_frames_with_a_palette_of_rgba_are_drawn_on_white() -> None:
    pixels = np.zeros((28, 28, 4), np.uint8)
    pixels[:, :14] = (200, 30, 60, 255)
    frames = [Image.fromarray(pixels).quantize(4)] * 2
    found = raw(do_sample_frames=False)([frames], return_tensors="np")["pixel_values_videos"][0, :, 0]
    np.testing.assert_array_equal(found[:, :, :, 14:], 255)
    np.testing.assert_array_equal(found[:, :, 3, 3], [[200, 30, 60]] * 2)
