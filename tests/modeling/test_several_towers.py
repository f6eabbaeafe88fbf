# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The hybrid encoder with towers of every kind: several at once, of one stage, fed from the high-res canvas."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fila import FilaConfig, FilaForConditionalGeneration, FilaVisionModel
from fila.modeling.fusion import FUSIONS
from fila.modeling.fusion_align import area_resample
from fila.modeling.tower_options import TowerError
from fila.modeling.towers import HIGH_RES_TOWERS, LOW_RES_TOWERS, high_res_configs
from tests.contract.settings import fitting_processor, fusion_settings
from tests.helpers import HIGH_RES_TILE, TILE, assert_close, random_image, randomise, single_tower, tiny_config
from tests.modeling.geometry import encoder_inputs
from tests.modeling.tiny_towers import HIGH_RES, LOW_RES, high_res, low_res

EXTRA = [high_res("sam_vision_model"), high_res("eva02"), high_res("pix2struct_vision_model"), high_res("dinov2")]
WIDTHS = [20, 13, 9, 24, 12, 20]
FIVE: dict[str, Any] = {
    "extra_vision_configs": EXTRA,
    "fusion": {"type": "channel_concat", "align": "corners", "grid": 3},
}
GRIDS = [(1, 2), (1, 1), (2, 1)]


def encoder(**changes: Any) -> FilaVisionModel:
    model = FilaVisionModel(tiny_config(**changes)).eval()
    randomise(model)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_all_towers_load_in_the_dtype_that_is_asked_for(dtype: torch.dtype, tmp_path: Path) -> None:
    config = tiny_config(**FIVE)
    for section in (config, config.text_config, config.vision_config, *high_res_configs(config)):
        section.dtype = torch.float16  # as converters write it
    FilaForConditionalGeneration(config).to(torch.float16).save_pretrained(tmp_path)
    model = FilaForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


def test_attention_of_the_high_res_tower_is_its_own(tmp_path: Path) -> None:
    config = tiny_config(high_res_vision_config=high_res("dinov2"), fusion={"type": "channel_concat"})
    FilaForConditionalGeneration(config).save_pretrained(tmp_path)
    chosen = {"": "sdpa", "high_res_vision_config": "eager"}
    model = FilaForConditionalGeneration.from_pretrained(tmp_path, attn_implementation=chosen)
    towers = model.model.vision_tower
    assert towers.high_res_tower.config._attn_implementation == "eager"
    assert towers.low_res_tower.config._attn_implementation == "sdpa"


def test_tables_and_tiny_towers_agree() -> None:
    assert set(LOW_RES) == set(LOW_RES_TOWERS)
    assert set(HIGH_RES) | {"convnextv2"} == set(HIGH_RES_TOWERS)


@torch.no_grad()
def test_five_high_res_towers_are_concatenated_in_their_order() -> None:
    model = encoder(**FIVE)
    inputs = encoder_inputs(GRIDS)
    features = model(**inputs).last_hidden_state
    assert features.shape == (7, 9, sum(WIDTHS))
    own = features.split(WIDTHS, dim=2)
    squares = []
    for index, boxes in enumerate(inputs["view_boxes"]):
        for box in boxes[boxes.any(dim=1)]:
            scaled = tuple(float(edge) * HIGH_RES_TILE / TILE for edge in box)
            canvas = inputs["high_res_pixel_values"][index]
            squares.append(area_resample(canvas, scaled, (HIGH_RES_TILE, HIGH_RES_TILE)))
    views = torch.stack(squares)
    for tower, found in zip(model.extra_towers, own[2:], strict=True):
        aligned = F.interpolate(tower(views), (3, 3), mode="bilinear", align_corners=True)
        assert_close(found, aligned.flatten(2).transpose(1, 2))
    two = FilaVisionModel(tiny_config(fusion=FIVE["fusion"])).eval()
    missing, _ = two.load_state_dict(model.state_dict(), strict=False)
    assert missing == []
    assert_close(two(**inputs).last_hidden_state, features[:, :, :33])


@torch.no_grad()
def test_image_features_do_not_depend_on_the_batch() -> None:
    model = encoder(**FIVE).double()
    batch = encoder_inputs(GRIDS, dtype=torch.float64)
    together = model(**batch).last_hidden_state.split([3, 1, 3])
    for index, expected in enumerate(together):
        alone = model(**{key: value[index : index + 1] for key, value in batch.items()}).last_hidden_state
        # Pix2Struct standardises in single precision, and cuts of a padded batch are summed in another order
        assert_close(alone, expected)


