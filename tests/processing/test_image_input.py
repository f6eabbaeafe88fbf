# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What may be handed in as an image, and how everything else is refused."""

import base64
import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fila.processing.image_input import ImageInputError, load_images, to_channels_first
from fila.processing.image_processing_fila import FilaImageProcessorPil
from fila.processing.processing_fila import FilaProcessor
from tests.cases import each
from tests.helpers import random_image, tiny_processor

PICTURE = random_image(5, 9)


def encoded(image: Image.Image = PICTURE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **({"format": "PNG"} | options))
    return buffer.getvalue()


def pixels(image: Any, to_rgb: bool = True, to_uint8: bool = True, data_format: str | None = None) -> np.ndarray:
    return to_channels_first(image, None, 0, to_rgb=to_rgb, to_uint8=to_uint8, data_format=data_format)


EXPECTED = pixels(PICTURE)
ENCODED = encoded()


def sources() -> dict[str, Any]:
    text = base64.b64encode(encoded()).decode()
    array = np.asarray(PICTURE)
    return {
        "bytes": encoded(),
        "bytearray": bytearray(encoded()),
        "base64": text,
        "base64 in lines": base64.encodebytes(encoded()).decode(),
        "data URI": f"data:image/png;base64,{text}",
        "PIL": PICTURE,
        "array": array,
        "view of negative strides": array[::-1].copy()[::-1],
        "channels first": array.transpose(2, 0, 1),
        "tensor": torch.from_numpy(array.copy()),
        "fractions": array / 255,
        "floats in 0..255": array.astype(np.float16),
        "tensor with gradient": torch.from_numpy(array / 255).requires_grad_(),
    }


SOURCES = sources()


@each("source", SOURCES.values(), ids=SOURCES)
def test_every_source_gives_the_same_pixels(source: Any) -> None:
    loaded = pixels(load_images(source))
    assert loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, EXPECTED)


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_give_the_same_pixels(kind: type, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    np.testing.assert_array_equal(pixels(load_images(kind(tmp_path / "a.png"))), EXPECTED)


def test_bfloat16_tensors_are_read() -> None:
    image = torch.tensor([[[0.0, 0.5], [1.0, 0.25]]] * 3, dtype=torch.bfloat16)
    assert pixels(load_images(image))[0].tolist() == [[0, 128], [255, 64]]


def test_rgb_pixels_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.asarray(PICTURE)
    for image in (array, array.transpose(2, 0, 1), torch.from_numpy(array.copy())):
        loaded = load_images(image)
        assert loaded is image
        assert np.shares_memory(pixels(loaded), np.asarray(image))
    assert load_images(PICTURE) is PICTURE
    for name in ("convert", "copy", "transpose", "crop"):
        monkeypatch.setattr(Image.Image, name, lambda *args, name=name: pytest.fail(f"{name} copied the image"))
    np.testing.assert_array_equal(pixels(load_images(PICTURE)), EXPECTED)
    np.testing.assert_array_equal(pixels(load_images(ENCODED)), EXPECTED)


def test_structure_is_kept() -> None:
    assert load_images(PICTURE) is PICTURE
    assert load_images([PICTURE, PICTURE]) == [PICTURE, PICTURE]
    assert load_images([[PICTURE], [], (PICTURE, PICTURE)]) == [[PICTURE], [], [PICTURE, PICTURE]]
    assert load_images([]) == []


def test_stacks_of_images_become_lists() -> None:
    stack = np.stack([np.asarray(PICTURE)] * 2)
    assert [image.shape for image in load_images(stack)] == [(5, 9, 3)] * 2
    assert [image.shape for image in load_images([stack, stack[0]])] == [(5, 9, 3)] * 3
    assert [len(sample) for sample in load_images([[stack], [stack, stack]])] == [2, 4]


# --- upright ---

UPRIGHT = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))
# The transpose that stores UPRIGHT so that a reader who applies the orientation gets it back.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@each("given_as", ["path", "bytes", "PIL"])
@each("orientation", STORED)
def test_exif_orientation_is_applied(orientation: int, given_as: str, tmp_path: Path) -> None:
    transpose = STORED[orientation]
    stored = UPRIGHT if transpose is None else UPRIGHT.transpose(transpose)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, exif=exif)
    (tmp_path / "a.png").write_bytes(data)
    source = {"path": tmp_path / "a.png", "bytes": data, "PIL": Image.open(io.BytesIO(data))}[given_as]
    loaded = load_images([source])
    np.testing.assert_array_equal(np.asarray(loaded[0]), np.asarray(UPRIGHT))
    # Loading twice, as the processor and then the image processor do, turns it once.
    np.testing.assert_array_equal(np.asarray(load_images(loaded)[0]), np.asarray(UPRIGHT))


