# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pruned image tokens inside the model: slow twins, positions with gaps, refusals."""

from typing import Any

import pytest
import torch

from fila import FilaProcessor
from fila.modeling.modeling_cache_name import CACHE_NAME
from fila.modeling.pruning import PruningError, gaps_of, shifts
from tests.cases import each
from tests.helpers import (
    TOKENS_PER_TILE,
    assert_close,
    random_image,
    single_tower,
    tiny_canvas_processor,
    tiny_config,
    tiny_image_processor,
    tiny_model,
    tiny_tokenizer,
)
from tests.modeling.tiny_towers import low_res
from tests.processing.test_token_pruning import page
from tests.reference import naive_pruning

VISIONZIP = {"type": "visionzip", "dominant": 3, "contextual": 2}
IMAGE = 5  # the placeholder's id


def processor(prune: Any = "pixelprune", **changes: Any) -> FilaProcessor:
    images = {name: changes.pop(name) for name in ("canvas", "high_res_size") if name in changes}
    return FilaProcessor(
        tiny_image_processor(**images), tiny_tokenizer(), tokens_per_tile=TOKENS_PER_TILE, prune=prune, **changes
    )


def batch_of(prune: Any, side: str = "right", **changes: Any) -> dict[str, torch.Tensor]:
    """Three prompts: two images with text around, none, and one image behind text."""
    return dict(
        processor(prune, **changes)(
            images=[[page(), random_image(30, 41)], [], [page(60, 90, "no")]],
            text=["a<image>b<image>cd", "text alone", "longer text first <image>e"],
            padding=True,
            padding_side=side,
            return_tensors="pt",
        )
    )


def reference(model: Any, prune: Any = "pixelprune", **changes: Any) -> list[torch.Tensor]:
    """Logits of each prompt: the tokens that are kept are taken out of the whole prompt, with their positions."""
    whole, pruned = batch_of(None, **changes), batch_of(prune, **changes)
    names = [name for name in whole if name not in ("input_ids", "attention_mask")]
    features = model.model.get_image_features(**{name: whole[name] for name in names}, return_dict=True).pooler_output
    kept = [row[row != -2] > -4 for row in pruned["image_token_index"]]
    images, found = iter(zip(features, kept, strict=True)), []
    for row, ids in enumerate(whole["input_ids"]):
        own = ids[whole["attention_mask"][row].bool()]
        embeds, mask = model.get_input_embeddings()(own), torch.ones_like(own, dtype=torch.bool)
        places = (own == IMAGE).nonzero()[:, 0]
        while len(places):
            tokens, is_kept = next(images)
            embeds[places[: len(tokens)]], mask[places[: len(tokens)]] = tokens, is_kept
            places = places[len(tokens) :]
        positions = torch.arange(len(own))[mask][None]
        ones = torch.ones_like(positions)
        hidden = model.model.language_model(
            inputs_embeds=embeds[mask][None], position_ids=positions, attention_mask=ones
        ).last_hidden_state
        found.append(model.lm_head(hidden)[0])
    return found


# --- positions ---


def test_gaps_and_shifts() -> None:
    (gaps, none) = gaps_of([torch.tensor([0, -5, -6, 3, -1, -8]), torch.tensor([0, 1, -2, -2])])  # type: ignore[misc]
    assert gaps.tolist() == [2, 0, 1]
    assert none.tolist() == [0, 0]
    places = torch.tensor([[False, True, True, True, False], [True, False, True, False, False]])
    assert shifts(places, [gaps, none]).tolist() == [[0, 0, 2, 2, 3], [0, 0, 0, 0, 0]]
    assert gaps_of([torch.tensor([0, 1, -1, -2])]) is None
    with pytest.raises(PruningError, match="first token of an image must be kept"):
        gaps_of([torch.tensor([-4, 1])])
    with pytest.raises(PruningError, match="5 placeholders but 3 image tokens"):
        shifts(places, [gaps])


