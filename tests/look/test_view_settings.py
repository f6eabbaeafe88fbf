# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Image sizes out of headers, and whose eyes `fila plan` and `fila view` use."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo

from fila.look.view_settings import check_checkpoint, open_eyes, token_grid
from fila.processing.canvas import CANVASES
from fila.processing.canvas_plan import Size
from fila.processing.image_input import ImageInputError, load_images
from fila.processing.image_size import read_size
from tests.contract.settings import fusion_settings
from tests.helpers import PATCH, TILE, TOKENS_PER_TILE, single_tower, tiny_config


def refuse_to_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Image.Image) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp", "bmp", "gif"])
def test_read_size_reads_the_header_only(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"page.{suffix}"
    Image.new("RGB", (53, 97)).save(path)
    refuse_to_decode(monkeypatch)
    assert read_size(str(path)) == (97, 53)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp"])
@pytest.mark.parametrize(("orientation", "size"), [(1, (97, 53)), (3, (97, 53)), (6, (53, 97)), (8, (53, 97))])
def test_read_size_turns_the_image_upright(
    suffix: str, orientation: int, size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"photo.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (53, 97)).save(path, exif=exif)
    refuse_to_decode(monkeypatch)
    assert read_size(str(path)) == size


@pytest.mark.parametrize("holder", ["Raw profile type exif", "XML:com.adobe.xmp"])
def test_read_size_finds_the_orientation_wherever_a_png_has_it(
    holder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, chunks, exif = tmp_path / "turned.png", PngInfo(), Image.Exif()
    exif[0x0112] = 6
    data = exif.tobytes()
    if holder == "XML:com.adobe.xmp":
        chunks.add_itxt(holder, '<rdf:Description tiff:Orientation="6"/>')
    else:
        chunks.add_text(holder, f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True)
    Image.new("RGB", (53, 97)).save(path, pnginfo=chunks)
    assert load_images(str(path)).size == (97, 53)
    refuse_to_decode(monkeypatch)
    assert read_size(str(path)) == (53, 97)


def test_read_size_reads_height_before_width() -> None:
    assert read_size("2200x1700") == (2200, 1700)


@pytest.mark.parametrize("source", ["page", "12x", "x7", "-3x5", "3.5x7"])
def test_read_size_rejects_what_is_neither(source: str) -> None:
    with pytest.raises(ImageInputError, match=rf"^Image 3 '{source}' does not exist. Pass a file or a size"):
        read_size(source, 3)


def test_read_size_rejects_files_without_an_image(broken: dict[str, str]) -> None:
    with pytest.raises(ImageInputError, match=r"^Image 0 \(.*zero.png\) has no bytes"):
        read_size(broken["zero"])
    with pytest.raises(ImageInputError, match=r"^Image 0 \(.*text.png\) is no image PIL can open"):
        read_size(broken["text"])


def test_open_eyes_of_a_checkpoint(checkpoint: str) -> None:
    eyes = open_eyes(checkpoint, tile=9999)
    assert (eyes.processor.tokens_per_tile, eyes.name) == (TOKENS_PER_TILE, "tiny")
    assert (eyes.token_grid, eyes.token_size, eyes.patch_size) == ((4, 4), 7, 7)
    assert eyes.image_processor.size["height"] == TILE


def test_open_eyes_of_settings() -> None:
    eyes = open_eyes(canvas={"type": "single"}, tile=65, patch=13)
    assert (eyes.token_grid, eyes.token_size, eyes.patch_size) == ((5, 5), 13, 13)
    assert eyes.image_processor.plan(7, 11).num_views == 1
    assert eyes.image_processor.high_res_size["height"] == 5 * 32


@pytest.mark.parametrize(("tile", "patch"), [(0, 14), (335, 14), (14, 0), (-28, -14)])
def test_open_eyes_rejects_a_tile_that_is_no_multiple_of_the_patch(tile: int, patch: int) -> None:
    with pytest.raises(ValueError, match=f"positive multiple of the patch; got tile {tile} and patch {patch}"):
        open_eyes(tile=tile, patch=patch)


def test_open_eyes_of_unequal_views_count_in_the_patch_of_the_settings() -> None:
    eyes = open_eyes(canvas={"type": "minicpm"}, tile=64, patch=16)
    assert eyes.image_processor.canvas == {"type": "minicpm", "patch_size": 16, "multiple": 1}
    assert eyes.image_processor.high_res_size is None


def test_eyes_shrink_what_the_limit_of_the_processor_shrinks(checkpoint: str) -> None:
    eyes = open_eyes(checkpoint)
    assert eyes.fitted(Size(53, 97)) == (53, 97)
    eyes.processor.max_image_tokens, eyes.processor.image_token_policy = 50, "shrink_images"
    fitted = eyes.fitted(Size(53, 97))
    assert fitted.height < 53
    assert eyes.num_tokens(eyes.plan(fitted)) <= 50
    eyes.processor.image_token_policy = "error"
    with pytest.raises(ImageInputError, match=r"^Image 3 has 80 image tokens, and `max_image_tokens` is 50"):
        eyes.fitted(Size(53, 97), 3)


def test_eyes_take_every_canvas_their_own_first(checkpoint: str) -> None:
    eyes = open_eyes(checkpoint)
    every = eyes.all_canvases()
    assert [other.canvas for other in every] == ["fila", *sorted(set(CANVASES) - {"fila"})]
    assert every[0] is eyes
    assert eyes.image_processor.canvas == {"type": "fila"}
    for other in every:
        equal_views = other.image_processor.plans().equal_views
        assert (other.image_processor.high_res_size is not None) == equal_views
        assert other.processor.token_size == (None if equal_views else PATCH)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (4, 4)),
        ({"connector": {"type": "pixel_shuffle"}}, (2, 2)),
        (single_tower(connector={"type": "resampler", "num_queries": 9, "num_heads": 4}), None),
        (fusion_settings("sequence_concat"), None),
        (fusion_settings("upsample_concat"), (4, 4)),
        ({"connector": {"type": "pixel_shuffle", "order": "v1"}}, None),
        (single_tower(connector={"type": "conv_glu"}), None),  # 2 x 2 and a vector at either end
        (single_tower(connector={"type": "stc", "depth": 1, "image_frames": 3}), None),
        (single_tower(connector={"type": "stc_v35", "depth": 1, "image_frames": 8}), None),  # 4 x 2 x 2, not 4 x 4
        (single_tower(connector={"type": "stc_v35", "depth": 1, "image_frames": 2}), (2, 2)),
        (single_tower(connector={"type": "dual_path"}), (2, 2)),
    ],
    ids=[
        "mlp",
        "pixel_shuffle",
        "resampler",
        "sequence_concat",
        "upsample_concat",
        "pixel_shuffle-v1",
        "conv_glu",
        "stc",
        "stc_v35-8",
        "stc_v35-2",
        "dual_path",
    ],
)
def test_token_grid_of_a_config(changes: dict[str, Any], expected: tuple[int, int] | None) -> None:
    assert token_grid(tiny_config(**changes)) == expected


def test_open_eyes_rejects_a_checkpoint_with_another_processor(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fila.look.view_settings.AutoProcessor.from_pretrained", lambda checkpoint: object())
    with pytest.raises(ValueError, match="tiny' has a object, not a FilaProcessor"):
        open_eyes(checkpoint)


@pytest.mark.parametrize("checkpoint", ["./nowhere", "/nowhere/at/all", "~/nowhere", "nowhere", "a/b/c"])
def test_check_checkpoint_rejects_what_is_neither_folder_nor_hub_id(checkpoint: str) -> None:
    with pytest.raises(ValueError, match=f"Checkpoint '{checkpoint}' is neither a folder nor a Hub id"):
        check_checkpoint(checkpoint)


def test_check_checkpoint_rejects_a_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config.json, so it is no checkpoint; `fila assemble` makes one"):
        check_checkpoint(str(tmp_path))


def test_check_checkpoint_lets_a_hub_id_pass() -> None:
    check_checkpoint("owner/name")
