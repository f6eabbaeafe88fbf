# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""CogVLM2-Video's own layout: the list is whole, the prompt is its own, relatives are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from fila import FilaConfig
from fila.conversion.import_checkpoint import import_checkpoint
from fila.conversion.key_rules import Stack, export_plan
from fila.conversion.new_weights import stored_shapes
from fila.conversion.system_cogvlm2 import COGVLM2_VIDEO, language_model
from fila.systems.meta_model import model_on_meta
from tests.conversion.originals import EVA2_CLIP, ORIGINALS, write_original
from tests.helpers import assert_close, random_image

# As config.json names them.
SOURCE: dict[str, Any] = {
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_multi_query_heads": 8,
    "vision_config": {
        "dropout_prob": 0.0,
        "hidden_act": "gelu",
        "hidden_size": 48,
        "image_size": 56,
        "in_channels": 3,
        "layer_norm_eps": 1e-5,
        "num_heads": 6,
        "num_hidden_layers": 5,
        "num_positions": 17,
        "patch_size": 14,
    },
}


def test_list_of_tensors_is_as_long_as_the_published_one() -> None:
    config = FilaConfig.from_recipe("cogvlm2-video")
    layout = COGVLM2_VIDEO.layouts[0]
    plan = export_plan(stored_shapes(model_on_meta(config)), layout.templates(config), name="cogvlm2-video")
    vision = [key for key in plan if key.startswith("model.vision.")]
    # the published 1029 have one buffer of rotary frequencies per layer besides
    assert (len(plan), len(vision)) == (1029 - 32, 770)


def test_config_is_read() -> None:
    settings = COGVLM2_VIDEO.settings(SOURCE)
    assert settings.text is not None
    assert settings.text["num_key_value_heads"] == 8
    assert settings.text["rope_parameters"]["rope_theta"] == 500000.0
    assert settings.low_res is not None
    vision = FilaConfig.from_recipe("cogvlm2-video", low_res=settings.low_res).vision_config
    found = vision.hidden_size, vision.num_attention_heads, vision.num_hidden_layers, vision.layer_norm_eps
    assert found == (48, 6, 5, 1e-5)
    assert (vision.image_size, vision.intermediate_size) == (56, 15360)
    assert COGVLM2_VIDEO.settings({}).low_res is None


def test_queries_lie_above_keys_above_values() -> None:
    config = type("Sizes", (), {"num_attention_heads": 6, "num_key_value_heads": 2, "hidden_size": 18})()
    (stack,) = [item for item in language_model(config) if isinstance(item, Stack)]
    tensor = torch.arange(30 * 18).reshape(30, 18)
    query, key, value = stack.split(tensor)
    assert [len(part) for part in (query, key, value)] == [18, 6, 6]
    assert torch.equal(key, tensor[18:24])
    assert torch.equal(stack.join([query, key, value]), tensor)


@pytest.mark.parametrize(
    "key",
    [
        "model.layers.7.self_attn.vision_expert_query_key_value.bias",
        "model.layers.0.self_attn.vision_expert_dense.weight",
        "model.layers.0.mlp.vision_mlp.up_proj.weight",
    ],
)
def test_cogvlm2_for_images_is_refused(key: str) -> None:
    keys = ["model.layers.0.self_attn.language_expert_dense.weight", key]
    with pytest.raises(
        ValueError, match=rf"^cogvlm2 cannot be imported: .*visual experts.* 1 such keys, e\.g\. '{key}'"
    ):
        COGVLM2_VIDEO.layout_of(keys, "cogvlm2")