@torch.no_grad()
def test_batch_reads_what_the_whole_prompt_shows_at_its_positions() -> None:
    model, layout = tiny_model(), "internvl"
    for changes in ({}, {"layout": layout}):
        expected, inputs = reference(model, **changes), batch_of("pixelprune", **changes)
        logits = model(**inputs).logits
        for row, own in enumerate(expected):
            assert_close(logits[row, : len(own)], own)
    without_mask = {name: value for name, value in inputs.items() if name != "attention_mask"}
    assert_close(model(**without_mask, use_cache=False).logits[0], logits[0])


@torch.no_grad()
def test_generation_keeps_positions_with_cache_padding_and_beams() -> None:
    model = tiny_model()
    expected = [int(own[-1].argmax()) for own in reference_free_of_placeholder(model)]
    inputs = batch_of("pixelprune", side="left")
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    found = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
    assert found[:, 0].tolist() == expected
    for kept, cached in ((found, {"use_cache": False}), (None, {"num_beams": 3})):
        together = model.generate(**inputs, **{**options, **cached})[:, inputs["input_ids"].shape[1] :]
        if kept is not None:
            assert torch.equal(together, kept)
        for row, (images, text) in enumerate(
            (
                ([page(), random_image(30, 41)], "a<image>b<image>cd"),
                ([page(60, 90, "no")], "longer text first <image>e"),
            )
        ):
            alone = dict(processor()(images=[images], text=[text], return_tensors="pt"))
            answer = model.generate(**alone, **{**options, **cached})[:, alone["input_ids"].shape[1] :]
            assert torch.equal(answer[0], together[2 * row])


def reference_free_of_placeholder(model: Any) -> list[torch.Tensor]:
    """`reference`, with the placeholder impossible, as in `generate`."""
    found = reference(model)
    for own in found:
        own[:, IMAGE] = -torch.inf
    return found


