# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The two modes: `exact` against a slow twin bit by bit, `fast` within its bound, also as on other devices."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.image_utils import PILImageResampling, SizeDict

from fila.processing import image_drawing_fast, image_pixels, image_processing_fila
from fila.processing.canvas import CANVASES
from fila.processing.canvas_plan import Size
from fila.processing.image_drawing import ExactDrawing, is_vertical_first, level_table
from fila.processing.image_drawing_fast import FAST_LEVELS, FastDrawing
from fila.processing.image_error import ImageInputError
from fila.processing.image_processing_fila import FilaImageProcessorPil
from fila.processing.image_render import cut, render_canvas, render_high_res, render_overview, side_by_side
from tests.cases import each
from tests.helpers import HIGH_RES_TILE, PATCH, TILE, has_equal_views, random_image, tiny_canvas, tiny_image_processor

BICUBIC = PILImageResampling.BICUBIC
CANVAS_OPTIONS = [*map(tiny_canvas, CANVASES), {"type": "square_pad", "exact": True}]
over_canvases = pytest.mark.parametrize("canvas", CANVAS_OPTIONS, ids=str)
RAW = {"do_rescale": False, "do_normalize": False}


def processor_of(canvas: dict[str, Any], **changes: Any) -> FilaImageProcessorPil:
    equal = has_equal_views(canvas)
    return tiny_image_processor(canvas=canvas, **({} if equal else {"high_res_size": None}), **changes)


def naive(processor: FilaImageProcessorPil, image: Image.Image) -> Iterator[np.ndarray]:
    """Views and high-res canvas by transformers' resize, rescaling and normalisation, step by step on whole arrays."""
    pixels, plan = np.asarray(image).transpose(2, 0, 1), processor.plan(image.height, image.width)

    def resize(array: np.ndarray, size: Size, resample: Any = None) -> np.ndarray:
        resample = processor.resample if resample is None else resample
        return processor.resize(array, SizeDict(height=size.height, width=size.width), resample=resample)

    def normalized(array: np.ndarray, mean: Any, std: Any) -> np.ndarray:
        return processor.normalize(processor.rescale(array, processor.rescale_factor), mean, std)

    if plan.drawn_size is not None:
        pixels = resize(pixels, plan.drawn_size)
    if plan.filter is not None:
        resize = partial(resize, resample=PILImageResampling[plan.filter.upper()])
    overview = render_overview(pixels, plan, resize)
    views = [] if overview is None else [overview]
    for view in [*views, *cut(render_canvas(pixels, plan, resize), plan.tile_boxes)]:
        whole = normalized(view, processor.image_mean, processor.image_std)
        yield whole if processor.plans().equal_views else side_by_side(whole, PATCH)
    if processor.high_res_size is not None:
        tile = Size(HIGH_RES_TILE, HIGH_RES_TILE)
        canvas = render_high_res(pixels, plan, resize, low=Size(TILE, TILE), high=tile)
        yield normalized(canvas, processor.high_res_image_mean, processor.high_res_image_std)


@over_canvases
@each("size", [(30, 101), (57, 41), (5, 5)], ids=str)
def test_exact_pixels_are_those_of_the_slow_twin(canvas: dict[str, Any], size: tuple[int, int]) -> None:
    processor, image = processor_of(canvas), random_image(*size)
    made = processor(image)
    found = [*made["pixel_values"][0], *made.get("high_res_pixel_values", [])]
    expected = list(naive(processor, image))
    assert len(found) == len(expected)
    for array, twin in zip(found, expected, strict=True):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array[..., : twin.shape[-1]], twin)
        assert not array[..., twin.shape[-1] :].any()


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_pixels_do_not_depend_on_what_holds_the_image(mode: str) -> None:
    processor, image = processor_of({"type": "fila"}, mode=mode), random_image(30, 71)
    array = np.asarray(image)
    upside_down = array[::-1].copy()[::-1]  # a view with a negative stride
    forms = [
        array,
        array.copy(),
        upside_down,
        array.transpose(2, 0, 1).copy(),
        torch.tensor(array.copy()),
        array / 255,
    ]
    expected = processor(image, return_tensors="np")
    for form in forms:
        found = processor(form, return_tensors="np")
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
    np.testing.assert_array_equal(array, np.asarray(image))


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_batch_holds_what_single_calls_give(mode: str) -> None:
    processor = processor_of(tiny_canvas("minicpm"), mode=mode)
    images = [random_image(30, 71), random_image(9, 9), random_image(90, 20)]
    batch, alone = processor(images, return_tensors="pt"), processor(images)
    for name, arrays in alone.items():
        for row, array in zip(batch[name], arrays, strict=True):
            np.testing.assert_array_equal(row[tuple(slice(side) for side in array.shape)], array)
    assert batch["pixel_values"].dtype == torch.float32


