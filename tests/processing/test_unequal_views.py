# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Canvases whose views differ in size: the tensors, and MiniCPM-V's recorded pixels and prompts."""

import re
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.utils import is_torchvision_available

from fila.processing.image_processing_fila import FilaImageProcessor, FilaImageProcessorPil
from fila.processing.processing_fila import FilaProcessor
from tests.goldens import rows_of, tensors_of
from tests.helpers import random_image, tiny_tokenizer

needs_torchvision = pytest.mark.skipif(not is_torchvision_available(), reason="torchvision is not installed")
over_backends = pytest.mark.parametrize(
    "backend",
    [FilaImageProcessorPil, pytest.param(FilaImageProcessor, marks=needs_torchvision)],
    ids=["pil", "torchvision"],
)
# Slices of about 28x28 pixels in patches of 7: 24x56 is 1x2 slices, 30x14 is not cut.
SMALL: dict[str, Any] = {"size": 28, "high_res_size": None, "canvas": {"type": "minicpm", "patch_size": 7}}
CUT, WHOLE = random_image(24, 56, seed=1), random_image(30, 14, seed=2)
RAW = {"do_rescale": False, "do_normalize": False}


def settings_of(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", text)}


def test_minicpm_pixels_golden() -> None:
    checked = 0
    for metadata, tensors in tensors_of("minicpmv26_preprocess.safetensors"):
        for key, image in tensors.items():
            if not key.endswith(".image_hwc_u8"):
                continue
            prefix = key.removesuffix(".image_hwc_u8")
            settings = settings_of(metadata[prefix.split(".")[0]])
            processor = FilaImageProcessorPil(
                size=settings["scale_resolution"],
                canvas={"type": "minicpm", "patch_size": settings["patch"], "max_slices": settings["max"]},
                high_res_size=None,
                image_mean=[float(metadata["mean"])] * 3,
                image_std=[float(metadata["std"])] * 3,
            )
            out = processor(image.numpy())
            np.testing.assert_array_equal(out["patch_grids"][0], tensors[f"{prefix}.tgt_sizes"])
            for number, (view, (rows, cols)) in enumerate(
                zip(out["pixel_values"][0], out["patch_grids"][0], strict=True)
            ):
                recorded = tensors[f"{prefix}.pixel_values.{number}"].numpy()
                length = rows * cols * settings["patch"]
                assert recorded.shape[-1] == length
                np.testing.assert_array_equal(view[..., :length], recorded)
                checked += 1
    assert checked >= 6


@over_backends
def test_call_packs_patches_side_by_side(backend: type) -> None:
    out = backend(**SMALL)([CUT, WHOLE], return_tensors="pt")
    # The overview of 24x56 is 21x42, its slices 28x28; 30x14 is enlarged to 42x21.
    assert out["patch_grids"].tolist() == [[[3, 6], [4, 4], [4, 4]], [[6, 3], [0, 0], [0, 0]]]
    assert tuple(out["pixel_values"].shape) == (2, 3, 3, 7, 18 * 7)
    assert out["view_boxes"][1].tolist() == [[0, 0, 42, 21], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert out["pixel_values"][0, 0, ..., 17 * 7 :].any()
    assert not out["pixel_values"][0, 1:, ..., 16 * 7 :].any()
    assert not out["pixel_values"][1, 1:].any()
    assert out["tile_grid"].tolist() == [[1, 2], [1, 1]]


@over_backends
def test_patches_are_those_of_the_view(backend: type) -> None:
    image = random_image(28, 42, seed=3)  # native resolution: nothing is resized
    processor = backend(size=28, high_res_size=None, canvas={"type": "native", "patch_size": 7}, **RAW)
    view = np.asarray(processor(image)["pixel_values"][0][0])
    pixels = np.asarray(image).transpose(2, 0, 1)
    np.testing.assert_array_equal(view[..., :7], pixels[:, :7, :7])
    np.testing.assert_array_equal(view[..., 5 * 7 : 6 * 7], pixels[:, :7, 35:])
    np.testing.assert_array_equal(view[..., -7:], pixels[:, 21:, 35:])


@over_backends
def test_corner_padding_is_black_and_the_rest_untouched(backend: type) -> None:
    image = random_image(9, 13, seed=4)
    canvas = {"type": "native", "patch_size": 7, "fit": "corner"}
    out = backend(size=28, high_res_size=None, canvas=canvas, **RAW)(image)
    view = np.asarray(out["pixel_values"][0][0])  # 14x14 pixels: four patches
    last = view[..., 21:]
    np.testing.assert_array_equal(last[:, :2, :6], np.asarray(image).transpose(2, 0, 1)[:, 7:, 7:])
    assert not last[:, 2:].any()
    assert not last[:, :, 6:].any()


@over_backends
def test_model_input_names_hold_the_grids(backend: type) -> None:
    processor = backend(**SMALL)
    assert list(processor(CUT)) == ["pixel_values", "view_boxes", "tile_grid", "patch_grids"]
    assert processor.model_input_names == list(processor(CUT))


@over_backends
def test_image_sizes_come_on_request(backend: type) -> None:
    out = backend(**SMALL)([CUT, WHOLE], return_image_sizes=True, return_tensors="np")
    assert out["image_sizes"].tolist() == [[24, 56], [30, 14]]


@over_backends
@pytest.mark.parametrize("name", ["minicpm", "uhd", "native"])
def test_unequal_views_and_a_high_res_canvas_are_refused(backend: type, name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"`high_res_size` must be None for the canvas '{name}': its views differ in"
    ):
        backend(canvas={"type": name})


def test_a_tall_and_a_wide_strip_cost_no_square() -> None:
    out = FilaImageProcessorPil(size=448, high_res_size=None, canvas={"type": "minicpm"})(
        [random_image(1, 9000), random_image(9000, 1)], return_tensors="np"
    )
    assert out["pixel_values"].shape == (2, 1, 3, 14, 2048 * 14)


# --- prompts ---


def toy_tokenizer() -> PreTrainedTokenizerFast:
    """Seven special tokens and characters as 100 + their code, as the recorded prompts have it."""
    specials = ["<unk>", "<image>", "</image>", "<slice>", "</slice>", "<image_id>", "</image_id>"]
    vocabulary = {"<pad>": 0} | {token: number for number, token in enumerate(specials, 1)}
    vocabulary |= {chr(code): 100 + code for code in range(128)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        extra_special_tokens={"image_token" if token == "<unk>" else f"tag_{token}": token for token in specials},
        padding_side="left",
    )


def test_minicpm_prompts_golden() -> None:
    for recorded in rows_of("minicpmv26_prompt.json"):
        features = int(re.findall(r"image_feature_size=(\d+)", recorded["note"])[0])
        processor = FilaProcessor(
            FilaImageProcessorPil(
                size=recorded.get("scale_resolution", 448),
                high_res_size=None,
                canvas={"type": "minicpm", "max_slices": recorded.get("max_slice_nums", 9)},
            ),
            toy_tokenizer(),
            tokens_per_tile=features,
            layout={"type": "minicpm_v_2_6"},
        )
        prompts = [prompt.replace("(<image>./</image>)", "<unk>") for prompt in recorded["texts"]]
        images = [[random_image(height, width) for width, height in sizes] for sizes in recorded["image_sizes"]]
        out = processor(text=prompts, images=images, padding=True, return_tensors="np")
        assert out["input_ids"].tolist() == recorded["input_ids"]
        assert out["attention_mask"].tolist() == recorded["attention_mask"]
        for row, bounds in zip(out["input_ids"], recorded["image_bound"], strict=True):
            starts = [position + 1 for position, token in enumerate(row) if token in (2, 4)]
            ends = [position for position, token in enumerate(row) if token in (3, 5)]
            assert [list(bound) for bound in zip(starts, ends, strict=True)] == bounds
        flat = [image for sample in images for image in sample]
        assert processor(text=prompts, images=flat, padding=True)["input_ids"] == recorded["input_ids"]


def processor_with(layout: dict[str, Any], **settings: Any) -> FilaProcessor:
    images = FilaImageProcessorPil(**(SMALL | settings.pop("images", {})))
    return FilaProcessor(images, tiny_tokenizer(), layout=layout, **settings)


def test_tokens_follow_the_size_of_the_view() -> None:
    processor = processor_with({"type": "fila"}, token_size=7)
    out = processor(text=["<image>", "<image>"], images=[[CUT], [WHOLE]], padding=True, return_tensors="np")
    counts = (out["input_ids"] == processor.image_token_id).sum(-1).tolist()
    assert counts == [18 + 16 + 16, 18]
    assert processor._get_num_multimodal_tokens(image_sizes=[(24, 56), (30, 14)]).num_image_tokens == counts
    assert "image_token_index" not in out
    assert set(out) == set(processor.model_input_names)


def test_layout_in_runs_sends_the_index_of_its_tokens() -> None:
    processor = processor_with({"type": "llava_uhd"}, tokens_per_tile=2)
    out = processor(text=["<image>", "<image>"], images=[[CUT], [WHOLE]], padding=True, return_tensors="pt")
    assert out["image_token_index"].tolist() == [[2, 3, 4, 5, 0, 1], [0, 1, -2, -2, -2, -2]]
    assert set(out) == set(processor.model_input_names)
    text = processor.tokenizer.decode(out["input_ids"][0])
    assert text == "<image><image>,<image><image>\n<image><image>"
    alone = processor(text="<image>", images=WHOLE)
    assert [row.tolist() for row in alone["image_token_index"]] == [[0, 1]]


def test_slice_positions_are_sent() -> None:
    processor = processor_with({"type": "fila", "slice_positions": True})
    out = processor(text=["<image>", "<image>"], images=[[CUT], [WHOLE]], padding=True, return_tensors="np")
    assert out["view_positions"].tolist() == [[[-1, -1], [0, 0], [0, 1]], [[-1, -1], [-2, -2], [-2, -2]]]
    assert set(out) == set(processor.model_input_names)


def test_llava_next_layout_drops_padding() -> None:
    images = {"canvas": {"type": "llava_next"}}
    processor = processor_with({"type": "llava_next"}, images=images, token_size=7, tokens_per_tile=16)
    out = processor(text="<image>", images=CUT, return_tensors="np")
    # 1x2 tiles of 4x4 tokens; 24x56 pixels are 3.4 of 4 rows: 3, with a margin of 0.
    assert out["image_token_index"][0].tolist()[16:25] == [16, 17, 18, 19, 32, 33, 34, 35, -1]
    assert out["image_token_index"].shape == (1, 16 + 4 * 9)
    assert "image_sizes" not in out
    assert processor._get_num_multimodal_tokens(image_sizes=[(24, 56)]).num_image_tokens == [52]


def test_layout_is_saved(tmp_path: Any) -> None:
    layout = {"type": "minicpm_v_2_6", "overview_start": "<im>"}
    processor = processor_with(layout, token_size=7)
    processor.save_pretrained(tmp_path)
    loaded = FilaProcessor.from_pretrained(tmp_path)
    assert (loaded.layout, loaded.token_size) == (layout, 7)


def test_image_token_must_not_be_in_the_text_of_the_layout() -> None:
    with pytest.raises(ValueError, match=r"The image token '<image>' must not occur in .* \['overview_start'\]\. Use"):
        processor_with({"type": "minicpm_v_2_6"})


@pytest.mark.parametrize("value", [0, "7", 1.5])
def test_token_size_must_be_positive(value: Any) -> None:
    with pytest.raises(ValueError, match=r"`token_size` must be a positive integer or None; got "):
        processor_with({"type": "fila"}, token_size=value)


def test_views_must_be_whole_tokens() -> None:
    processor = processor_with({"type": "fila"}, token_size=14)
    with pytest.raises(
        ValueError, match=r"A view of 42x21 pixels must be whole tokens of 14 pixels \(the processor's"
    ):
        processor(text="<image>", images=WHOLE)