@torch.no_grad()
def test_cache_goes_on_by_hand_and_over_turns() -> None:
    model = tiny_model()
    one = dict(processor()(images=[page()], text=["a<image>b"], return_tensors="pt"))
    options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    made = model.generate(**one, **options, return_dict_in_generate=True)
    answer = made.sequences[0, one["input_ids"].shape[1] :]
    outputs, by_hand = model(**one, use_cache=True), []
    for _ in range(4):
        logits = outputs.logits[:, -1]
        logits[:, IMAGE] = -torch.inf
        by_hand.append(int(logits.argmax()))
        outputs = model(input_ids=torch.tensor([[by_hand[-1]]]), **{CACHE_NAME: getattr(outputs, CACHE_NAME)})
    assert by_hand == answer.tolist()
    # the next turn, with a second image, whole and beside the cache of the first
    ids = made.sequences
    second = dict(processor()(images=[page(60, 90, "no")], text=["f<image>g"], return_tensors="pt"))
    inputs = {
        name: [*one[name], *second[name]]
        for name in one
        if name not in ("input_ids", "attention_mask", "high_res_pixel_values")
    }
    inputs["high_res_pixel_values"] = [*one["high_res_pixel_values"], *second["high_res_pixel_values"]]
    inputs["input_ids"] = torch.cat([ids, second["input_ids"]], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    fresh = model.generate(**inputs, **options)
    beside = model.generate(**inputs, **options, **{CACHE_NAME: getattr(made, "past_key_values", None) or made.cache})
    assert torch.equal(fresh, beside)


@torch.no_grad()
def test_carrier_of_two_tensors_keeps_positions() -> None:
    model, carrying = tiny_model(), processor()
    carrying.packed_images = True
    carried = carrying(images=[page()], text=["a<image>b"], return_tensors="pt")
    plain = processor()(images=[page()], text=["a<image>b"], return_tensors="pt")
    assert "image_token_index" not in carried
    assert_close(model(**carried).logits, model(**plain).logits)
    options: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    assert torch.equal(model.generate(**carried, **options), model.generate(**plain, **options))


def test_gradients_reach_the_towers() -> None:
    model = tiny_model().train()
    inputs = batch_of("pixelprune")
    model(**inputs, labels=inputs["input_ids"].masked_fill(inputs["input_ids"] == IMAGE, -100)).loss.backward()
    for part in (model.model.vision_tower.low_res_tower, model.model.multi_modal_projector):
        assert any(float(weight.grad.abs().max()) > 0 for weight in part.parameters() if weight.grad is not None)


@each(
    ("changes", "told"),
    [
        ({"connector": {"type": "resampler", "num_queries": 16}}, "Connector 'resampler' makes tokens that are no"),
        ({"connector": {"type": "stc"}}, "Connector 'stc' joins frames"),
        ({"connector": {"type": "codebook", "patch_nums": [4], "codebook_size": 7}}, "Connector 'codebook'"),
        ({**single_tower(), "vision_feature_select": "cls_patch"}, "Fusion 'none' makes tokens"),
        ({"shared_positions": True}, "a model with `shared_positions` has one for all"),
    ],
)
def test_models_without_cells_refuse_pruned_prompts(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(PruningError, match=told):
        tiny_model(**changes, prune="pixelprune")
    model = tiny_model(**changes)
    inputs = processor(high_res_size=None if "fusion" in changes else {"height": 128, "width": 128})(
        images=page(), text="<image>", return_tensors="pt"
    )
    with pytest.raises(PruningError, match=told):
        model(**inputs)


# --- VisionZip ---


@each("name", ["clip_vision_model", "siglip_vision_model"])
def test_visionzip_is_its_slow_twin(name: str) -> None:
    prune = {"type": "visionzip", "dominant": 5, "contextual": 3, "cls": name.startswith("clip")}
    model = tiny_model(**single_tower(vision_config=low_res(name), prune=prune))
    vision, pixels = model.model.vision_tower, torch.randn(3, 3, 28, 28, requires_grad=True)
    boxes, grid = torch.tensor([[[0, 0, 28, 28]]] * 3), torch.tensor([[1, 1]] * 3)
    tower, prefix = vision.low_res_tower, int(prune["cls"])
    with torch.no_grad():
        before = tower.run_layers(tower.embed(pixels), 0, tower.num_layers - 1)
        layer = tower.layers[-1]
        normed = layer.layer_norm1(before)
        query, key = (
            getattr(layer.self_attn, f"{kind}_proj")(normed).unflatten(-1, (4, -1)).transpose(1, 2) for kind in "qk"
        )
    hidden = tower.run_layers(tower.embed(pixels), 0, tower.num_layers)
    rows = []
    for view in range(3):
        scores = naive_pruning.attention_received(query[view], key[view], bool(prefix))
        keys = key[view].mean(dim=0)[prefix:]
        own, _ = naive_pruning.visionzip(hidden[view, prefix:], scores, keys, 5, 3)
        rows.append(torch.cat([hidden[view, :prefix], own]))
    expected = torch.stack(rows)
    weights = torch.randn_like(expected)
    (by_twin,) = torch.autograd.grad((expected * weights).sum(), pixels)
    for chunk in (None, 1):
        made = vision(pixels[:, None], boxes, grid, views_per_chunk=chunk, return_dict=True).last_hidden_state
        assert_close(made, expected)
        (gradient,) = torch.autograd.grad((made * weights).sum(), pixels)
        assert_close(gradient, by_twin)


@torch.no_grad()
def test_visionzip_answers_through_processor_and_model() -> None:
    zipped = {**VISIONZIP, "cls": False}
    for changes, prune, images in (
        (single_tower(), VISIONZIP, {"high_res_size": None}),
        ({}, zipped, {}),  # the features of a fusion, chosen by the low-res tower
    ):
        model = tiny_model(**changes, prune=prune)
        inputs = batch_of(prune, side="left", **images)
        options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        processor(prune, **images).check_tokens(model.config)
        together = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
        beams = model.generate(**inputs, **options, num_beams=3)
        assert beams.shape[1] == inputs["input_ids"].shape[1] + 4
        alone = dict(
            processor(prune, **images)(
                images=page(60, 90, "no"), text="longer text first <image>e", return_tensors="pt"
            )
        )
        assert torch.equal(model.generate(**alone, **options)[0, alone["input_ids"].shape[1] :], together[2])
        with pytest.raises(ValueError, match="`prune` is None here, and"):
            processor(None, **images).check_tokens(model.config)


@torch.no_grad()
def test_visionzip_sorts_tiles_of_llava_next_by_the_whole_map() -> None:
    canvas = {"type": "llava_next", "tile_grids": [[2, 2]]}
    settings = {"layout": "llava_next", "token_size": 7, "canvas": canvas, "high_res_size": None}
    model = tiny_model(**single_tower(prune=VISIONZIP, image_newline=True))
    inputs = processor(VISIONZIP, **settings)(images=page(), text="<image>", return_tensors="pt")
    images = {name: inputs[name] for name in ("pixel_values", "view_boxes", "tile_grid")}
    vision = model.model.vision_tower(*images.values(), return_dict=True)
    views = model.model.multi_modal_projector(vision.last_hidden_state, (1, 6))
    places = []
    for tile in range(4):
        for number, patch in enumerate(vision.chosen[1 + tile].tolist()):
            row, col = tile // 2 * 4 + patch // 4, tile % 2 * 4 + patch % 4
            places.append((row, col, tile, number))
    order = [views[0]]
    order += [views[1 + tile, 1 + number][None] for _, _, tile, number in sorted(places)]
    order += [views[1:, 0], views[1:, 4:].flatten(0, 1)]
    assert_close(model.model.get_image_features(**images, return_dict=True).pooler_output[0], torch.cat(order))
    assert int((inputs["input_ids"] == IMAGE).sum()) == len(torch.cat(order))
    model(**inputs)


@each(
    ("changes", "told"),
    [
        ({"connector": {"type": "pixel_shuffle"}}, "Connector 'pixel_shuffle' needs the grid"),
        ({"connector": {"type": "resampler", "num_queries": 4}}, "Connector 'resampler' needs the grid"),
        ({"vision_config": low_res("dinov2")}, "those of tower 'dinov2' differ"),
        ({"vision_config": low_res("siglip_vision_model")}, "CLS, which tower 'siglip_vision_model' does not have"),
        ({"vision_feature_select": "cls_patch"}, "`vision_feature_select` must be 'patch'"),
        ({"video_token_id": 7}, "this model takes videos too"),
        ({"prune": {**VISIONZIP, "dominant": 15}}, "at most the 16 patches of a view; got 15"),
        ({"prune": {"type": "visionzip"}}, "`prune.dominant` must be a positive number"),
        ({"prune": "dart"}, "must be 'pixelprune' or 'visionzip'"),
        ({"prune": {"type": "pixelprune", "level": "b"}}, "`level` 'a' alone"),
        ({"prune": {**VISIONZIP, "ratio": 2}}, r"no option \['ratio'\]"),
    ],
)
def test_visionzip_refuses_by_name(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(PruningError, match=told):
        tiny_model(**single_tower(**{"prune": VISIONZIP, **changes}))


def test_visionzip_refuses_cls_of_a_fusion_and_unequal_views() -> None:
    with pytest.raises(PruningError, match="CLS, which fusion 'cvfm' does not have"):
        tiny_model(prune=VISIONZIP)
    model = tiny_model(**single_tower(prune=VISIONZIP))
    inputs = tiny_canvas_processor({"type": "native", "patch_size": 7})(images=page(), return_tensors="pt")
    with pytest.raises(ValueError, match="one number of tokens"):
        model.get_image_features(**inputs)


def test_config_without_pruning_is_as_before() -> None:
    assert "prune" not in tiny_config().to_dict()
    assert tiny_config(prune="pixelprune").to_dict()["prune"] == {"type": "pixelprune"}