# --- colours ---

RED_HALF = Image.new("RGBA", (1, 1), (255, 0, 0, 128))


@each(
    ("image", "expected"),
    [
        (Image.new("L", (1, 1), 7), [7, 7, 7]),
        (Image.new("1", (1, 1), 1), [255, 255, 255]),
        (RED_HALF, [255, 127, 127]),
        (RED_HALF.convert("RGBa"), [255, 127, 127]),
        (Image.new("LA", (1, 1), (0, 0)), [255, 255, 255]),
        (Image.new("LA", (1, 1), (0, 0)).convert("La"), [255, 255, 255]),
        (Image.new("RGB", (1, 1), (1, 2, 3)).convert("P"), [0, 0, 0]),
        (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), [255, 0, 0]),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_colours_become_rgb_on_white(image: Image.Image, expected: list[int]) -> None:
    assert pixels(image).flatten().tolist() == expected


def test_palette_with_a_transparent_entry_is_drawn_on_white() -> None:
    image = Image.new("P", (1, 1), 0)
    image.putpalette([9, 9, 9])
    image.info["transparency"] = 0
    assert pixels(image).flatten().tolist() == [255, 255, 255]


@pytest.mark.parametrize("to_uint8", [True, False])
def test_arrays_of_four_and_one_channels_become_rgb(to_uint8: bool) -> None:
    scale = 255 if to_uint8 else 1
    rgba = np.array([1.0, 0.0, 0.0, 0.5]).reshape(4, 1, 1) * np.ones((4, 5, 7))
    assert (pixels(rgba, to_uint8=to_uint8)[:, 0, 0] / scale).round(1).tolist() == [1.0, 0.5, 0.5]
    gray = np.full((1, 5, 7), 1.0)
    assert pixels(gray, to_uint8=to_uint8).tolist() == np.full((3, 5, 7), scale).tolist()


def test_channels_are_kept_without_rgb_conversion() -> None:
    assert pixels(np.zeros((5, 7, 4), np.uint8), to_rgb=False).shape == (4, 5, 7)
    assert pixels(Image.new("L", (7, 5)), to_rgb=False).shape == (1, 5, 7)


def test_floats_are_kept_when_they_are_not_rescaled() -> None:
    image = np.full((3, 5, 7), 0.3)
    np.testing.assert_array_equal(pixels(image, to_uint8=False), image)


@pytest.mark.parametrize(("data_format", "shape"), [("channels_last", (3, 1, 4)), ("channels_first", (3, 4, 3))])
def test_data_format_decides_between_two_ends(data_format: str, shape: tuple[int, ...]) -> None:
    given = (1, 4, 3) if data_format == "channels_last" else (3, 4, 3)
    assert pixels(np.zeros(given, np.uint8), data_format=data_format).shape == shape


# --- refused ---


def with_mode(mode: str) -> Image.Image:
    image = PICTURE.copy()
    image._mode = mode
    return image


HALF_PNG = encoded(random_image(40, 40))[:2000]
FILES = {
    "empty.png": b"",
    "page.jpg": b"<!DOCTYPE html><html></html>",
    "half.png": HALF_PNG,
    "half.jpg": encoded(random_image(40, 40), format="JPEG")[:700],
}
GRAY = np.zeros((5, 7), np.uint8)
REFUSED: dict[str, tuple[Any, str]] = {
    "missing file": (
        Path("no.png"),
        r"'.*no.png' does not exist. Pass an existing file, a URL, a data URI",
    ),
    "missing string": ("no.png", r"'.*no.png' does not exist"),
    "long string": ("x y" * 99, r"'(x y){40}...' does not exist"),
    "directory": (Path(), r"'.*' is a directory. Pass the path of a file"),
    "empty file": (Path("empty.png"), r"has no bytes. Write or download the file again"),
    "no bytes": (b"", r"has no bytes"),
    "empty data URI": ("data:image/png;base64,", r"has no bytes"),
    "HTML": (
        Path("page.jpg"),
        r"is no image PIL can open; it begins with b'<!DOCTYPE html><'. Pass an im",
    ),
    "base64 of text": (base64.b64encode(b"not an image, but longer!").decode(), r"is no image PIL can open"),
    "truncated PNG": (
        Path("half.png"),
        r"cannot be decoded \(.*\). The file is truncated or damaged",
    ),
    "truncated JPEG": (Path("half.jpg"), r"cannot be decoded \(image file is truncated"),
    "unknown mode": (with_mode("XYZ"), r"has the PIL mode 'XYZ'. Convert it to 'L' or 'RGB'"),
    "None": (None, r"is None. Pass a path, URL, bytes, PIL image, array or tensor"),
    "number": (3, r"is of type int. Pass a path"),
    "NaN": (np.full((3, 5, 7), np.nan), r"has values that are NaN or infinite. Replace them"),
    "Inf tensor": (torch.full((3, 5, 7), torch.inf), r"has values that are NaN or infinite"),
    "uint32": (
        np.zeros((5, 7, 3), np.uint32),
        r"has the unsupported dtype uint32. Convert it to uint8 in 0..255, ",
    ),
    "int64 tensor": (torch.zeros(3, 5, 7, dtype=torch.int64), r"has the unsupported dtype int64"),
    "object": (np.full((5, 7, 3), None), r"has the unsupported dtype object"),
    "bool": (np.zeros((5, 7, 3), bool), r"has the unsupported dtype bool"),
    "negative": (np.full((3, 5, 7), -1.5), r"has values in -1.5..-1.5. Convert it to uint8"),
    "too large": (np.full((3, 5, 7), 300.0), r"has values in 300..300"),
    "one axis": (GRAY[0], r"has 1 axes \(7\). Pass \(height, width, channels\), .* if it is gray"),
    "five axes": (GRAY[None, None, None], r"has 5 axes \(1x1x1x5x7\)"),
    "no pixels": (np.zeros((3, 0, 7), np.uint8), r"is empty, shape \(3, 0, 7\)"),
    "no channel axis": (
        np.zeros((5, 7, 2), np.uint8),
        r"of shape \(5, 7, 2\) has no axis for a channel axis of 1, 3",
    ),
    "two channel axes": (
        np.zeros((3, 7, 3), np.uint8),
        r"of shape \(3, 7, 3\) has either end for a channel axis of",
    ),
}
over_refused = pytest.mark.parametrize(("source", "message"), REFUSED.values(), ids=REFUSED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def with_path(source: Any, message: str) -> str:
    """The message, with the path that stands in it when a file was opened."""
    opened = isinstance(source, Path) and source.name in FILES
    return rf"\(.*{re.escape(source.name)}\) {message}" if opened else message


def placed(source: Any, folder: Path) -> Any:
    """The source; a path leads into the folder."""
    return folder / source if isinstance(source, Path) else source


@over_refused
def test_image_processor_rejects(
    source: Any, message: str, folder: Path, image_processor: FilaImageProcessorPil
) -> None:
    with pytest.raises(ImageInputError, match=f"^Image 1 {with_path(source, message)}") as caught:
        image_processor([PICTURE, placed(source, folder)])
    assert (caught.value.sample, caught.value.image) == (None, 1)
    assert str(caught.value) == f"Image 1 {caught.value.reason}. {caught.value.fix}"


@over_refused
def test_processor_rejects_with_sample_and_image(
    source: Any, message: str, folder: Path, processor: FilaProcessor
) -> None:
    with pytest.raises(ImageInputError, match=f"^Image 2 of sample 1 {with_path(source, message)}") as caught:
        processor(text=["a", "<image>" * 3], images=[[], [PICTURE, PICTURE, placed(source, folder)]])
    assert (caught.value.sample, caught.value.image) == (1, 2)


def test_processor_rejects_in_a_flat_list_with_the_image(processor: FilaProcessor) -> None:
    with pytest.raises(ImageInputError, match=r"^Image 1 is None") as caught:
        processor(text=["<image>", "<image>"], images=[PICTURE, None])
    assert (caught.value.sample, caught.value.image) == (None, 1)


def test_processor_rejects_in_a_conversation(processor: FilaProcessor, tmp_path: Path) -> None:
    turn = [{"role": "user", "content": [{"type": "image", "path": str(tmp_path / "no.png")}]}]
    good = [{"role": "user", "content": [{"type": "image", "image": PICTURE}]}]
    with pytest.raises(ImageInputError, match=r"^Image 0 of sample 1 '.*no.png' does not exist"):
        processor.apply_chat_template([good, turn], tokenize=True, return_dict=True)


def test_truncated_pil_image_is_refused(image_processor: FilaImageProcessorPil) -> None:
    with pytest.raises(ImageInputError, match=r"Image 0 cannot be decoded \(.*\). The file is truncated or damaged"):
        image_processor(Image.open(io.BytesIO(HALF_PNG)))


def test_mixed_nesting_is_refused() -> None:
    with pytest.raises(ImageInputError, match=r"Image 1 is not in a list while others are. Pass a flat list, or one"):
        load_images([[PICTURE], PICTURE])
    with pytest.raises(ImageInputError, match=r"Image 0 of sample 0 is of type list"):
        load_images([[[PICTURE]]])


@pytest.mark.parametrize("shapes", [((3, 9, 9), (1, 9, 9)), ((9, 9), (8, 9))])
def test_nested_tensors_are_refused(shapes: Any) -> None:
    nested = torch.nested.nested_tensor([torch.zeros(shape) for shape in shapes], layout=torch.jagged)
    with pytest.raises(ImageInputError, match=r"Image 0 of sample 0 is a nested tensor"):
        load_images([[nested]])
    with pytest.raises(ImageInputError, match=r"Image 0 is a nested tensor"):
        load_images(nested)


@pytest.mark.parametrize("given_as", ["bytes", "PIL"])
@pytest.mark.parametrize("allowed", [44, 20])  # 45 pixels: over the limit, where PIL warns, and over twice the limit
def test_decompression_bombs_are_refused(given_as: str, allowed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", allowed)
    message = (
        rf"Image 0 has more than the {allowed} pixels PIL allows. If you trust it, raise .PIL.Image.MAX_IMAGE_PIXEL"
    )
    with pytest.raises(ImageInputError, match=message):
        load_images(encoded() if given_as == "bytes" else PICTURE)


def test_bombs_are_allowed_when_pil_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    np.testing.assert_array_equal(pixels(load_images(encoded())), EXPECTED)


def test_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(ImageInputError(3, 5, "is None", "Leave it out.")))
    assert str(error) == "Image 5 of sample 3 is None. Leave it out."
    assert (error.sample, error.image, error.reason, error.fix) == (3, 5, "is None", "Leave it out.")


def test_error_message_of_an_array_is_short() -> None:
    with pytest.raises(ImageInputError) as caught:
        load_images(np.zeros((500, 700), np.int32))
    assert len(str(caught.value)) < 200


def test_loaded_images_are_returned_as_they_are() -> None:
    loaded = load_images([[random_image(5, 7)], [random_image(6, 4)]])
    assert load_images(loaded) is loaded


def test_an_image_is_read_once_per_call(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    monkeypatch.setattr("fila.processing.image_input.upright", lambda image: read.append(image) or image)
    processor = tiny_processor()
    processor.max_image_tokens, processor.image_token_policy = 60, "shrink_images"
    image = random_image(90, 61)
    processor(text=["<image>", "<image>"], images=[[image], [image]], return_tensors="pt")
    assert read == [image, image]
