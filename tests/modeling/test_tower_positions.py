# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Positions of views of any patch grid: recorded ids and embeddings, and what padding must not change."""

import pytest
import torch
from transformers import CLIPVisionModel

from fila.modeling.tower_clip import ClipTower
from fila.modeling.tower_positions import bucket_ids, bucket_position_ids, interpolated_positions, patch_mask
from tests.goldens import rows_of, tensors_of
from tests.helpers import assert_close, randomise, tiny_config


def test_bucket_ids_golden() -> None:
    for table in rows_of("minicpmv26_bucket_position_ids.json"):
        for side, recorded in table["side"].items():
            found = {count: bucket_ids(int(count), int(side)).tolist() for count in recorded["ids"]}
            assert found == recorded["ids"]


def test_bucket_ids_differ_from_exact_arithmetic_where_recorded_golden() -> None:
    for table in rows_of("minicpmv26_bucket_position_ids.json"):
        for side, counts in table["exact_floor_mismatch"].items():
            differing = [
                count
                for count in range(1, 1 + max(counts, default=0))
                if bucket_ids(count, int(side)).tolist() != [i * int(side) // count for i in range(count)]
            ]
            assert differing == counts


def test_siglip_embeddings_golden() -> None:
    for _, values in tensors_of("minicpmv26_siglip_embeddings.safetensors"):
        weight, bias = values["sd.patch_embedding.weight"], values["sd.patch_embedding.bias"]
        table = values["sd.position_embedding.weight"]
        patches = torch.nn.functional.conv2d(values["pixel_values"], weight, bias, stride=weight.shape[-1])
        patches = patches.flatten(2).transpose(1, 2)
        length, side = patches.shape[1], round(len(table) ** 0.5)
        mask = patch_mask(values["tgt_sizes"], length)
        assert torch.equal(mask, values["patch_attention_mask"][:, 0])
        embeddings = patches + table[bucket_position_ids(values["tgt_sizes"], side, length)]
        assert_close(embeddings, values["embeddings"])


def test_interpolation_of_the_own_grid_is_the_table() -> None:
    table = torch.randn(25, 7)
    assert interpolated_positions(table, (5, 5)) is table


def tower() -> ClipTower:
    config = tiny_config().vision_config
    model = ClipTower(config, 3).eval()
    randomise(model)
    return model


def packed(images: list[torch.Tensor], patch: int) -> tuple[torch.Tensor, torch.Tensor]:
    grids = torch.tensor([[image.shape[1] // patch, image.shape[2] // patch] for image in images])
    length = int(grids.prod(-1).max())
    rows = []
    for image in images:
        patches = image.unfold(1, patch, patch).unfold(2, patch, patch).flatten(1, 2)  # (3, L, p, p)
        row = patches.permute(0, 2, 1, 3).flatten(2)
        rows.append(torch.nn.functional.pad(row, (0, length * patch - row.shape[-1])))
    return torch.stack(rows), grids


@torch.no_grad()
def test_packed_views_are_those_of_clip_one_by_one() -> None:
    model = tower()
    images = [torch.randn(3, 21, 35), torch.randn(3, 28, 28), torch.randn(3, 7, 14)]
    pixels, grids = packed(images, 7)
    hidden = model.embed(pixels, grids)
    mask = model.attention_mask(hidden, grids)
    hidden = model.run_layers(hidden, 0, 3, attention_mask=mask)
    clip = CLIPVisionModel(tiny_config().vision_config).eval()
    clip.load_state_dict(model.state_dict(), strict=False)
    for row, image in zip(hidden, images, strict=True):
        alone = clip(image[None], interpolate_pos_encoding=True, output_hidden_states=True).hidden_states[3][0]
        assert_close(row[: len(alone)], alone, 2e-5)


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    model = tower()
    images = [torch.randn(3, 21, 35), torch.randn(3, 7, 14)]
    pixels, grids = packed(images, 7)
    pixels[1, :, :, 14:] = 1e3
    hidden = model.embed(pixels, grids)
    noisy = model.run_layers(hidden, 0, 3, attention_mask=model.attention_mask(hidden, grids))
    alone, grid = packed(images[1:], 7)
    clean = model.run_layers(model.embed(alone, grid), 0, 3)
    assert model.attention_mask(alone, None) is None
    assert_close(noisy[1, :3], clean[0], 2e-5)


@torch.no_grad()
def test_views_of_the_own_grid_equal_the_usual_path() -> None:
    model = tower()
    views = torch.randn(2, 3, 28, 28)
    pixels, grids = packed(list(views), 7)
    hidden = model.embed(pixels, grids)
    assert model.attention_mask(hidden, grids) is None
    assert_close(hidden, model.embed(views), 2e-6)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_gradient_reaches_the_table_through_every_grid(implementation: str) -> None:
    model = tower()
    model.config._attn_implementation = implementation
    pixels, grids = packed([torch.randn(3, 21, 35), torch.randn(3, 7, 14)], 7)
    hidden = model.embed(pixels, grids)
    hidden = model.run_layers(hidden, 0, 3, attention_mask=model.attention_mask(hidden, grids))
    hidden[1, :3].square().sum().backward()
    gradient = model.embeddings.position_embedding.weight.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient[1:].abs().sum() > 0
