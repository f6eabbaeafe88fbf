# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The image processors: tensors, settings, saving, and the two backends against each other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers.utils import is_torchvision_available

from fila.processing.canvas_fila import FilaCanvas
from fila.processing.canvas_plan import Size
from fila.processing.image_processing_fila import FilaImageProcessor, FilaImageProcessorPil
from tests.cases import each
from tests.helpers import random_image

HAS_TORCHVISION = is_torchvision_available()
needs_torchvision = pytest.mark.skipif(not HAS_TORCHVISION, reason="torchvision is not installed")
BACKENDS = [FilaImageProcessorPil, pytest.param(FilaImageProcessor, marks=needs_torchvision)]
over_backends = pytest.mark.parametrize("backend", BACKENDS, ids=["pil", "torchvision"])

SMALL = {"size": {"height": 14, "width": 14}, "high_res_size": {"height": 32, "width": 32}}
RAW = {"do_rescale": False, "do_normalize": False}
WIDE, TALL, SQUARE = random_image(9, 41, seed=1), random_image(40, 7, seed=2), random_image(20, 23, seed=3)
GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "llava_next_preprocess.safetensors")


def as_numpy(array: Any) -> np.ndarray:
    return np.asarray(array)


# --- tensors ---


@over_backends
def test_call_packs_one_row_per_image(backend: type) -> None:
    out = backend(**SMALL)([WIDE, SQUARE], return_tensors="pt")
    assert {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in out.items()} == {
        "pixel_values": ((2, 5, 3, 14, 14), torch.float32),
        "view_boxes": ((2, 5, 4), torch.int64),
        "tile_grid": ((2, 2), torch.int64),
        "high_res_pixel_values": ((2, 3, 64, 96), torch.float32),
        "high_res_sizes": ((2, 2), torch.int64),
    }
    assert out["tile_grid"].tolist() == [[1, 3], [2, 2]]
    assert out["high_res_sizes"].tolist() == [[32, 96], [64, 64]]
    # 41 columns fill 42; 9 rows become 10 (9.2 rounded up), 2 rows above and below.
    assert out["view_boxes"][0].tolist() == [
        [2, 0, 12, 42],
        [0, 0, 14, 14],
        [0, 14, 14, 28],
        [0, 28, 14, 42],
        [0, 0, 0, 0],
    ]
    assert not out["pixel_values"][0, 4].any()
    assert not out["high_res_pixel_values"][0, :, 32:].any()
    assert not out["high_res_pixel_values"][1, :, :, 64:].any()


@over_backends
def test_call_without_tensors_pads_nothing(backend: type) -> None:
    out = backend(**SMALL)([WIDE, TALL, SQUARE])
    assert {name: [tuple(array.shape) for array in arrays] for name, arrays in out.items()} == {
        "pixel_values": [(4, 3, 14, 14), (4, 3, 14, 14), (5, 3, 14, 14)],
        "view_boxes": [(4, 4), (4, 4), (5, 4)],
        "tile_grid": [(2,), (2,), (2,)],
        "high_res_pixel_values": [(3, 32, 96), (3, 96, 32), (3, 64, 64)],
        "high_res_sizes": [(2,), (2,), (2,)],
    }
    assert all(isinstance(arrays, list) for arrays in out.values())


@over_backends
def test_call_gives_numpy_on_request(backend: type) -> None:
    out = backend(**SMALL)([WIDE, TALL], return_tensors="np")
    assert all(isinstance(array, np.ndarray) for array in out.values())
    assert out["pixel_values"].shape == (2, 4, 3, 14, 14)


@over_backends
def test_tensors_of_an_image_do_not_depend_on_its_neighbours(backend: type) -> None:
    processor = backend(**SMALL)
    together, alone = processor([SQUARE, WIDE, TALL]), processor([WIDE])
    for name, arrays in alone.items():
        np.testing.assert_array_equal(as_numpy(together[name][1]), as_numpy(arrays[0]))


@over_backends
def test_first_and_last_tile_equal_their_slices_of_the_resized_image(backend: type) -> None:
    processor = backend(**SMALL, **RAW)
    image = random_image(28, 42, seed=5)  # an exact canvas of 2x3 tiles: nothing is resized
    views = as_numpy(processor(image, canvas={"type": "fila", "tile_grids": [[2, 3]]})["pixel_values"][0])
    pixels = np.asarray(image).transpose(2, 0, 1)
    assert len(views) == 7
    np.testing.assert_array_equal(views[1], pixels[:, :14, :14])
    np.testing.assert_array_equal(views[-1], pixels[:, 14:, 28:])
    np.testing.assert_array_equal(views[4], pixels[:, 14:, :14])


