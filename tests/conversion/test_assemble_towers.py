# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Assembling with towers of every kind, out of tiny checkpoints of transformers' own classes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from fila.conversion.assemble import assemble
from fila.modeling.tower_pix2struct import CLIP_MEAN
from tests.conversion.parts import edit_json, write_clip, write_text
from tests.conversion.tiny_vits import write_vit
from tests.helpers import random_image

CONCAT = {"type": "channel_concat"}
# Low-res and high-res part, and options.
PARTS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "siglip + sam": ("SiglipModel", "SamModel", {"fusion": CONCAT}),
    "dinov2 + pix2struct": (
        "Dinov2WithRegistersModel",
        "Pix2StructForConditionalGeneration",
        {"fusion": CONCAT, "high_res_tile_size": 128},
    ),
    "internvit": (
        "InternVLForConditionalGeneration",
        None,
        {"fusion": {"type": "none"}, "vision_feature_layer": -1, "tile_size": 42},
    ),
    "clip + siglip": ("clip", "SiglipVisionModel", {"fusion": CONCAT}),
}


def write(folder: Path, name: str) -> Any:
    return write_clip(folder) if name == "clip" else write_vit(folder, name)


@pytest.mark.parametrize("kind", PARTS)
def test_towers_of_every_kind_are_assembled(tmp_path: Path, kind: str) -> None:
    low_res, high_res, options = PARTS[kind]
    sources = {"low_res_tower": write(tmp_path / "low", low_res)}
    if high_res is not None:
        sources["high_res_tower"] = write(tmp_path / "high", high_res)
    write_text(tmp_path / "text")
    folder = assemble(
        tmp_path / "low",
        tmp_path / "high" if high_res else None,
        tmp_path / "text",
        tmp_path / "out",
        progress=False,
        **options,
    )
    model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for name, source in sources.items():
        found = next(model.model.vision_tower.get_submodule(name).parameters())
        assert any(torch.equal(found, weight) for weight in source.parameters())
    processor = AutoProcessor.from_pretrained(folder)
    inputs = processor(images=[random_image(40, 60)], text="<image>?", return_tensors="pt")
    with torch.no_grad():
        assert model.eval()(**inputs).logits.isfinite().all()
    if high_res == "Pix2StructForConditionalGeneration":
        assert list(processor.image_processor.high_res_image_mean) == CLIP_MEAN


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("low", r"low-res part low has model_type 'bert'; it must be one of \['clip', .*'siglip_vision_model'\]"),
        ("high", r"high-res part high has model_type 'bert' and no weights in timm's names; .* one of .*'sam'"),
    ],
)
def test_other_models_are_refused(tmp_path: Path, part: str, message: str) -> None:
    write_clip(tmp_path / "low")
    write_clip(tmp_path / "high")
    write_text(tmp_path / "text")
    edit_json(tmp_path / part / "config.json", model_type="bert")
    with pytest.raises(ValueError, match=message):
        assemble(tmp_path / "low", tmp_path / "high", tmp_path / "text", tmp_path / "out", progress=False)


def test_merger_of_an_assembled_tower_is_new(tmp_path: Path) -> None:
    write(tmp_path / "low", "SiglipVisionModel")
    edit_json(tmp_path / "low" / "config.json", tower_options={"merge_after": 2})
    write_text(tmp_path / "text")
    options = {"fusion": "none", "connector": "merger", "vision_feature_layer": -1, "tile_size": 28}
    folder = assemble(tmp_path / "low", None, tmp_path / "text", tmp_path / "out", progress=False, **options)
    model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    weight = model.model.vision_tower.low_res_tower.vit_merger.linear_1.weight
    block = [side // 4 for side in weight.shape]
    assert bool(weight[: block[0], : block[1]].all())
    assert not bool(weight[: block[0], block[1] :].any())
