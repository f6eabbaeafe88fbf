# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Serial towers: any high-res tower before any ViT, against a slow twin; views of two sizes; calls; refusals."""

import math
from collections import Counter
from typing import Any

import pytest
import torch

from fila import FilaProcessor, FilaVisionModel
from fila.modeling.tower_options import TowerError
from fila.modeling.towers import low_res_grid
from fila.systems.compatibility import fitting_settings
from fila.systems.meta_model import model_on_meta
from tests.cases import each
from tests.helpers import (
    assert_close,
    random_image,
    randomise,
    single_tower,
    tiny_config,
    tiny_image_processor,
    tiny_model,
    tiny_tokenizer,
)
from tests.modeling.tiny_towers import HIGH_RES, LOW_RES, high_res, low_res
from tests.reference.naive_serial_towers import serial_features

ANTIALIAS = {"positions": "bicubic_antialias"}
SAM = high_res("sam_vision_model", image_size=64, patch_size=8, tower_options={"downsample": [7, 20], **ANTIALIAS})
# DeepSeek-OCR's, tiny: tiles of 64 pixels with 2 x 2 cells, an overview of 96 with 3 x 3; a ViT with 4 x 4 positions.
SERIAL: dict[str, Any] = {
    "vision_config": low_res("clip_vision_model", num_hidden_layers=2, tower_options=ANTIALIAS),
    "high_res_vision_config": SAM,
    "low_res_views": "high_res_map",
    "tile_size": 64,
    "vision_feature_layer": -1,
    "fusion": {"type": "channel_concat"},
    "connector": {"type": "linear"},
    "image_newline": True,
    "view_separator": True,
}
CANVAS = {"type": "deepseek_ocr", "patch_size": 8, "overview_size": 96}


def serial_processor(model: Any, canvas: dict[str, Any] | str = CANVAS, layout: str = "deepseek_ocr") -> FilaProcessor:
    images = tiny_image_processor(size={"height": 64, "width": 64}, high_res_size=None, canvas=canvas)
    made = FilaProcessor(images, tiny_tokenizer(), layout=layout)
    return FilaProcessor(
        images, tiny_tokenizer(), layout=layout, **fitting_settings(model.config, images, made._layout)
    )


def encoder(**changes: Any) -> Any:
    model = FilaVisionModel(tiny_config(**{**SERIAL, **changes})).eval()
    randomise(model)
    return model


def square_views(model: Any, side: int, count: int = 2) -> dict[str, torch.Tensor]:
    torch.manual_seed(side)
    return {
        "pixel_values": torch.randn(count, 1, 3, side, side),
        "view_boxes": torch.tensor([[[0, 0, side, side]]] * count),
        "tile_grid": torch.tensor([[1, 1]] * count),
    }


@pytest.mark.parametrize("side", [32, 64, 72, 96])  # fewer cells than positions, a grid that rounds up, more
def test_serial_towers_equal_the_slow_twin_in_outputs_and_gradients(side: int) -> None:
    model = encoder(tile_size=side).double()
    inputs = square_views(model, side, count=1)
    pixels = inputs["pixel_values"].double().requires_grad_()
    features = model(**{**inputs, "pixel_values": pixels}).last_hidden_state
    weights = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    twin_pixels = pixels.detach()[0, 0].clone().requires_grad_()
    expected = serial_features(model.config, weights, twin_pixels)
    assert features.shape[1] == math.ceil(side / 8 / 4) ** 2
    assert_close(features[0], expected, 1e-6)  # positions are resampled in float32
    probe = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (features[0] * probe).sum().backward()
    (expected * probe).sum().backward()
    assert_close(pixels.grad[0, 0], twin_pixels.grad, 1e-5 * twin_pixels.grad.abs().max().item())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert_close(parameter.grad, weights[name].grad, 2e-5 * max(1e-3, weights[name].grad.abs().max().item()))


@each("first", [name for name in HIGH_RES if name != "pix2struct_vision_model"])
@torch.no_grad()
def test_any_high_res_tower_stands_before_a_vit(first: str) -> None:
    sizes: dict[str, Any] = {"convnext": {"hidden_sizes": [5, 7, 11, 20]}}
    tower = high_res(first, **sizes.get(first, {"output_channels": 20} if first == "sam_vision_model" else {}))
    if first in LOW_RES:
        del tower["tower_options"]
    side, width = 28 if first in LOW_RES else 128, 24 if first == "eva02" else 20
    vision = {**SERIAL["vision_config"], "hidden_size": width}
    model = encoder(high_res_vision_config=tower, vision_config=vision, tile_size=side)
    inputs = square_views(model, side)
    features = model(**inputs).last_hidden_state
    grid = low_res_grid(model.config, side, side)
    assert features.shape == (2, grid[0] * grid[1], 2 * width)
    assert features.isfinite().all()


