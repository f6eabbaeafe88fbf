# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The merger inside a ViT: its arithmetic, the grid that it leaves, what it cannot be combined with."""

import re
from typing import Any

import pytest
import torch
from transformers import SiglipVisionConfig

from fila import FilaConfig, FilaForConditionalGeneration
from fila.conversion.remote_code import model_code
from fila.modeling.modeling_hybrid_encoder import FilaVisionModel
from fila.modeling.tower_merger import VitMerger
from fila.modeling.towers import LOW_RES_TOWERS, build_high_res_tower
from tests.cases import each
from tests.helpers import assert_close, randomise, single_tower, tiny_config
from tests.modeling.tiny_towers import LOW_RES, high_res, low_res, tower_config
from tests.modeling.twins import assert_same
from tests.reference.naive_merger import naive_vit_merger


def merging(name: str = "siglip_vision_model", merge_after: object = 2, **options: Any) -> dict[str, Any]:
    """Settings of a tower that joins patches."""
    prefix = {} if name == "siglip_vision_model" else {"prefix": "drop"}
    return low_res(name, tower_options={"merge_after": merge_after, **prefix, **options})


def config_of(**changes: Any) -> FilaConfig:
    return tiny_config(**{"vision_config": merging(), "vision_feature_layer": -1, **single_tower(), **changes})