@pytest.mark.parametrize("name", LOW_RES)
@torch.no_grad()
def test_recorded_layers_are_those_of_the_low_res_tower(name: str) -> None:
    extra = [high_res(name), high_res("sam_vision_model")]
    fusion = {"type": "channel_concat", "align": "corners", "grid": 3}
    model = encoder(vision_config=low_res(name), extra_vision_configs=extra, fusion=fusion, vision_feature_layer=-1)
    model.set_attn_implementation("eager")
    expected: list[torch.Tensor] = []
    for layer in model.low_res_tower.layers:
        layer.register_forward_hook(lambda _, args, output: expected.append(output))
    found = model(**encoder_inputs([(1, 2)]), output_hidden_states=True, output_attentions=True)
    assert len(found.hidden_states) == len(expected) + 1 == 4
    assert all(map(torch.equal, found.hidden_states[1:], expected))
    assert [weights.shape[:2] for weights in found.attentions] == [(3, 4)] * 3


def test_whole_model_saves_trains_and_generates_with_every_tower(tmp_path: Path) -> None:
    model = FilaForConditionalGeneration(tiny_config(**FIVE)).eval()
    randomise(model)
    batch = dict(
        fitting_processor(model)(
            text=["<image> ab", "<image> cd"],
            images=[[random_image(20, 50)], [random_image(28, 27, seed=1)]],
            padding=True,
            return_tensors="pt",
        )
    )
    model.save_pretrained(tmp_path)
    loaded, report = FilaForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        assert_close(loaded(**batch).logits, model(**batch).logits)
    stored = FilaConfig.from_pretrained(tmp_path).to_dict()["extra_vision_configs"]
    assert stored == model.config.to_dict()["extra_vision_configs"]
    assert [tower.model_type for tower in high_res_configs(loaded.config)] == [
        "convnext",
        *(tower["model_type"] for tower in EXTRA),
    ]
    blocks = {
        "SamVisionLayer",
        "Eva02Block",
        "Pix2StructVisionLayer",
        "Dinov2Block",
        "ConvNextBlock",
        "ClipEmbeddings",
    }
    assert blocks <= set(loaded._no_split_modules)
    assert model.generate(**batch, max_new_tokens=2, do_sample=False).shape[1] == batch["input_ids"].shape[1] + 2
    model(**batch, labels=batch["input_ids"]).loss.backward()
    vision = model.model.vision_tower.named_parameters()
    silent = [key for key, p in vision if p.grad is None or not p.grad.any()]
    # a bias that adds the same to every key: softmax does not see it
    assert [key for key in silent if not key.endswith(("k_proj.bias", "key.bias"))] == []


@pytest.mark.parametrize("name", [*(name for name in FUSIONS if name not in ("none", "cvfm"))])
@torch.no_grad()
def test_fusion_takes_a_tower_of_one_stage(name: str) -> None:
    model = encoder(**{"high_res_vision_config": high_res("sam_vision_model"), **fusion_settings(name)})
    assert model.config.high_res_tile_size == HIGH_RES_TILE
    features = model(**encoder_inputs([(1, 2)])).last_hidden_state
    rows, cols = model.fusion.output_grid
    assert features.shape == (3, rows * cols, model.fusion.output_size)
    assert features.isfinite().all()


@pytest.mark.parametrize("name", [name for name in LOW_RES if name != "clip_vision_model"])
@torch.no_grad()
def test_low_res_tower_meets_the_high_res_tower_at_taps(name: str) -> None:
    fusion = {"type": "cvfm", "taps": [1, 2, 3], "residual": "none"}
    model = encoder(vision_config=low_res(name), fusion=fusion, vision_feature_layer=-1)
    inputs = encoder_inputs([(1, 2), (1, 1)])
    features = model(**inputs, output_hidden_states=True)
    assert features.last_hidden_state.shape == (4, 16, 20)
    assert len(features.hidden_states) == 4
    changed = inputs["high_res_pixel_values"] + 1
    assert not torch.equal(
        model(**(inputs | {"high_res_pixel_values": changed})).last_hidden_state, features.last_hidden_state
    )


@pytest.mark.parametrize(("rule", "corners"), [("corners", True), ("edges", False)])
@torch.no_grad()
def test_low_res_views_are_drawn_out_of_the_canvas(rule: str, corners: bool) -> None:
    settings = {"fusion": {"type": "channel_concat"}}
    drawn, given = encoder(low_res_views=rule, **settings), encoder(**settings)
    inputs = encoder_inputs([(1, 2)])
    canvas = inputs["high_res_pixel_values"]
    whole = F.interpolate(canvas, (TILE, 2 * TILE), mode="bilinear", align_corners=corners)
    _, top, bottom = inputs["view_boxes"][0, 0], *inputs["view_boxes"][0, 0, [0, 2]].tolist()
    left, right = inputs["view_boxes"][0, 0, [1, 3]].tolist()
    overview = F.interpolate(whole[:, :, top:bottom, left:right], (TILE, TILE), mode="bilinear", align_corners=corners)
    views = torch.stack([overview[0], whole[0, :, :, :TILE], whole[0, :, :, TILE:]])
    expected = given(**(inputs | {"pixel_values": views[None]})).last_hidden_state
    assert_close(drawn(**inputs).last_hidden_state, expected)