@each("second", list(LOW_RES))
def test_any_vit_reads_the_map(second: str) -> None:
    model = encoder(vision_config=low_res(second))
    names = [name for name, _ in model.named_parameters()]
    assert not [name for name in names if "low_res" in name and "patch_embed" in name]
    features = model(**square_views(model, 64)).last_hidden_state
    assert features.shape == (2, 4, 40)
    features.square().mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None]
    assert silent == []


@each("fusion", [{"type": "none"}, {"type": "cvfm", "taps": [1, 2], "stages": [1, 1]}, {"type": "cbam"}])
@torch.no_grad()
def test_other_fusions_read_serial_towers_of_one_size(fusion: dict[str, Any]) -> None:
    model = encoder(fusion=fusion)
    assert model(**square_views(model, 64)).last_hidden_state.isfinite().all()


@torch.no_grad()
def test_answers_do_not_depend_on_the_batch() -> None:
    """Three samples: tiles and an overview, text alone, a small image; cached, with one beam and with three."""
    model = tiny_model(**SERIAL)
    processor = serial_processor(model)
    samples = [("<image> ab", [random_image(150, 100)]), ("cd", []), ("x<image>", [random_image(40, 63, seed=1)])]
    texts, images = map(list, zip(*samples, strict=True))
    batch = processor(text=texts, images=images, padding=True, return_tensors="pt")
    assert batch["patch_grids"].unique().tolist() == [0, 8, 12]
    for beams in (1, 3):
        settings = {"max_new_tokens": 4, "num_beams": beams, "do_sample": False, "eos_token_id": -1, "pad_token_id": 0}
        together = model.generate(**batch, **settings)[:, -4:].tolist()
        uncached = model.generate(**batch, **settings, use_cache=False)[:, -4:].tolist()
        assert together == uncached
        for row, (text, own) in zip(together, samples, strict=True):
            alone = processor(text=[text], images=[own] if own else None, return_tensors="pt")
            assert model.generate(**alone, **settings)[0, -4:].tolist() == row


@torch.no_grad()
def test_views_of_two_sizes_are_those_encoded_alone() -> None:
    model = tiny_model(**SERIAL)
    vision, processor = model.model.vision_tower, serial_processor(model)
    images = processor.image_processor([random_image(150, 100), random_image(40, 63, seed=1)], return_tensors="pt")
    for chunk in (None, 1, 4):
        found = vision(**images, views_per_chunk=chunk).last_hidden_state
        num_views = [int(boxes.any(dim=-1).sum()) for boxes in images["view_boxes"]]
        assert num_views == [7, 1]
        order = [(image, view) for image, count in enumerate(num_views) for view in range(count)]
        for features, (image, view) in zip(found, order, strict=True):
            grid = images["patch_grids"][image, view]
            packed = images["pixel_values"][image, view][..., : int(grid.prod()) * 8]
            alone = vision(
                packed[None, None],
                torch.tensor([[[0, 0, 1, 1]]]),
                torch.tensor([[1, 1]]),
                patch_grids=grid[None, None],
            ).last_hidden_state[0]
            assert_close(features[: len(alone)], alone, 2e-5)
            assert not features[len(alone) :].any()


