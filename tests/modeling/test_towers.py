# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The towers against transformers' own models, weight for weight."""

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    ConvNextConfig,
    ConvNextModel,
    ConvNextV2Config,
    ConvNextV2Model,
    PreTrainedConfig,
)

from fila import FilaForConditionalGeneration
from fila.modeling.modeling_fila import IMAGE_INPUTS
from fila.modeling.tower_clip import ClipTower
from fila.modeling.tower_convnext import ConvNextTower, pack, unpack
from fila.modeling.tower_siglip import SiglipTower
from fila.modeling.towers import LOW_RES_TOWERS
from tests.contract.settings import fitting_processor
from tests.helpers import assert_close, random_image, randomise, single_tower, tiny_config
from tests.modeling.tiny_towers import low_res

CLIP = CLIPVisionConfig(
    hidden_size=20, intermediate_size=37, num_hidden_layers=5, num_attention_heads=4, image_size=28, patch_size=7
)


@pytest.mark.parametrize("kept", [1, 4, 5])
def test_clip_tower_equals_transformers_hidden_state(kept: int) -> None:
    source = CLIPVisionModel(CLIP).eval()
    randomise(source)
    tower = ClipTower(CLIP, kept).eval()
    missing, unexpected = tower.load_state_dict(source.state_dict(), strict=False)
    assert missing == []
    dropped = [f"encoder.layers.{i}." for i in range(kept, 5)] + ["post_layernorm."]
    assert all(any(key.startswith(prefix) for prefix in dropped) for key in unexpected)

    pixels = torch.randn(3, 3, 28, 28)
    expected = source(pixels, output_hidden_states=True).hidden_states[kept]
    middle = kept // 2
    actual = tower.run_layers(tower.run_layers(tower.embed(pixels), 0, middle), middle, kept)
    assert_close(actual, expected)


@pytest.mark.parametrize(
    ("config", "cls"),
    [
        pytest.param(ConvNextConfig(hidden_sizes=[5, 7, 11, 13], depths=[1, 2, 3, 1]), ConvNextModel, id="v1"),
        pytest.param(
            ConvNextConfig(hidden_sizes=[5, 7, 11, 13], depths=[1, 1, 1, 1], layer_scale_init_value=0.0),
            ConvNextModel,
            id="v1-no-scale",
        ),
        pytest.param(ConvNextV2Config(hidden_sizes=[5, 7, 11, 13], depths=[1, 2, 1, 1]), ConvNextV2Model, id="v2"),
    ],
)
def test_convnext_tower_equals_transformers_in_every_stage_and_gradient(config: ConvNextConfig, cls: type) -> None:
    source = cls(config).double().eval()
    randomise(source)
    tower = ConvNextTower(config, 4).double().eval()
    missing, unexpected = tower.load_state_dict(source.state_dict(), strict=False)
    assert missing == []
    assert sorted(unexpected) == ["layernorm.bias", "layernorm.weight"]

    pixels = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    expected = source.embeddings(pixels)
    actual = tower.embed(pixels)
    for stage in range(4):
        expected = source.encoder.stages[stage](expected)
        actual = tower.run_stages(actual, stage, stage + 1)
        assert actual.shape[2:] == (64 // tower.stride(stage + 1), 96 // tower.stride(stage + 1))
        assert_close(actual, expected, 1e-12)

    weights = dict(tower.named_parameters())
    theirs = {name: parameter for name, parameter in source.named_parameters() if name in weights}
    direction = torch.randn_like(actual)
    ours = torch.autograd.grad((actual * direction).sum(), list(weights.values()))
    reference = torch.autograd.grad((expected * direction).sum(), [theirs[name] for name in weights])
    for mine, yours in zip(ours, reference, strict=True):
        assert_close(mine, yours, 1e-9)


def test_convnext_tower_refuses_a_stage_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"stages 1\.\.4; the fusion reads stage 5"):
        ConvNextTower(ConvNextConfig(hidden_sizes=[5, 7, 11, 13], depths=[1, 1, 1, 1]), 5)