@over_canvases
@each("kind", [None, "np"])
def test_every_value_is_written(canvas: dict[str, Any], kind: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def allocate(shape: tuple[int, ...], like: Any, *, zeros: bool) -> np.ndarray:
        return np.full(shape, 0 if zeros else np.nan, np.float32)

    monkeypatch.setattr(ExactDrawing, "allocate", staticmethod(allocate))
    for images in ([random_image(57, 131)], [random_image(57, 131), random_image(9, 9)]):
        made = processor_of(canvas)(images, return_tensors=kind)
        for name in made.keys() & {"pixel_values", "high_res_pixel_values"}:
            assert all(np.isfinite(array).all() for array in made[name])


def hard_pictures() -> Iterator[np.ndarray]:
    draw = np.random.default_rng(0)
    yield draw.integers(0, 256, (3, 61, 83), dtype=np.uint8)
    yield (draw.integers(0, 2, (3, 61, 83)) * 255).astype(np.uint8)  # overshoots everywhere
    yield np.kron(draw.integers(0, 2, (3, 9, 11)), np.ones((1, 7, 8)))[:, :61, :83].astype(np.uint8) * 255
    yield np.add.outer(np.arange(61), np.arange(83))[None].repeat(3, 0).astype(np.uint8)


# The last ones shrink the height by more than twice the pixels of the width.
TARGETS = [(14, 14), (61, 40), (23, 83), (97, 211), (1, 1), (122, 166), (60, 82), (23, 80), (60, 166), (14, 200)]


@pytest.mark.parametrize("resample", [PILImageResampling.BILINEAR, BICUBIC], ids=["bilinear", "bicubic"])
@pytest.mark.parametrize("resizes_uint8", [True, False], ids=["uint8", "floats"])
def test_fast_resize_keeps_its_bound(
    resample: PILImageResampling, resizes_uint8: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_drawing_fast, "_resizes_uint8", lambda image: resizes_uint8)
    exact, fast = ExactDrawing(resample), FastDrawing(resample)
    beyond = total = 0
    for pixels in hard_pictures():
        for target in TARGETS:
            found = fast.resize(fast.source(pixels), Size(*target))
            assert found.dtype == torch.uint8
            apart = np.abs(exact.resize(pixels, Size(*target)).astype(int) - found.numpy().astype(int))
            assert apart.max() <= FAST_LEVELS
            beyond, total = beyond + int((apart > 1).sum()), total + apart.size
    assert beyond <= total / 10_000


def test_order_of_the_passes_is_that_of_pillow_13() -> None:
    draw, orders = np.random.default_rng(0), set()
    for _ in range(60):
        height, width, rows, cols = (int(side) for side in draw.integers(20, 60, 4))
        image, size = random_image(height, width), Size(rows, cols)
        expected = np.asarray(image.resize((cols, rows), BICUBIC)).transpose(2, 0, 1)
        np.testing.assert_array_equal(ExactDrawing(BICUBIC).resize(image, size), expected)
        orders.add(is_vertical_first(Size(height, width), size))
    assert orders == {True, False}


@over_canvases
def test_fast_pixels_keep_the_bound(canvas: dict[str, Any]) -> None:
    image = random_image(57, 131)
    exact, fast = (processor_of(canvas, mode=mode)(image) for mode in ("exact", "fast"))
    assert exact.keys() == fast.keys()
    for name, arrays in exact.items():
        step = 1 / 255 / min(0.224, 0.26130258) if "pixel" in name else 0  # a gray level of the most stretched channel
        assert np.abs(arrays[0] - fast[name][0]).max() <= FAST_LEVELS * step + 1e-5


def test_fast_is_exact_with_filters_that_torch_lacks() -> None:
    settings = {"resample": PILImageResampling.LANCZOS, **RAW}
    exact, fast = (processor_of({"type": "fila"}, mode=mode, **settings)(random_image(30, 71)) for mode in MODES)
    for name, arrays in exact.items():
        np.testing.assert_array_equal(arrays[0], fast[name][0])


MODES = ("exact", "fast")


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_resized_that_has_its_size(mode: str) -> None:
    image = random_image(TILE, TILE)
    made = tiny_image_processor(canvas={"type": "single"}, high_res_size=None, mode=mode, **RAW)(image)
    np.testing.assert_array_equal(made["pixel_values"][0][0], np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", MODES)
def test_gray_and_transparent_images_are_drawn(mode: str) -> None:
    processor = tiny_image_processor(canvas={"type": "single"}, high_res_size=None, mode=mode, **RAW)
    gray = processor(Image.new("L", (40, 30), 77))["pixel_values"][0]
    assert (gray == 77).all()
    clear = processor(Image.new("RGBA", (40, 30), (9, 9, 9, 0)))["pixel_values"][0]
    assert (clear == 255).all()


@pytest.mark.parametrize("mode", MODES)
def test_floats_that_are_not_rescaled_stay_floats(mode: str) -> None:
    processor = tiny_image_processor(canvas={"type": "single"}, high_res_size=None, mode=mode, **RAW)
    images = [np.full((9, 11, 3), 0.3, np.float32), np.full((9, 11, 3), 30, np.uint8)]
    made = processor(images, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(made[0], 0.3, atol=2 / 255)
    assert (made[1] == 30).all()


def test_level_table_is_shared_and_read_only() -> None:
    table = level_table(True, 1 / 255, True, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    assert table is level_table(True, 1 / 255, True, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 1


@pytest.mark.parametrize("mode", ["fastest", 3, ("fast",)], ids=str)
def test_unknown_mode_is_refused(mode: Any) -> None:
    message = re.escape(f"`mode` must be one of ['exact', 'fast']; got {mode!r}")
    with pytest.raises(ValueError, match=message):
        tiny_image_processor(mode=mode)


def test_unknown_mode_is_refused_in_a_call() -> None:
    with pytest.raises(ValueError, match=r"`mode` must be one of \['exact', 'fast'\]; got 'slow'"):
        tiny_image_processor()(random_image(9, 9), mode="slow")


def test_fast_needs_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_drawing_fast, "is_torch_available", lambda: False)
    with pytest.raises(ValueError, match=r'`mode="fast"` needs torch, which is not installed; use "exact"\.'):
        tiny_image_processor(mode="fast")(random_image(9, 9))


def test_mode_is_saved(tmp_path: Any) -> None:
    tiny_image_processor(mode="fast").save_pretrained(tmp_path)
    assert FilaImageProcessorPil.from_pretrained(tmp_path).mode == "fast"
    assert tiny_image_processor().mode == "exact"


# --- tensors on other devices, here on the CPU: what the code does with them, not that a device does it ---


@pytest.fixture
def as_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors on the CPU are treated as if they were on another device."""
    for module in (image_pixels, image_processing_fila):
        monkeypatch.setattr(module, "is_elsewhere", lambda image: isinstance(image, torch.Tensor))
    monkeypatch.setattr(image_drawing_fast, "_resizes_uint8", lambda image: False)
    monkeypatch.setattr(image_pixels, "_as_array", None)  # whatever would go through numpy fails


PIXELS_OF_TENSOR = torch.from_numpy(np.asarray(random_image(30, 71)).copy())


@pytest.mark.usefixtures("as_elsewhere")
@pytest.mark.parametrize("form", ["uint8 last", "uint8 first", "fractions", "0..255", "bfloat16"])
def test_tensors_stay_where_they_are(form: str) -> None:
    tensor = {
        "uint8 last": PIXELS_OF_TENSOR,
        "uint8 first": PIXELS_OF_TENSOR.permute(2, 0, 1),
        "fractions": PIXELS_OF_TENSOR / 255,
        "0..255": PIXELS_OF_TENSOR.double(),
        "bfloat16": PIXELS_OF_TENSOR.bfloat16(),
    }[form]
    processor = processor_of({"type": "fila"}, mode="fast")
    expected = processor_of({"type": "fila"})(random_image(30, 71), return_tensors="pt")
    found = processor(tensor, return_tensors="pt")
    assert isinstance(found["pixel_values"], torch.Tensor)
    for name, values in expected.items():
        step = 1 / 255 / min(0.224, 0.26130258) if "pixel" in name else 0
        assert (found[name] - values).abs().max() <= FAST_LEVELS * step + 1e-5


@pytest.mark.usefixtures("as_elsewhere")
@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.full((5, 6, 3), float("nan")), "has values that are NaN or infinite"),
        (torch.full((5, 6, 3), -1.0), r"has values in -1\.\.-1"),
        (torch.full((5, 6, 3), 1.5), r"has values in 1.5\.\.1.5, which may be fractions or dark pixels"),
        (torch.zeros((5, 6, 3, 2, 1)), "has 5 axes"),
        (torch.zeros((0, 6, 3)), "is empty"),
        (torch.zeros((3, 6, 3), dtype=torch.uint8), "has either end for a channel axis"),
    ],
    ids=str,
)
def test_tensors_are_checked_where_they_are(tensor: torch.Tensor, reason: str) -> None:
    with pytest.raises(ImageInputError, match=reason):
        processor_of({"type": "fila"}, mode="fast")(tensor)


def test_memory_is_where_the_images_are() -> None:
    like = torch.zeros((3, 4, 5), dtype=torch.uint8, device="meta")
    assert FastDrawing.allocate((2, 3), like, zeros=True).device.type == "meta"
    assert FastDrawing(BICUBIC, "meta").source(np.zeros((3, 4, 5), np.uint8)).device.type == "meta"


def test_device_moves_what_exact_made() -> None:
    made = processor_of({"type": "single"})(random_image(9, 9), device="cpu", return_tensors="pt")
    assert made["pixel_values"].device.type == "cpu"
