# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Placeholders are neither generated nor taken without images, and a cache may be kept over turns."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache, GenerationConfig

from fila import FilaForConditionalGeneration
from fila.modeling.modeling_cache_name import CACHE_NAME
from tests.helpers import assert_close, random_image, tiny_model, tiny_processor

IMAGE, VIDEO = 5, 6
A, B = random_image(20, 50), random_image(61, 17)


def inputs(text: str, *images: Any) -> Any:
    return tiny_processor()(text=[text], images=[[*images]], return_tensors="pt")


def eager_to_say(model: Any, token: int) -> Any:
    """Make a token the likeliest everywhere."""
    model.lm_head.register_forward_hook(lambda _, __, logits: logits.index_fill(-1, torch.tensor([token]), 1e4))
    return model


@pytest.mark.parametrize(
    "mode",
    [
        {"do_sample": False},
        {"do_sample": False, "use_cache": False},
        {"do_sample": True},
        {"num_beams": 2},
        {"generation_config": GenerationConfig(max_new_tokens=3, do_sample=True)},  # as TRL passes its own
    ],
    ids=str,
)
@pytest.mark.parametrize("token", [IMAGE, VIDEO])
def test_placeholders_are_not_generated(mode: dict[str, Any], token: int) -> None:
    model = eager_to_say(tiny_model(video_token_id=VIDEO), token)
    prompt = inputs("<image> a", A)
    new = model.generate(**prompt, max_new_tokens=3, min_new_tokens=3, **mode)[:, prompt["input_ids"].shape[1] :]
    assert new.shape[1] == 3
    assert token not in new


def test_assisted_decoding_agrees_with_decoding_alone() -> None:
    model, prompt = tiny_model(), inputs("<image> a", A)
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    assisted = model.generate(**prompt, **options, assistant_model=tiny_model(seed=1))
    assert assisted.tolist() == model.generate(**prompt, **options).tolist()


def test_generation_config_is_saved_and_that_of_an_older_checkpoint_completed(tmp_path: Path) -> None:
    tiny_model(video_token_id=VIDEO).save_pretrained(tmp_path)
    path = tmp_path / "generation_config.json"
    saved = json.loads(path.read_text())
    assert saved.pop("suppress_tokens") == [IMAGE, VIDEO]
    path.write_text(json.dumps(saved))
    model = FilaForConditionalGeneration.from_pretrained(tmp_path)
    assert model.generation_config.suppress_tokens == [IMAGE, VIDEO]
    model.generation_config = GenerationConfig(suppress_tokens=[9])
    assert model.generation_config.suppress_tokens == [IMAGE, VIDEO, 9]


@pytest.mark.parametrize(("token", "name"), [(IMAGE, "image"), (VIDEO, "video")])
def test_placeholders_without_pixels_are_refused(token: int, name: str) -> None:
    model = tiny_model(video_token_id=VIDEO)
    with pytest.raises(ValueError, match=rf"placeholders of {name}s \(id {token}\), but no {name} was passed"):
        model(input_ids=torch.tensor([[9, token, 9]]))
    with pytest.raises(ValueError, match=rf"placeholders of {name}s \(id {token}\), but no {name} was passed"):
        model.generate(input_ids=torch.tensor([[9, token, 9]]), max_new_tokens=2)


@torch.no_grad()
def test_encoded_features_and_filled_caches_hold_the_images_of_placeholders() -> None:
    model, prompt = tiny_model(), inputs("<image> a", A)
    ids = prompt.pop("input_ids")
    mask = prompt.pop("attention_mask")
    expected = model(input_ids=ids, attention_mask=mask, **prompt).logits
    features = {"image": model.get_image_features(**prompt, return_dict=True)}
    assert_close(model(input_ids=ids, attention_mask=mask, mm_encoder_outputs=features).logits, expected, 1e-5)
    cache = DynamicCache(config=model.config.text_config)
    model(input_ids=torch.tensor([[9]]), **{CACHE_NAME: cache})
    assert model(input_ids=ids, **{CACHE_NAME: cache}).logits.isfinite().all()


def test_text_is_one_graph() -> None:
    compiled = torch.compile(tiny_model(), fullgraph=True, backend="eager")
    with torch.no_grad():
        assert compiled(input_ids=torch.tensor([[9, 10, 11]])).logits.isfinite().all()


def test_continuous_batching_refuses_placeholders() -> None:
    with pytest.raises(ValueError, match="`generate_batch` takes text alone, and prompt 1 holds placeholders"):
        tiny_model().generate_batch([[9, 10], [9, IMAGE]])


@pytest.mark.parametrize(("turn", "images"), [(" b", [A]), ("<image> b", [A, B])], ids=["same-image", "new-image"])
def test_a_cache_kept_over_turns_takes_the_whole_conversation(turn: str, images: list[Any]) -> None:
    model, options = tiny_model(), {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    whole = inputs("<image> a" + turn, *images)
    expected = model.generate(**whole, **options)
    cache = DynamicCache(config=model.config.text_config)
    model.generate(**inputs("<image> a", A), **{CACHE_NAME: cache}, max_new_tokens=1)
    assert model.generate(**whole, **{CACHE_NAME: cache}, **options).tolist() == expected.tolist()


def test_cached_images_of_a_forward_pass_are_refused_with_what_to_pass() -> None:
    model, whole = tiny_model(), inputs("<image> a", A)
    cache = DynamicCache(config=model.config.text_config)
    with torch.no_grad():
        model(**whole, **{CACHE_NAME: cache})
    step = {"input_ids": torch.tensor([[9]]), "attention_mask": torch.ones(1, whole["input_ids"].shape[1] + 1)}
    with pytest.raises(
        ValueError, match="With a cache of earlier turns pass only the images whose placeholders are in"
    ):
        model(**(dict(whole) | step), **{CACHE_NAME: cache})