def test_stochastic_depth_drops_whole_updates_and_keeps_the_mean() -> None:
    config = ConvNextConfig(hidden_sizes=[5, 7, 11, 13], depths=[1, 1, 1, 1], drop_path_rate=0.5)
    block = ConvNextTower(config, 4).encoder.stages[3].layers[0]
    assert block.drop_path == 0.5
    features = torch.randn(1, 13, 4, 4).expand(400, -1, -1, -1)
    cells, shapes = pack([features])
    block.eval()
    update = unpack(block(cells, shapes) - cells, shapes)[0][0]
    block.train()
    (drawn,) = unpack(block(cells, shapes) - cells, shapes)
    kept = drawn.abs().amax(dim=(1, 2, 3)) > 0
    assert 140 < int(kept.sum()) < 260  # 200 expected, standard deviation 10
    assert_close(drawn[kept], (2 * update).expand(int(kept.sum()), -1, -1, -1), 1e-5)


@pytest.mark.parametrize("config", [ConvNextConfig, ConvNextV2Config])
def test_maps_of_several_sizes_pass_as_if_alone(config: type[ConvNextConfig]) -> None:
    tower = ConvNextTower(config(hidden_sizes=[5, 7, 11, 13], depths=[1, 2, 1, 1], drop_path_rate=0.0), 4).double()
    randomise(tower)
    canvases = tuple(
        torch.randn(*size, dtype=torch.float64) for size in ((2, 3, 64, 96), (1, 3, 32, 64), (3, 3, 96, 32))
    )
    together = tower.run_stages(tower.run_stages(tower.embed(canvases), 0, 2), 2, 4)
    assert isinstance(together, tuple)
    for canvas, features in zip(canvases, together, strict=True):
        assert_close(features, tower.run_stages(tower.embed(canvas), 0, 4), 1e-12)


def test_packing_is_undone_without_a_copy() -> None:
    maps = [torch.randn(2, 5, 3, 7), torch.randn(1, 5, 4, 2)]
    cells, shapes = pack(maps)
    assert (cells.shape, shapes) == ((2 * 3 * 7 + 4 * 2, 5), [(2, 3, 7), (1, 4, 2)])
    for before, after in zip(maps, unpack(cells, shapes), strict=True):
        assert torch.equal(before, after)
        assert after.untyped_storage().data_ptr() == cells.untyped_storage().data_ptr()
    alone, (shape,) = pack(unpack(cells, shapes)[:1])
    assert shape == (2, 3, 7)
    assert alone.untyped_storage().data_ptr() == cells.untyped_storage().data_ptr()


class _HalvingTower(SiglipTower):
    """A tower whose features are 2 x 2 patches each."""

    @staticmethod
    def patch_grid(config: PreTrainedConfig, height: int, width: int) -> tuple[int, int]:
        return height // (2 * config.patch_size), width // (2 * config.patch_size)

    def finish(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states.unflatten(1, (2, 2, 2, 2)).mean((2, 4)).flatten(1, 2)


def test_every_count_asks_the_tower_for_its_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOW_RES_TOWERS, "siglip_vision_model", _HalvingTower)
    config = tiny_config(vision_config=low_res("siglip_vision_model"), **single_tower())
    assert (config.patch_grid, config.patch_size) == ((2, 2), 7)
    model = FilaForConditionalGeneration(config).eval()
    batch = fitting_processor(model)(text="<image> ab", images=random_image(20, 50), return_tensors="pt")
    features = model.model.get_image_features(**{key: batch[key] for key in IMAGE_INPUTS if key in batch})
    assert features.pooler_output[0].shape[0] == 4 * len(batch["view_boxes"][0])
    assert model.model.vision_tower.grid_of(torch.tensor([[4, 4], [2, 6]])).tolist() == [[2, 2], [1, 3]]