@torch.no_grad()
def test_tile_size_resamples_the_table() -> None:
    model = FilaVisionModel(tiny_config(**single_tower(tile_size=42))).eval()
    assert model.config.patch_grid == (6, 6)
    assert model.low_res_tower.embeddings.position_embedding.weight.shape == (17, 20)
    boxes = torch.tensor([[[0, 0, 42, 42]]])
    features = model(torch.randn(1, 1, 3, 42, 42), boxes, torch.tensor([[1, 1]])).last_hidden_state
    assert features.shape == (1, 36, 20)


@torch.no_grad()
def test_cls_can_be_kept() -> None:
    config = low_res("dinov2_with_registers")
    patches = FilaVisionModel(tiny_config(vision_config=config, **single_tower())).eval()
    kept = FilaVisionModel(
        tiny_config(vision_config=config, vision_feature_select="cls_patch", **single_tower())
    ).eval()
    kept.load_state_dict(patches.state_dict())
    inputs = encoder_inputs([(1, 1)], high_res=False)
    features = kept(**inputs).last_hidden_state
    assert kept.fusion.output_grid == (1, 20)
    assert features.shape == (1, 20, 20)
    assert_close(features[:, 4:], patches(**inputs).last_hidden_state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"high_res_vision_config": high_res("sam_vision_model"), "fusion": {"type": "cvfm"}},
            r"Fusion 'cvfm' reads as many stages as it has taps, 4; tower 'sam_vision_model' has 1",
        ),
        (
            {"extra_vision_configs": [high_res("eva02")]},
            r"Fusion 'cvfm' reads nothing of tower 'eva02', only of \['convnext'\]",
        ),
        (
            {"extra_vision_configs": [high_res("eva02")], "fusion": {"type": "sequence_concat", "stage": 4}},
            r"Fusion 'sequence_concat' reads nothing of tower 'eva02', only of \['convnext'\]",
        ),
        (
            {"extra_vision_configs": [high_res("eva02")], "fusion": {"type": "patch_info_mining"}},
            r"Stages \[1, 2, 3, 4, 5\] are stacked into one map; they must be of one high-res tower",
        ),
        (
            {"high_res_vision_config": high_res("pix2struct_vision_model"), "fusion": {"type": "channel_concat"}},
            r"`high_res_tile_size` must be set: tower 'pix2struct_vision_model' .* has no size",
        ),
        (
            {"vision_config": low_res("siglip_vision_model", tower_options={"layer": 1})},
            r"\['layer'\] in `tower_options` are options of a high-res tower",
        ),
        (
            {"extra_vision_configs": [{"model_type": "swin"}], "fusion": {"type": "channel_concat"}},
            r"`extra_vision_configs\[0\].model_type` must be one of .*; got 'swin'",
        ),
        (
            {"high_res_vision_config": {**high_res("convnext"), "tower_options": {"eps": 1e-5}}},
            r"Tower 'convnext' has no option \['eps'\] in `tower_options`; it accepts \['encodes', 'input_size'",
        ),
        (single_tower(extra_vision_configs=[high_res("eva02")]), r"`extra_vision_configs` holds 1 towers, but"),
        (
            single_tower(low_res_views="edges"),
            r"`low_res_views` 'edges' draws views out of the high-res canvas, or reads the map",
        ),
        (
            {"high_res_vision_config": None},
            r"`fusion.type` 'cvfm' joins two towers, but `high_res_vision_config` is None",
        ),
        ({"fusion": {"type": "none"}}, r"'none' reads no high-res tower, but `high_res_vision_config` is set"),
        ({"vision_feature_select": "cls_patch"}, r"'cls_patch' keeps CLS, which fusion 'cvfm' has no place for"),
        ({"tile_size": 30}, r"`tile_size` must be a multiple of `patch_size`; got 30 and 7"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FilaVisionModel(tiny_config(**changes))


def test_fusion_and_tower_that_do_not_fit_raise_their_own_type() -> None:
    with pytest.raises(TowerError):
        encoder(high_res_vision_config=high_res("eva02"), fusion={"type": "cvfm"})
