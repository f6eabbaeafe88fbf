# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The cache is accepted under both of its names and returned under the name of the version, without a warning."""

import logging
import warnings
from typing import Any

import pytest
import torch
from transformers import DynamicCache, GenerationMixin, LlamaForCausalLM, StaticCache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from fila.modeling.modeling_cache_name import CACHE_NAME
from tests.helpers import random_image, tiny_model, tiny_processor

IDS = torch.tensor([[9, 6, 7, 8]])


def without_text(batch: Any) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if name not in ("input_ids", "attention_mask")}


@pytest.fixture(autouse=True)
def _warnings_of_transformers(caplog: pytest.LogCaptureFixture) -> Any:
    """Fail a test at a warning of transformers; it logs some of them, once in a process, and does not raise them."""
    root = logging.getLogger("transformers")
    root.addHandler(caplog.handler)
    yield
    root.removeHandler(caplog.handler)
    assert [record.getMessage() for record in caplog.records if "deprecated" in record.getMessage()] == []


def warnings_of(model: Any, **inputs: Any) -> list[str]:
    """Return the names that a call is warned of."""
    with torch.no_grad(), warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model(**inputs)
    return [str(warning.message).split()[0] for warning in found]


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
@pytest.mark.parametrize("part", ["whole", "without_head"])
@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")  # transformers', to the caller
def test_both_names_continue_a_prompt(name: str, part: str) -> None:
    whole = tiny_model()
    model = whole if part == "whole" else whole.model
    cache = DynamicCache(config=whole.config.text_config)
    with torch.no_grad():
        expected = model(input_ids=IDS)[0][:, -1]
        begun = model(input_ids=IDS[:, :3], use_cache=True, **{name: cache})
        step = model(input_ids=IDS[:, 3:], **{name: begun[CACHE_NAME]})
    assert begun[CACHE_NAME] is cache
    torch.testing.assert_close(step[0][:, -1], expected)


def test_a_caller_is_warned_of_the_old_name_as_by_a_model_of_transformers() -> None:
    model = tiny_model()
    peer = LlamaForCausalLM(model.config.text_config)
    for name in ("cache", "past_key_values"):
        expected = warnings_of(peer, input_ids=IDS, **{name: DynamicCache()})
        assert warnings_of(model, input_ids=IDS, **{name: DynamicCache()}) == expected


def test_two_caches_are_refused() -> None:
    model, cache = tiny_model(), DynamicCache()
    with pytest.raises(
        ValueError, match=f"two names of one argument.*`generate` of this version takes `{CACHE_NAME}`"
    ):
        model(input_ids=IDS, cache=cache, past_key_values=DynamicCache())


def test_outputs_hold_what_the_images_became() -> None:
    model, processor = tiny_model(), tiny_processor()
    batch = processor(text="a <image> b", images=[random_image(20, 50)], return_tensors="pt")
    with torch.no_grad():
        outputs, expected = model(**batch), model.get_image_features(**without_text(batch))
    assert torch.equal(outputs.image_outputs.pooler_output[0], expected.pooler_output[0])
    assert "video_outputs" not in outputs


def test_outputs_have_the_names_of_a_model_of_transformers() -> None:
    model = tiny_model()
    peer = LlamaForCausalLM(model.config.text_config)
    with torch.no_grad():
        outputs, expected = model(input_ids=IDS, use_cache=True), peer(input_ids=IDS, use_cache=True)
        inner = model.model(input_ids=IDS, use_cache=True)
    assert isinstance(outputs, CausalLMOutputWithPast)
    assert isinstance(inner, BaseModelOutputWithPast)
    assert list(outputs) == list(expected) == ["logits", CACHE_NAME]


@pytest.mark.parametrize("options", [{"num_beams": 2}, {"cache_implementation": "static"}, {"prefill_chunk_size": 3}])
def test_generate_warns_of_nothing(options: dict[str, Any]) -> None:
    model, processor = tiny_model(), tiny_processor()
    inputs: dict[str, Any] = {"input_ids": IDS}
    # where transformers does not encode the images first, a prompt with images is not cut: tests/promises/test_use.py
    if "prefill_chunk_size" not in options or hasattr(GenerationMixin, "_supports_mm_encoder_outputs"):
        inputs = processor(text="a <image> b", images=[random_image(20, 50)], return_tensors="pt")
    found = model.generate(**inputs, max_new_tokens=3, return_dict_in_generate=True, disable_compile=True, **options)
    assert found[CACHE_NAME].get_seq_length() == found.sequences.shape[1] - 1


def test_generate_goes_on_from_the_callers_cache() -> None:
    model = tiny_model()
    options: dict[str, Any] = {"do_sample": False, "max_new_tokens": 3, "eos_token_id": None, "pad_token_id": 0}
    cache = StaticCache(config=model.config.text_config, max_cache_len=9)
    expected = model.generate(IDS, **options)
    assert model.generate(IDS, **{CACHE_NAME: cache}, **options).tolist() == expected.tolist()
    assert cache.get_seq_length() == 6
