# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""transformers' `unlimited_ocr`, the encoder of DeepSeek-OCR, imported: the same features for the same pixels."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from fila.conversion.export_checkpoint import export_checkpoint
from fila.conversion.import_checkpoint import import_checkpoint
from fila.modeling.serial_towers import whole_views
from tests.conversion.originals import ORIGINALS, import_settings, text_beside, write_original
from tests.conversion.parts import LLAMA_SIZES, byte_tokenizer, write_text
from tests.helpers import assert_close, random_image, randomise

NEWER = hasattr(transformers, "UnlimitedOcrConfig")
WIDTH = LLAMA_SIZES["hidden_size"]
VISION = {
    "sam_config": {
        "hidden_size": 12,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 48,
        "patch_size": 4,
        "window_size": 5,
        "global_attn_indexes": [0, 2],
        "output_channels": 6,
        "mlp_dim": 17,
        "downsample_channels": [7, 16],
    },
    "encoder_config": {
        "hidden_size": 16,
        "intermediate_size": 19,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 21,
        "patch_size": 7,
    },
}
IMAGES = {
    "config": {"tile_size": 48},
    "image_processor": {"canvas": {"type": "deepseek_ocr", "patch_size": 4, "overview_size": 80}},
}


def write_theirs(folder: Path, *, original_names: bool) -> Any:
    """Write a tiny random checkpoint of transformers' class, and a language model beside it."""
    text = {"vocab_size": 32, "hidden_size": WIDTH, "intermediate_size": 32, "moe_intermediate_size": 8}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "mlp_layer_types": ["dense"]}
    text |= {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "head_dim": WIDTH // 2}
    config = transformers.UnlimitedOcrConfig(vision_config=VISION, text_config=text, image_token_id=31)
    theirs = transformers.UnlimitedOcrForConditionalGeneration(config).eval()
    randomise(theirs, std=0.3)
    theirs.save_pretrained(folder, save_original_format=original_names)
    byte_tokenizer([], None).save_pretrained(folder)
    write_text(text_beside(folder))
    return theirs


@pytest.mark.skipif(not NEWER, reason="this transformers has no unlimited_ocr")
@pytest.mark.parametrize("original_names", [True, False], ids=["own names", "transformers' names"])
@torch.no_grad()
def test_features_equal_transformers(original_names: bool, tmp_path: Path) -> None:
    theirs = write_theirs(tmp_path / "theirs", original_names=original_names)
    text = {"text_weights": text_beside(tmp_path / "theirs")}
    folder = import_checkpoint(
        tmp_path / "theirs", tmp_path / "ours", system="deepseek-ocr", progress=False, **text, **IMAGES
    )
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    cut, small = random_image(170, 110), random_image(40, 33, seed=1)
    batch = processor(
        text=["<image> a", "b", "<image> and <image>"],
        images=[[cut], [], [small, cut]],
        padding=True,
        return_tensors="pt",
    )
    images = {name: value for name, value in batch.items() if name not in ("input_ids", "attention_mask")}
    found = model.get_image_features(**images).pooler_output
    overviews, tiles, counts, grids = [], [], [], []
    for pixels, patches, grid in zip(batch["pixel_values"], batch["patch_grids"], batch["tile_grid"], strict=True):
        views = [
            whole_views(view[None], (int(rows), int(cols)), 4)[0]
            for view, (rows, cols) in zip(pixels, patches, strict=True)
            if rows
        ]
        overviews.append(views[0])
        tiles += views[1:]
        counts.append(len(views) - 1)
        grids.append([int(grid[1]), int(grid[0])])
    expected = theirs.get_image_features(
        torch.stack(overviews), torch.stack(tiles), num_local_patches=counts, patches_grid=grids
    ).pooler_output
    assert len(found) == 3
    assert counts[1] == 0 < counts[0]
    for ours, own in zip(found, expected, strict=True):
        assert_close(ours, own, 1e-5 * own.abs().max().item())
    export_checkpoint(folder, tmp_path / "back", original=tmp_path / "theirs", progress=False)
    state, back = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "back"))
    assert back.keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in back.items())


def test_the_language_model_must_be_replaced_by_one_of_the_same_width(tmp_path: Path) -> None:
    original = ORIGINALS["deepseek-ocr"]
    write_original(tmp_path / "theirs", original)
    settings = import_settings(original, tmp_path / "theirs")
    alone = {name: value for name, value in settings.items() if name != "text_weights"}
    with pytest.raises(
        ValueError, match=r"theirs can be imported without its language model alone: .*unlimited_ocr_te"
    ):
        import_checkpoint(tmp_path / "theirs", tmp_path / "ours", progress=False, **alone)
    path = text_beside(tmp_path / "theirs") / "config.json"
    wide = json.loads(path.read_text()) | {"hidden_size": 28, "head_dim": 8}
    path.write_text(json.dumps(wide))
    with pytest.raises(ValueError, match=r"must be 24 wide, as the projector of theirs; theirs-text is 28"):
        import_checkpoint(tmp_path / "theirs", tmp_path / "ours", progress=False, **settings)
    write_original(tmp_path / "llava", ORIGINALS["llava-next"])
    with pytest.raises(ValueError, match=r"`text_weights` must be left out: llava-next is imported with its own"):
        import_checkpoint(
            tmp_path / "llava",
            tmp_path / "ours",
            progress=False,
            **ORIGINALS["llava-next"].settings,
            text_weights=tmp_path / "theirs-text",
        )


@pytest.mark.parametrize("key", ["model.qwen2_model.query_768.weight", "model.qwen2_model.model.model.norm.weight"])
def test_deepseek_ocr_2_is_refused_by_name(key: str, tmp_path: Path) -> None:
    original = ORIGINALS["deepseek-ocr"]
    state = write_original(tmp_path / "theirs", original)
    save_file({**state, key: torch.zeros(3)}, tmp_path / "theirs" / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"cannot be imported: it is a DeepSeek-OCR-2, whose second tower is a language"
    ):
        import_checkpoint(
            tmp_path / "theirs", tmp_path / "ours", progress=False, **import_settings(original, tmp_path / "theirs")
        )
