# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What transformers' tools expect of the model: initial values, checkpointing, dtypes, attention, devices, tying."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, StaticCache

from fila import FilaForConditionalGeneration, FilaModel, FilaVisionModel
from tests.helpers import assert_close, random_image, single_tower, tiny_config, tiny_model, tiny_processor


def inputs(**changes: Any) -> Any:
    processor = tiny_processor(**changes)
    images = [[random_image(20, 50)], [random_image(61, 17), random_image(90, 91)], []]
    text = ["<image> a", "<image><image> b", "c"]
    return processor(text=text, images=images, padding=True, padding_side="right", return_tensors="pt")


def test_new_weights_start_as_documented() -> None:
    model = FilaForConditionalGeneration(tiny_config()).model.vision_tower
    for layer in model.fusion.layers:
        assert torch.count_nonzero(layer.fc2.weight) == 0
        assert layer.fc1.weight.std().item() == pytest.approx(0.02, rel=0.3)
        for conv in layer.align.convs:
            mean = torch.eye(conv.in_channels)[:, :, None, None].expand(-1, -1, 2, 2) / 4
            assert torch.equal(conv.weight, mean)
    block = model.high_res_tower.encoder.stages[0].layers[0]
    assert torch.equal(block.layer_scale_parameter, torch.full((5,), 1e-6))
    gated = FilaForConditionalGeneration(tiny_config(fusion={"type": "cvfm", "taps": [1, 2], "residual": "gate"}))
    layer = gated.model.vision_tower.fusion.layers[0]
    assert (layer.gate.item(), torch.count_nonzero(layer.fc2.weight) > 0) == (0.0, True)