@pytest.mark.parametrize("differ", [False, True])
def test_merger_equals_its_slow_twin(differ: bool) -> None:
    merger = VitMerger(
        SiglipVisionConfig(
            hidden_size=12, intermediate_size=5, num_attention_heads=3, tower_options={"merge_after": 1}
        )
    ).double()
    randomise(merger, std=0.4)
    grids = [(4, 6), (2, 8), (6, 2)] if differ else [(4, 6)] * 3
    x = torch.randn(3, 24, 12, dtype=torch.float64, requires_grad=True)
    weights = dict(merger.named_parameters())
    found = merger(x, torch.tensor(grids) if differ else grids[0])
    kept = [view[: rows * cols // 4] for view, (rows, cols) in zip(found, grids, strict=True)]
    twin = [naive_vit_merger(weights, view, *own, heads=3) for view, own in zip(x, grids, strict=True)]
    # a key's bias moves all scores of a query alike
    unseen = ("k_proj.bias",)
    assert_same(torch.cat(kept), torch.cat(twin), weights | {"x": x}, tolerance=1e-11, unseen=unseen)


@pytest.mark.parametrize("name", LOW_RES)
@torch.no_grad()
def test_every_tower_without_prefix_joins_patches_and_says_its_grid(name: str) -> None:
    encoder = FilaVisionModel(config_of(vision_config=merging(name))).eval()
    randomise(encoder)
    views = torch.randn(2, 3, 28, 28)
    boxes, grid = torch.tensor([[[0, 0, 28, 28]]] * 2), torch.ones(2, 2, dtype=torch.int64)
    found = encoder(views[:, None], boxes, grid).last_hidden_state
    assert encoder.config.patch_grid == (2, 2)
    assert found.shape == (2, 4, 20)
    tower = encoder.low_res_tower
    low = tower.run_layers(tower.embed(views), 0, 1)
    low = tower.vit_merger(tower.layers[1](low, *([None] if tower.takes_mask else [])), (4, 4))
    assert_close(tower.finish(tower.run_layers(low, 2, 3)), found)
    if not tower.takes_mask:
        return
    sizes = [torch.tensor([[4, 2]]), torch.tensor([[2, 6]])]  # each alone as together, whatever pads it
    packed = [torch.randn(1, 3, 7, int(size.prod()) * 7) for size in sizes]
    together = encoder(packed, boxes, grid, patch_grids=sizes).last_hidden_state
    chunked = encoder(packed, boxes, grid, patch_grids=sizes, views_per_chunk=1).last_hidden_state
    for at, size in enumerate(sizes):
        alone = encoder(packed[at : at + 1], boxes[:1], grid[:1], patch_grids=[size]).last_hidden_state[0]
        assert alone.shape == (int(size.prod()) // 4, 20)
        assert_close(together[at, : len(alone)], alone)
        assert_close(chunked[at, : len(alone)], alone)


@torch.no_grad()
def test_views_of_unequal_length_keep_their_padding_out_behind_the_merger() -> None:
    encoder = FilaVisionModel(config_of()).eval()
    randomise(encoder)
    boxes, grid = torch.tensor([[[0, 0, 28, 28]]] * 2), torch.ones(2, 2, dtype=torch.int64)
    sizes = [torch.tensor([[2, 2]]), torch.tensor([[4, 6]])]
    packed = [torch.randn(1, 3, 7, int(size.prod()) * 7) for size in sizes]
    first = encoder(packed, boxes, grid, patch_grids=sizes).last_hidden_state[0, :1]
    packed[1] = packed[1] * 9
    assert_close(encoder(packed, boxes, grid, patch_grids=sizes).last_hidden_state[0, :1], first)


@torch.no_grad()
def test_high_res_tower_joins_patches_too() -> None:
    settings = {"merge_after": 3, "input_size": 42}
    tower = build_high_res_tower(tower_config(high_res("siglip_vision_model", tower_options=settings)), 1).eval()
    expected = LOW_RES_TOWERS["siglip_vision_model"].stage_shape(tower.config, 1, 128)
    assert tower(torch.randn(1, 3, 128, 128)).shape == (1, expected[0], *[expected[1]] * 2) == (1, 20, 3, 3)


def test_new_weights_process_the_four_patches_alone_at_first() -> None:
    merger = FilaForConditionalGeneration(config_of()).model.vision_tower.low_res_tower.vit_merger
    blocks = merger.linear_1.weight.detach().unflatten(0, (4, -1)).unflatten(2, (4, -1))
    for row in range(4):
        for col in range(4):
            assert bool(blocks[row, :, col].any()) == (row == col)
    spread = [float(blocks[row, :, row].std()) for row in range(4)]
    assert all(abs(each * merger.layer_norm1.weight.shape[0] ** 0.5 - 1) < 0.15 for each in spread)


def test_only_checkpoints_with_a_merger_carry_its_files() -> None:
    files = {"tower_merger.py", "view_windows.py"}
    assert files <= set(model_code(config_of()))
    assert not files & set(model_code(config_of(vision_config=low_res("siglip_vision_model"))))


@each(
    ("changes", "message"),
    [
        (
            {"vision_config": merging(merge_after=4)},
            r"`tower_options.merge_after` must name one of the 3 layers of the tower, or be null; got 4",
        ),
        ({"vision_config": merging(merge_after=True)}, r"`tower_options.merge_after` must name .+; got True"),
        (
            {"vision_config": low_res("clip_vision_model", tower_options={"merge_after": 2})},
            r"tower 'clip_vision_model' has 1 tokens before its patches, which are in no window\. Set `prefix`",
        ),
        (
            {"tile_size": 35},
            r"every view must have an even number of rows and columns of patches; got 5x5 \(35x35 pixels\)",
        ),
        (
            {"vision_feature_layer": 1},
            r"Layer 1 of tower 'siglip_vision_model' is read, and `tower_options.merge_after` joins patches behind "
            r"layer 2",
        ),
        (
            {
                "vision_config": merging(merge_after=3),
                "high_res_vision_config": {"model_type": "convnext", **high_res("convnext")},
                "fusion": {"type": "cvfm", "taps": [1, 2, 3, 3]},
            },
            r"Fusion 'cvfm' reads layers \[1, 2\] of the low-res tower, whose patches are joined behind layer 3",
        ),
    ],
)
def test_merger_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FilaVisionModel(config_of(**changes))


def test_odd_grid_of_a_view_is_refused_by_its_size() -> None:
    encoder = FilaVisionModel(config_of())
    with pytest.raises(ValueError, match=re.escape("got 3x4 (21x28 pixels). Choose another `tile_size`, or a canvas")):
        encoder.grid_of(torch.tensor([[2, 2], [3, 4]]))