def test_overview_is_the_first_view_and_has_no_padding() -> None:
    views = FilaImageProcessorPil(**SMALL, **RAW)(WIDE)["pixel_values"][0]
    expected = np.asarray(WIDE.resize((14, 14), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    np.testing.assert_array_equal(views[0], expected)


def test_high_res_canvas_is_drawn_from_the_image_as_it_came() -> None:
    canvas = FilaImageProcessorPil(**SMALL, **RAW)(WIDE)["high_res_pixel_values"][0]
    # Edges 2 and 12 of 14 lie at 4.57 and 27.43 of 32.
    expected = np.zeros((3, 32, 96), np.float32)
    expected[:, 5:27] = np.asarray(WIDE.resize((96, 22), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    np.testing.assert_array_equal(canvas, expected)


@over_backends
def test_padding_is_black_before_normalisation(backend: type) -> None:
    processor = backend(**SMALL, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.25, 0.125])
    tile = as_numpy(processor(WIDE)["pixel_values"][0])[1]
    np.testing.assert_allclose(tile[:, 0, 0], [-0.2, -0.8, -2.4], rtol=1e-6)


@over_backends
def test_each_tower_has_its_own_normalisation(backend: type) -> None:
    white = Image.new("RGB", (14, 14), "white")
    settings = {"image_mean": 0.5, "image_std": 0.25, "high_res_image_mean": [1.0, 0.5, 0.0]}
    settings = {name: [value] * 3 if isinstance(value, float) else value for name, value in settings.items()}
    out = backend(**SMALL, **settings, high_res_image_std=[1.0, 0.25, 0.5], canvas={"type": "single"})(white)
    np.testing.assert_allclose(as_numpy(out["pixel_values"][0]), 2.0, rtol=1e-5)
    high = as_numpy(out["high_res_pixel_values"][0])
    np.testing.assert_allclose(high[:, 0, 0], [0.0, 2.0, 2.0], atol=1e-6)


@over_backends
def test_single_canvas_gives_one_view(backend: type) -> None:
    out = backend(**SMALL, canvas={"type": "single"})([WIDE, TALL], return_tensors="pt")
    assert tuple(out["pixel_values"].shape) == (2, 1, 3, 14, 14)
    assert out["view_boxes"].tolist() == [[[0, 0, 14, 14]]] * 2
    assert tuple(out["high_res_pixel_values"].shape) == (2, 3, 32, 32)


@over_backends
def test_without_high_res_size_there_is_no_high_res_canvas(backend: type) -> None:
    processor = backend(**(SMALL | {"high_res_size": None}))
    assert list(processor(WIDE)) == processor.model_input_names == ["pixel_values", "view_boxes", "tile_grid"]
    assert list(backend(**SMALL)(WIDE, high_res_size=None)) == ["pixel_values", "view_boxes", "tile_grid"]


@over_backends
def test_model_input_names_are_the_tensors(backend: type) -> None:
    processor = backend(**SMALL)
    assert list(processor(WIDE)) == processor.model_input_names


@over_backends
def test_no_image_gives_no_tensor(backend: type) -> None:
    assert dict(backend(**SMALL)([], return_tensors="pt")) == {}
    assert dict(backend(**SMALL)([[], []], return_tensors="pt")) == {}


@over_backends
def test_sample_lists_are_flattened_in_order(backend: type) -> None:
    out = backend(**SMALL)([[], [WIDE, TALL], [SQUARE]], return_tensors="pt")
    assert out["tile_grid"].tolist() == [[1, 3], [3, 1], [2, 2]]


@over_backends
def test_floats_in_0_1_give_the_same_as_uint8(backend: type) -> None:
    processor = backend(**SMALL)
    from_floats = processor(np.asarray(WIDE) / 255)["pixel_values"][0]
    np.testing.assert_array_equal(as_numpy(from_floats), as_numpy(processor(WIDE)["pixel_values"][0]))


@over_backends
def test_floats_are_taken_as_they_are_without_rescaling(backend: type) -> None:
    processor = backend(**SMALL, **RAW, canvas={"type": "single"})
    image = np.full((14, 14, 3), 0.3, np.float32)
    np.testing.assert_allclose(as_numpy(processor(image)["pixel_values"][0]), 0.3, atol=2 / 255)


def test_pil_normalises_as_transformers_does() -> None:
    processor = FilaImageProcessorPil(high_res_size=None, canvas={"type": "single"}, size=19)
    pixels = np.asarray(random_image(19, 19)).transpose(2, 0, 1)
    expected = processor.normalize(processor.rescale(pixels, 1 / 255), processor.image_mean, processor.image_std)
    np.testing.assert_array_equal(
        processor(pixels, input_data_format="channels_first")["pixel_values"][0][0], expected
    )


# --- plans ---


@over_backends
def test_plan_is_the_one_that_is_rendered(backend: type) -> None:
    processor = backend(**SMALL)
    plan = processor.plan(9, 41)
    assert plan == FilaCanvas(Size(14, 14))(9, 41)
    assert as_numpy(processor(WIDE)["view_boxes"][0]).tolist() == [list(box) for box in plan.view_boxes]
    assert processor.get_number_of_image_patches(9, 41) == 4


def test_plan_follows_the_overrides_of_a_call() -> None:
    processor = FilaImageProcessorPil(**SMALL)
    overrides = {"canvas": {"type": "single"}, "size": {"height": 28, "width": 28}, "do_rescale": False}
    assert processor.plan(9, 41, **overrides).canvas_size == (28, 28)
    assert processor.get_number_of_image_patches(9, 41, overrides) == 1
    assert processor(WIDE, **overrides)["pixel_values"][0].shape == (1, 3, 28, 28)


# --- settings ---


@over_backends
def test_defaults_are_those_of_the_paper(backend: type) -> None:
    settings = backend().to_dict()
    assert settings["size"] == {"height": 336, "width": 336}
    assert settings["high_res_size"] == {"height": 768, "width": 768}
    assert settings["canvas"] == {"type": "fila"}
    assert settings["image_mean"] == (0.48145466, 0.4578275, 0.40821073)
    assert settings["high_res_image_mean"] == (0.485, 0.456, 0.406)
    assert settings["resample"] == 3


@over_backends
def test_high_res_canvas_has_32_pixels_per_14(backend: type) -> None:
    out = backend(**RAW)(random_image(11, 13))
    assert tuple(out["high_res_pixel_values"][0].shape) == (3, 336 * 32 // 14, 672 * 32 // 14)


CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "other": {
        "size": 28,
        "high_res_size": [64, 64],
        "canvas": {"type": "fila", "rule": "llava_next", "tile_grids": [[1, 1]], "overview": False},
        "high_res_image_mean": [0.1, 0.2, 0.3],
        "do_convert_rgb": False,
    },
    "no high-res canvas": {"high_res_size": None, "canvas": {"type": "single"}},
    "explicit none": {"do_resize": None},
}


@over_backends
@each("settings", CASES.values(), ids=CASES)
def test_settings_survive_saving(backend: type, settings: dict[str, Any], tmp_path: Path) -> None:
    processor = backend(**settings)
    processor.save_pretrained(tmp_path)
    loaded = backend.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert loaded.high_res_size == processor.high_res_size
    assert loaded.plan(600, 800) == processor.plan(600, 800)


@over_backends
def test_saved_name_is_that_of_the_torchvision_class(backend: type) -> None:
    assert backend().to_dict()["image_processor_type"] == "FilaImageProcessor"
    assert "auto_map" not in backend().to_dict()


@over_backends
def test_auto_map_names_both_backends(backend: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_auto_class", "AutoImageProcessor")
    backend().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["auto_map"] == {
        "AutoImageProcessor": {
            "torchvision": "image_processing_fila.FilaImageProcessor",
            "pil": "image_processing_fila.FilaImageProcessorPil",
        }
    }
    names = {path.name for path in tmp_path.glob("*.py")}
    assert names >= {"image_processing_fila.py", "canvas.py", "canvas_fila.py"}
    assert not names & {"canvas_single.py", "image_download.py", "processing_fila.py"}


def test_loading_overrides_settings(tmp_path: Path) -> None:
    FilaImageProcessorPil().save_pretrained(tmp_path)
    loaded = FilaImageProcessorPil.from_pretrained(tmp_path, size=42, do_normalize=False)
    assert (dict(loaded.size), loaded.do_normalize) == ({"height": 42, "width": 42}, False)


def test_keys_that_transformers_writes_are_accepted() -> None:
    keys = {"image_processor_type": "FilaImageProcessor", "processor_class": "FilaProcessor", "auto_map": {}}
    assert FilaImageProcessorPil(**keys).do_resize


# --- refusals ---


@over_backends
@each(
    ("settings", "message"),
    [
        ({"canvass": {}}, r"has no setting \['canvass'\]; it accepts \['canvas', 'crop_size', "),
        (
            {"canvas": {"type": "flia"}},
            r"`canvas.type` must be one of \['deepseek_ocr', 'fila', 'internvl', .*\]; got 'flia'",
        ),
        ({"canvas": {"type": "fila", "grids": 3}}, r"Canvas 'fila' has no option \['grids'\]; it accepts"),
        ({"canvas": {"type": "fila", "tile_grids": {3}}}, r"`canvas.tile_grids` must be .* got \{3\}"),
        ({"canvas": 3}, r"`canvas` must be a name or a dict such as \{'type': 'fila'\}; got 3"),
        (
            {"size": {"height": 14, "width": 28}},
            r"`size` must have equal, positive 'height' and 'width' \(tiles are sq",
        ),
        ({"size": {"shortest_edge": 14}}, r"`size` must have equal, .*; got \{'shortest_edge': 14\}"),
        ({"size": 0}, r"`size` must have equal, positive"),
        ({"high_res_size": {"height": 32, "width": 64}}, r"`high_res_size` must have equal, positive"),
        ({"high_res_size": {"height": 32}}, r"high_res_size must have one of the following set of keys"),
        ({"do_center_crop": True}, r"`do_center_crop` is not supported: the canvas decides what is shown and padded"),
        ({"do_pad": True}, r"`do_pad` is not supported"),
    ],
    ids=str,
)
def test_settings_are_refused_at_construction(backend: type, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backend(**settings)


@over_backends
@each(
    ("settings", "message"),
    [
        ({"do_resize": False}, r"`do_resize` must be true: a canvas is drawn by resizing"),
        ({"size": {"height": 14, "width": 28}}, r"`size` must have equal, positive"),
        ({"canvas": {"type": "flia"}}, r"`canvas.type` must be one of"),
        (
            {"high_res_image_std": None},
            r"`high_res_image_std` must be set when there is a high-res canvas to normalise",
        ),
        ({"image_mean": None}, r"`image_mean` and `image_std` must both be specified"),
    ],
    ids=str,
)
def test_settings_are_refused_in_a_call(backend: type, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backend(**SMALL)(WIDE, **settings)


def test_unknown_settings_are_refused_in_a_call() -> None:
    with pytest.raises(TypeError, match="canvass"):
        FilaImageProcessorPil(**SMALL)(WIDE, canvass={})


# --- the same pixels as others make ---


@pytest.mark.parametrize("number", [0, 1])
def test_pil_pixels_match_llava_next(number: int) -> None:
    processor = FilaImageProcessorPil(
        size=28,
        high_res_size=None,
        canvas={"type": "fila", "rule": "llava_next"},
        do_rescale=False,
        do_normalize=False,
    )
    views = processor(GOLDEN[f"{number}.image_hwc_u8"].numpy())["pixel_values"][0]
    recorded = GOLDEN[f"{number}.original_tiles_u8"].numpy().transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(views, recorded.astype(np.float32))


@over_backends
@pytest.mark.parametrize("number", [0, 1])
def test_fast_pixels_match_llava_next_on_torchvision(backend: type, number: int) -> None:
    processor = backend(size=28, high_res_size=None, canvas={"type": "fila", "rule": "llava_next"}, mode="fast")
    views = processor(GOLDEN[f"{number}.image_hwc_u8"], return_tensors="pt")["pixel_values"][0]
    # The overview of a tall image is resized in the order of Pillow 13's passes, and not of torch's.
    torch.testing.assert_close(views[1:], GOLDEN[f"{number}.pixel_values"][1:], rtol=0, atol=1e-6)


@needs_torchvision
@each("mode", ["exact", "fast"])
@each("size", [(9, 41), (100, 75), (14, 14), (1, 300)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_backends_give_the_same_bits(size: tuple[int, int], mode: str) -> None:
    image = random_image(*size)
    pil, torchvision = (made(**SMALL, mode=mode)([image]) for made in (FilaImageProcessorPil, FilaImageProcessor))
    for name, arrays in pil.items():
        np.testing.assert_array_equal(arrays[0], as_numpy(torchvision[name][0]))


def test_a_canvas_may_be_given_by_its_name() -> None:
    named, given = (FilaImageProcessorPil(canvas=canvas) for canvas in ("internvl", {"type": "internvl"}))
    assert named.to_dict() == given.to_dict()
    image, default = random_image(300, 700), FilaImageProcessorPil()
    expected = given(image, return_tensors="np")["tile_grid"]
    assert np.array_equal(default(image, canvas="internvl", return_tensors="np")["tile_grid"], expected)
    assert default.plan(300, 700, canvas="internvl") == given.plan(300, 700)
    with pytest.raises(ValueError, match=r"`canvas.type` must be one of \['deepseek_ocr', 'fila', .*got 'internwl'"):
        FilaImageProcessorPil(canvas="internwl").plan(300, 700)