def test_missing_weights_are_initialised_as_in_a_fresh_model(tmp_path: Path) -> None:
    """from_pretrained builds on the meta device; every rule must hold there too, CLIP's own included."""
    torch.manual_seed(0)
    model = FilaForConditionalGeneration(
        tiny_config(vision_config=tiny_config().vision_config.to_dict() | {"initializer_range": 0.7})
    )
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    dropped = [key for key in weights if "vision_tower" in key]
    save_file(
        {key: value for key, value in weights.items() if key not in dropped},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    loaded, report = FilaForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert sorted(report["missing_keys"]) == sorted(dropped)
    for name, parameter in loaded.named_parameters():
        fresh = model.get_parameter(name)
        if name in dropped:
            assert bool(parameter.isfinite().all()), name
            assert parameter.float().std(correction=0).item() == pytest.approx(
                fresh.float().std(correction=0).item(), rel=0.6, abs=1e-9
            ), name
            assert parameter.float().mean().item() == pytest.approx(fresh.float().mean().item(), abs=0.5), name
        else:
            assert torch.equal(parameter, fresh), name


def test_model_builds_on_meta_without_memory() -> None:
    with torch.device("meta"):
        model = FilaForConditionalGeneration(tiny_config())
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("changes", [{}, single_tower()], ids=["hybrid", "single-tower"])
def test_gradients_with_checkpointing_equal_those_without(changes: dict[str, Any], reentrant: bool) -> None:
    batch = inputs(**({"high_res_size": None} if changes else {}))
    gradients, checkpointed = [], set()
    for enable in (False, True):
        model = tiny_model(**changes).train()
        if enable:
            # transformers 5.23 renamed it
            name = "activation_checkpointing_enable"
            switch = getattr(model, name, None) or model.gradient_checkpointing_enable
            switch({"use_reentrant": reentrant})
            model.enable_input_require_grads()
            checkpointed = {type(m).__name__ for m in model.modules() if getattr(m, "gradient_checkpointing", False)}
        model(**batch, labels=batch["input_ids"]).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert {"CLIPEncoderLayer", "LlamaDecoderLayer"} <= checkpointed
    assert ("ConvNextBlock" in checkpointed) == (not changes)
    for name, expected in gradients[0].items():
        assert expected is not None, f"{name} takes no part in the loss"
        assert_close(gradients[1][name], expected, 1e-5)


@pytest.mark.parametrize("implementation", ["eager", "sdpa", {"vision_config": "eager", "text_config": "sdpa"}])
def test_attention_implementations_agree(implementation: Any, tmp_path: Path) -> None:
    model = tiny_model()
    assert model.model.vision_tower.low_res_tower.config._attn_implementation == "sdpa"
    assert model.model.language_model.config._attn_implementation == "sdpa"
    model.save_pretrained(tmp_path)
    other = FilaForConditionalGeneration.from_pretrained(tmp_path, attn_implementation=implementation)
    batch = inputs()
    with torch.no_grad():
        assert_close(other(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_model_takes_float32_pixels(dtype: torch.dtype) -> None:
    model = tiny_model()
    batch = inputs()
    with torch.no_grad():
        expected = model(**batch).logits
        actual = model.to(dtype)(**batch).logits
    assert actual.dtype == dtype
    scale = expected.abs().max()
    assert (actual.float() - expected).abs().max() <= 0.1 * scale  # bf16 keeps 8 bits; measured 0.03


DTYPES = (torch.float32, torch.bfloat16, torch.float16)


# CPU autocast refuses to join tensors of the two half precisions
MIXES = [mix for mix in product(DTYPES, DTYPES, (None, *DTYPES[1:])) if mix[2] is None or not {*DTYPES[1:]} <= {*mix}]


@pytest.mark.parametrize(("weights", "pixels", "autocast"), MIXES, ids=str)
def test_weights_pixels_and_autocast_may_have_any_dtype(
    weights: torch.dtype, pixels: torch.dtype, autocast: torch.dtype | None
) -> None:
    model, batch = tiny_model(), inputs()
    given = {name: value.to(pixels) if value.is_floating_point() else value for name, value in batch.items()}
    with torch.no_grad():
        expected = model(**batch).logits
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            actual = model.to(weights)(**given).logits
    assert (actual.float() - expected).abs().max() <= 0.1 * expected.abs().max()  # bf16 keeps 8 bits; measured 0.026


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_high_res_tower_may_differ_in_dtype_from_the_others(dtype: torch.dtype) -> None:
    model, batch = tiny_model(), inputs()
    with torch.no_grad():
        expected = model(**batch).logits
        model.model.vision_tower.high_res_tower.to(dtype)
        assert (model(**batch).logits - expected).abs().max() <= 0.02 * expected.abs().max()  # measured 0.006


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
@pytest.mark.parametrize(
    "parts",
    [
        ("model.vision_tower",),
        ("model.vision_tower.low_res_tower",),
        ("model.vision_tower.fusion",),
        ("model.multi_modal_projector",),
        ("model.language_model", "lm_head"),
    ],
    ids="+".join,
)
def test_any_part_may_differ_in_dtype_from_the_others(parts: tuple[str, ...], dtype: torch.dtype) -> None:
    model, batch = tiny_model(), inputs()
    with torch.no_grad():
        expected = model(**batch).logits
        for part in parts:
            model.get_submodule(part).to(dtype)
        actual = model(**batch).logits.float()
    assert (actual - expected).abs().max() <= 0.1 * expected.abs().max()


def test_a_step_on_a_static_cache_is_one_graph() -> None:
    model, batch = tiny_model(), inputs()
    cache = StaticCache(config=model.config.text_config, max_cache_len=batch["input_ids"].shape[1] + 4)
    step = {"input_ids": torch.full((3, 1), 7), "position_ids": torch.full((3, 1), batch["input_ids"].shape[1])}
    with torch.no_grad():
        model(**batch, cache=cache)
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert compiled(**step, cache=cache).logits.isfinite().all()


def test_what_a_script_sets_on_a_config_is_not_saved(tmp_path: Path) -> None:
    model = tiny_model()
    model.config.pretraining_tp = 1  # as common QLoRA scripts do
    model.save_pretrained(tmp_path)
    assert not hasattr(AutoConfig.from_pretrained(tmp_path), "pretraining_tp")


def test_tied_head_shares_the_embedding_after_reload(tmp_path: Path) -> None:
    text = tiny_config().text_config.to_dict() | {"tie_word_embeddings": True}
    model = tiny_model(text_config=text)
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert loaded.lm_head.weight is loaded.model.language_model.embed_tokens.weight
    batch = inputs()
    with torch.no_grad():
        assert_close(loaded(**batch).logits, model(**batch).logits)


def test_auto_classes_load_the_base_model_from_a_full_checkpoint(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path)
    base, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(base) is FilaModel
    assert not report["missing_keys"]
    batch = inputs()
    with torch.no_grad():
        assert_close(base(**batch).last_hidden_state, model.model(**batch).last_hidden_state)


def test_other_software_finds_the_parts_by_their_names() -> None:
    model = tiny_model()
    assert model.get_encoder("image") is model.model.vision_tower
    assert type(model.get_encoder("image")) is FilaVisionModel
    assert model.get_decoder() is model.model.language_model
    assert model.supports_tp_plan
    assert any("q_proj" in key for key in model.tp_plan)
    assert {"ConvNextBlock", "CLIPEncoderLayer", "LlamaDecoderLayer", "CvfmLayer"} <= set(model._no_split_modules)


def test_device_map_never_splits_a_block() -> None:
    from accelerate import infer_auto_device_map

    model = tiny_model()
    total = sum(parameter.numel() * 4 for parameter in model.parameters())
    for part in range(1, 20):
        placed = infer_auto_device_map(
            model,
            max_memory={0: total * part // 20, "cpu": total * 2},
            no_split_module_classes=model._no_split_modules,
            offload_buffers=True,
        )
        for name, module in model.named_modules():
            if type(module).__name__ in model._no_split_modules:
                inside = {device for key, device in placed.items() if key.startswith(name + ".")}
                assert not inside, f"{name} is split over {inside}"


def test_loss_falls_to_near_zero_on_a_fixed_batch() -> None:
    torch.manual_seed(0)
    model = FilaForConditionalGeneration(tiny_config()).train()
    batch = inputs()
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[labels == model.config.image_token_id] = -100
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = model(**batch, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 5
    assert losses[-1] < 0.1


def test_image_features_have_one_entry_per_image() -> None:
    model = tiny_model()
    processor = tiny_processor()
    images = processor.image_processor([random_image(20, 50), random_image(90, 91)], return_tensors="pt")
    with torch.no_grad():
        output = model.get_image_features(**images, output_hidden_states=True)
    assert [tuple(features.shape) for features in output.pooler_output] == [(3 * 16, 24), (5 * 16, 24)]
    assert output.last_hidden_state.shape == (8, 16, 20)
    assert [tuple(states.shape) for states in output.hidden_states] == [(8, 17, 20)] * 5


@pytest.mark.parametrize("missing", ["view_boxes", "tile_grid", "high_res_pixel_values", "high_res_sizes"])
def test_model_names_the_image_input_that_is_missing(missing: str) -> None:
    batch = dict(inputs())
    batch.pop(missing)
    with pytest.raises(ValueError, match=missing):
        tiny_model()(**batch)


def test_model_takes_ids_or_embeddings_but_not_both() -> None:
    model = tiny_model()
    with pytest.raises(ValueError, match="Exactly one of `input_ids` and `inputs_embeds`"):
        model()


@pytest.mark.parametrize("token", [262, 2**31, -1])
def test_ids_without_an_embedding_are_refused(token: int) -> None:
    with pytest.raises(ValueError, match=rf"`input_ids` must be in 0\.\.\d+, .*; got .*{token}.* from one folder"):
        tiny_model()(input_ids=torch.tensor([[1, token]]))


def test_a_call_without_ids_says_what_makes_a_batch() -> None:
    with pytest.raises(ValueError, match=r"Exactly one of .* `data_collator=FilaCollator\(processor\)`, and its"):
        tiny_model()()