def restated(state: dict[str, torch.Tensor], views: torch.Tensor, heads: int) -> torch.Tensor:
    """What the source makes of views `(T, 3, H, W)`, by its own names: tower and connector."""

    def affine(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, state[f"model.vision.{name}.weight"], state.get(f"model.vision.{name}.bias"))

    def norm(name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
        weight, bias = (state[f"model.vision.{name}.{leaf}"] for leaf in ("weight", "bias"))
        return F.layer_norm(x, weight.shape, weight, bias, eps)

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        weight = state[f"model.vision.{name}.weight"]
        return F.conv2d(x, weight, state[f"model.vision.{name}.bias"], stride=weight.shape[-1])

    count = len(views)
    x = conv("patch_embedding.proj", views).flatten(2).transpose(1, 2)
    cls = state["model.vision.patch_embedding.cls_embedding"].expand(count, 1, -1)
    x = torch.cat([cls, x], dim=1) + state["model.vision.patch_embedding.position_embedding.weight"]
    for index in range(EVA2_CLIP["num_hidden_layers"]):
        layer = f"transformer.layers.{index}"
        stacked = affine(f"{layer}.attention.query_key_value", x)
        query, key, value = stacked.reshape(count, x.shape[1], 3, heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + norm(f"{layer}.input_layernorm", affine(f"{layer}.attention.dense", attended), 1e-6)
        update = affine(f"{layer}.mlp.fc2", F.gelu(affine(f"{layer}.mlp.fc1", x)))
        x = x + norm(f"{layer}.post_attention_layernorm", update, 1e-6)
    x = conv("conv", x[:, 1:].transpose(1, 2).unflatten(2, (4, 4))).flatten(2).transpose(1, 2)
    x = F.gelu(norm("linear_proj.norm1", affine("linear_proj.linear_proj", x), 1e-5))
    gated = F.silu(affine("linear_proj.gate_proj", x)) * affine("linear_proj.dense_h_to_4h", x)
    ends = [state[f"model.vision.{name}"].expand(count, 1, -1) for name in ("boi", "eoi")]
    return torch.cat([ends[0], affine("linear_proj.dense_4h_to_h", gated), ends[1]], dim=1)


@torch.no_grad()
def test_imported_tower_and_connector_equal_the_source_restated(tmp_path: Path) -> None:
    model, _ = imported(tmp_path, "cogvlm2-video")
    state = load_file(tmp_path / "theirs" / "model.safetensors")
    views = torch.randn(3, 3, 28, 28)
    tower = model.model.vision_tower.low_res_tower
    features = tower.finish(tower.run_layers(tower.embed(views), 0, tower.num_layers))[:, 1:]
    found = model.model.multi_modal_projector(features, (4, 4))
    assert_close(found, restated(state, views, heads=4))


def imported(folder: Path, recipe: str) -> tuple[Any, Any]:
    original = ORIGINALS["cogvlm2-video"]
    write_original(folder / "theirs", original)
    made = import_checkpoint(
        folder / "theirs", folder / "ours", progress=False, **{**original.settings, "recipe": recipe}
    )
    return AutoModelForImageTextToText.from_pretrained(made).eval(), AutoProcessor.from_pretrained(made)


@pytest.mark.parametrize(
    ("recipe", "frames", "turns"),
    [
        ("cogvlm2-video", "vvvvvv0vvvvvv1vvvvvv2", ("Question: What? Answer: This.\nQuestion: Why? Answer:")),
        ("cogvlm2-video-base", "v" * 18, "What?"),
    ],
)
@torch.no_grad()
def test_imported_checkpoint_reads_a_clip_as_the_source_does(
    recipe: str, frames: str, turns: str, tmp_path: Path
) -> None:
    """The 4 x 4 patches of the tiny tower are 2 x 2 tokens and two vectors, 6 placeholders per frame."""
    model, processor = imported(tmp_path, recipe)
    content = [{"type": "video"}, {"type": "text", "text": "What?"}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if recipe == "cogvlm2-video":
        messages += [{"role": "assistant", "content": "This."}, {"role": "user", "content": "Why?"}]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    clip = [random_image(31, 53, seed) for seed in range(3)]
    inputs = processor(text=prompt, videos=[clip], return_tensors="pt")
    bos = processor.tokenizer.bos_token or ""
    decoded = processor.tokenizer.decode(inputs["input_ids"][0]).replace("<video>", "v")
    assert decoded == f"{bos}{frames}{turns}"
    # the frames that it sees are cut out of the middle, not stretched
    assert inputs["pixel_values_videos"].shape == (1, 3, 1, 3, 28, 28)
    assert not torch.equal(
        inputs["pixel_values_videos"][0, 0], processor.image_processor(clip[0], return_tensors="pt")["pixel_values"][0]
    )
    assert model.config.shared_positions
    other = inputs | {"pixel_values_videos": inputs["pixel_values_videos"].flip(1)}
    assert not torch.allclose(model(**inputs).logits[0, -1], model(**other).logits[0, -1])
    answer = model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert answer.shape[1] == inputs["input_ids"].shape[1] + 2


def test_the_last_answer_alone_is_learned(tmp_path: Path) -> None:
    _, processor = imported(tmp_path, "cogvlm2-video")
    turns = [("user", "One?"), ("assistant", "Two."), ("user", "Three?"), ("assistant", "Four.")]
    messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
    batch = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt", return_assistant_tokens_mask=True
    )
    mask = torch.as_tensor(batch["assistant_masks"]).bool()
    learned = processor.tokenizer.decode(torch.as_tensor(batch["input_ids"])[mask])
    assert learned == "Four." + (processor.tokenizer.eos_token or "")
    with pytest.raises(Exception, match=r"have the roles 'user' and 'assistant' alone, .* got system"):
        processor.apply_chat_template([{"role": "system", "content": "Be brief."}], tokenize=False)
