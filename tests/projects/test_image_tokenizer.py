# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The project of the image tokenizer: crops of photographs, and its recipe in a few steps."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel

from fila import VarVQModel
from projects.image_tokenizer import recipe as tokenizer_recipe
from projects.image_tokenizer.image_crops import ImageCrops, find_images
from tests.modeling.tiny_var import tiny_vq_config


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for name in (*tokenizer_recipe.TRAINED, *tokenizer_recipe.HELD_OUT):
        coarse = Image.fromarray(draw.integers(0, 256, (5, 7, 3), dtype=np.uint8))
        coarse.resize((70, 50), Image.Resampling.BICUBIC).save(folder / name)
    return folder


def test_crops_are_drawn_alike_from_their_index(photos: Path) -> None:
    paths = find_images(photos)
    crops, again = (ImageCrops(paths, 16, 9, seed=3) for _ in range(2))
    assert len(crops) == 9
    for index in range(9):
        pixels = crops[index]["pixel_values"]
        assert pixels.shape == (3, 16, 16)
        assert pixels.min() >= -1
        assert pixels.max() <= 1
        assert torch.equal(pixels, again[index]["pixel_values"])
    assert not torch.equal(crops[0]["pixel_values"], crops[1]["pixel_values"])
    with pytest.raises(ValueError, match=r"holds no image; its files must end in one of"):
        find_images(photos.parent)


def test_recipe_trains_resumes_and_reports(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_recipe, "small_config", lambda: tiny_vq_config(norm_groups=4))
    run = tmp_path / "run"
    tokenizer_recipe.train(photos, run, steps=2, batch_size=2, held_out=3)
    (run / "checkpoint-3").mkdir()  # left by a kill
    report = tokenizer_recipe.train(photos, run, steps=4, batch_size=2, held_out=3)
    assert [scale["patches"] for scale in report["scales"]] == [1, 2, 4]
    assert json.loads((run / "report.json").read_text("utf-8")) == report
    state = json.loads((run / "checkpoint-4" / "trainer_state.json").read_text("utf-8"))
    assert [entry["step"] for entry in state["log_history"]] == [1, 2, 3, 4]  # went on, did not begin anew
    assert isinstance(AutoModel.from_pretrained(run / "final"), VarVQModel)
    for name in ("loss.png", "psnr.png", "usage.png"):
        assert (run / name).is_file()
    with Image.open(run / "scales.png") as sheet:
        assert sheet.size == (6 * 18 * 4, 6 * 18 * 3)  # the image and three scales; three images


def test_recipe_needs_all_photographs(photos: Path, tmp_path: Path) -> None:
    (photos / "coins.png").rename(photos / "mine.png")
    with pytest.raises(ValueError, match=r"the photographs of scikit-image 0\.26; it lacks \['coins\.png'\]\."):
        tokenizer_recipe.train(photos, tmp_path / "run")


def test_no_photograph_is_on_both_sides() -> None:
    assert not set(tokenizer_recipe.TRAINED) & set(tokenizer_recipe.HELD_OUT)
    scenes = {name.split("_")[0] for name in tokenizer_recipe.TRAINED}
    assert not scenes & {name.split("_")[0] for name in tokenizer_recipe.HELD_OUT}