def test_training_reaches_every_weight_also_for_text_alone() -> None:
    model = tiny_model(**SERIAL).train()
    batch = serial_processor(model)(text="<image> ab", images=random_image(150, 100), return_tensors="pt")
    model(**batch, labels=batch["input_ids"]).loss.backward()
    silent = [
        n for n, p in model.named_parameters() if "language_model" not in n and (p.grad is None or not p.grad.any())
    ]
    assert [name for name in silent if not name.endswith("k_proj.bias")] == []
    model.zero_grad()
    ids = torch.tensor([[7, 8, 9]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_sharded_processes_make_the_same_calls_whatever_their_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fila.modeling.modeling_hybrid_encoder.is_sharded", lambda module: True)
    model = tiny_model(**SERIAL)
    vision, processor = model.model.vision_tower, serial_processor(model)
    calls: Counter[str] = Counter()
    for name, module in vision.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_hook(lambda module, inputs, output, name=name: calls.update([name]))
    counted = []
    for size in [(150, 100), (40, 63)]:
        calls.clear()
        features = vision(**processor.image_processor(random_image(*size), return_tensors="pt")).last_hidden_state
        features.sum().backward()
        counted.append(dict(calls))
    assert counted[0] == counted[1]
    three = {"pixel_values": torch.randn(1, 3, 3, 8, 8 * 64), "patch_grids": torch.tensor([[[4, 4], [8, 8], [8, 4]]])}
    boxes = torch.tensor([[[0, 0, 1, 1]] * 3])
    with pytest.raises(ValueError, match=r"sharded weights take views of at most two sizes; got \[\(4, 4\)"):
        vision(view_boxes=boxes, tile_grid=torch.tensor([[1, 2]]), **three)


def test_grid_is_that_of_the_map() -> None:
    config = tiny_config(**SERIAL)
    assert config.patch_size == 8
    assert config.patch_grid == (2, 2)
    assert config.high_res_tile_size is None
    assert low_res_grid(config, 72, 96) == (3, 3)
    assert model_on_meta(config).model.tokens_per_tile == 4
    saved = type(config).from_dict(config.to_dict())
    assert saved.high_res_tile_size is None


@each(
    ("changes", "message"),
    [
        (
            {"high_res_tile_size": 64},
            r"`high_res_tile_size` is 64, but with `low_res_views` 'high_res_map' the high-res",
        ),
        (single_tower(), r"`low_res_views` 'high_res_map' draws views out of the high-res canvas, or reads the map"),
        (
            {"high_res_vision_config": {**SAM, "tower_options": {"downsample": [7, 21], **ANTIALIAS}}},
            r"so it must have its 20 channels; it has 21. Set the towers' widths alike",
        ),
        (
            {"high_res_vision_config": {**SAM, "tower_options": {"downsample": [0], **ANTIALIAS}}},
            r"`tower_options.downsample` must be a list of numbers of channels; got \[0\]",
        ),
        (
            {"high_res_vision_config": {**SAM, "tower_options": {"downsample": [7, 20]}}, "tile_size": 96},
            r"encodes views of its `image_size`, 64 pixels; high-res views have 96.*or `positions` to",
        ),
        ({"tile_size": 60}, r"Tower 'sam_vision_model' encodes views in cells of 8 pixels; 60 pixels are not whole"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        FilaVisionModel(tiny_config(**{**SERIAL, **changes}))
    assert isinstance(raised.value, TowerError | ValueError)


def test_views_of_two_sizes_need_a_fusion_that_takes_them() -> None:
    model = tiny_model(**{**SERIAL, "fusion": {"type": "cbam"}})
    with pytest.raises(ValueError, match=r"The views of canvas 'deepseek_ocr' differ in size, and fusion 'cbam'"):
        serial_processor(model)


@each(
    ("layout", "message"),
    [
        ("llava_next", "A layout with `separator` needs a model with `view_separator`"),
        ("fila", "A layout with `row_newlines` needs a model with `image_newline`"),
    ],
)
def test_layout_and_model_have_the_same_vectors(layout: str, message: str) -> None:
    model = tiny_model(**SERIAL)
    with pytest.raises(ValueError, match=message):
        serial_processor(model, {"type": "single"}, layout)


@torch.no_grad()
def test_separator_without_a_vector_is_refused() -> None:
    model = tiny_model(**{**SERIAL, "view_separator": False})
    batch = serial_processor(tiny_model(**SERIAL))(text="<image>", images=random_image(40, 63), return_tensors="pt")
    with pytest.raises(ValueError, match=r"has separator vectors, but the model has none. Set `view_separator=True`"):
        model(**batch)


@torch.no_grad()
def test_learned_vectors_are_where_the_layout_puts_them() -> None:
    model = tiny_model(**SERIAL)
    batch = serial_processor(model)(text="<image>", images=random_image(40, 63), return_tensors="pt")
    images = {name: value for name, value in batch.items() if name not in ("input_ids", "attention_mask")}
    (tokens,) = model.get_image_features(**images).pooler_output
    assert len(tokens) == 3 * 4 + 1
    assert torch.equal(tokens[-1], model.model.view_separator)
    assert all(torch.equal(tokens[row], model.model.image_newline) for row in (3, 7, 11))
