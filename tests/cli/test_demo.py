# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The built-in demonstration, with a model that can be trained in a second and with the one that ships."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from fila.cli.demo import Asked, bundled_files, draw_demo, run_demo, without_high_res
from fila.look.processed_image import look
from fila.look.view_settings import Eyes
from fila.training.page_files import write_pages
from fila.training.page_fonts import DEFAULT_FACES
from projects.default_model.model import make_model, make_processor
from tests.helpers import tiny_model


def untrained_assets(folder: Path) -> Path:
    processor = make_processor()
    make_model(processor).save_pretrained(folder / "default_model")
    processor.save_pretrained(folder / "default_model")
    write_pages(folder / "demo_pages", "test", 2, processor.image_processor, faces=DEFAULT_FACES)
    return folder


def test_demo_asks_everything_twice_and_draws_it(tmp_path: Path) -> None:
    assets = untrained_assets(tmp_path / "assets")
    shown: list[str] = []
    picture, answers = run_demo(tmp_path, assets=assets, show=shown.append)
    samples = [json.loads(line) for line in (assets / "demo_pages" / "pages.jsonl").read_text().splitlines()]
    assert [[each.printed for each in asked] for asked in answers] == [
        [field["answer"] for field in sample["fields"]] for sample in samples
    ]
    text = "\n".join(shown)
    assert "WRONG" in text
    assert f"Right: 0 of {sum(map(len, answers))}; without the high-res tower's features: 0 of" in text
    assert all(each.question in text for asked in answers for each in asked)
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"
        assert drawn.width == 2 * 512 + 3 * 32


def test_features_are_removed_at_every_tap_and_come_back() -> None:
    processor = make_processor()
    model = make_model(processor).eval()
    for layer in model.model.vision_tower.fusion.layers:
        torch.nn.init.normal_(layer.fc2.weight)
    noise = torch.Generator().manual_seed(0)
    page = Image.fromarray((torch.rand(256, 256, 3, generator=noise) * 255).byte().numpy())
    images = processor.image_processor(images=[page], return_tensors="pt")
    other = {**images, "high_res_pixel_values": -images["high_res_pixel_values"]}

    def features(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            return model.model.vision_tower(**inputs).last_hidden_state

    before = features(images)
    assert not torch.equal(features(other), before)
    with without_high_res(model):
        assert torch.equal(features(other), features(images))
        assert not torch.equal(features(images), before)
    assert torch.equal(features(images), before)


def test_a_fusion_without_taps_is_refused() -> None:
    with (
        pytest.raises(ValueError, match="Only a fusion with taps can be skipped; the model has 'channel_concat'"),
        without_high_res(tiny_model(fusion={"type": "channel_concat"})),
    ):
        pass


def test_picture_shows_both_canvases_and_colours_the_answers() -> None:
    processor = make_processor()
    eyes = Eyes.of(make_model(processor).config, processor, "red")
    seen = look(eyes, Image.new("RGB", (300, 300), (200, 30, 30)))
    right, wrong = (Asked("What?", "7", answer, "x") for answer in ("7", "8"))
    pixels = [
        {tuple(pixel) for _, pixel in draw_demo([seen], [[asked]]).getcolors(1 << 20)} for asked in (right, wrong)
    ]
    assert (0x2B, 0x8A, 0x3E) in pixels[0]
    assert (0x2B, 0x8A, 0x3E) not in pixels[1]
    assert all((200, 30, 30) in found for found in pixels)


def test_bundled_model_reads_the_bundled_pages(tmp_path: Path) -> None:
    _, answers = run_demo(tmp_path, show=lambda line: None)
    assert len(answers) >= 2
    for asked in answers:
        assert [each.with_high_res for each in asked] == [each.printed for each in asked]
        assert not any(each.without_high_res == each.printed for each in asked)


def test_bundled_model_is_small_and_halves() -> None:
    with bundled_files() as folder:
        weights = folder / "default_model" / "model.safetensors"
        assert weights.stat().st_size <= 20_000_000
        assert json.loads((folder / "default_model" / "config.json").read_text())["dtype"] == "float16"
