# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A batch answers as its samples do one by one: 0 to 3 images each, mixed sizes, both padding sides, both caches."""

from typing import Any

import pytest
import torch

from fila import FilaForConditionalGeneration, FilaProcessor
from tests.helpers import assert_close, random_image, single_tower, tiny_model, tiny_processor

# (prompt, image sizes) per sample; sizes are chosen so that neighbours differ in canvas and view count.
SAMPLES = [
    ("no image here", []),
    ("<image> what is this?", [(23, 51)]),
    ("<image><image>compare", [(61, 17), (90, 91)]),
    ("a <image> b <image> c <image>!", [(5, 97), (20, 20), (301, 40)]),
]
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fila": ({}, {}),
    "stage-1": ({}, {"canvas": {"type": "single"}}),
    "encode-overview": ({"high_res_overview": "encode"}, {}),
    "channel-concat": ({"fusion": {"type": "channel_concat"}}, {}),
    "single-tower": (single_tower(), {"high_res_size": None}),
}


def build(name: str) -> tuple[FilaForConditionalGeneration, FilaProcessor]:
    model_changes, processor_changes = VARIANTS[name]
    return tiny_model(**model_changes), tiny_processor(**processor_changes)


def inputs_of(processor: FilaProcessor, samples: list[tuple[str, list[tuple[int, int]]]], **kwargs: Any) -> Any:
    texts = [text for text, _ in samples]
    images = [[random_image(*size, seed=sum(size)) for size in sizes] for _, sizes in samples]
    return processor(text=texts, images=images, padding=True, return_tensors="pt", **kwargs)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_batch_logits_equal_one_by_one(name: str, side: str) -> None:
    model, processor = build(name)
    batch = inputs_of(processor, SAMPLES, padding_side=side)
    together = model(**batch).logits
    for index, sample in enumerate(SAMPLES):
        alone = model(**inputs_of(processor, [sample])).logits[0]
        kept = batch["attention_mask"][index].bool()
        assert_close(together[index][kept], alone)


@pytest.mark.parametrize("cache", [None, "static"])
@pytest.mark.parametrize("name", ["fila", "single-tower"])
def test_batch_generates_as_one_by_one(name: str, cache: str | None) -> None:
    model, processor = build(name)
    options = {"max_new_tokens": 7, "min_new_tokens": 7, "do_sample": False, "cache_implementation": cache}
    batch = inputs_of(processor, SAMPLES, padding_side="left")
    together = model.generate(**batch, **options)[:, batch["input_ids"].shape[1] :]
    for index, sample in enumerate(SAMPLES):
        single = inputs_of(processor, [sample])
        alone = model.generate(**single, **options)[:, single["input_ids"].shape[1] :]
        assert together[index].tolist() == alone[0].tolist()


def test_cached_decoding_equals_full_forward() -> None:
    model, processor = build("fila")
    inputs = inputs_of(processor, SAMPLES[3:])
    generated = model.generate(**inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    for step in range(5):
        length = inputs["input_ids"].shape[1] + step
        prompt = dict(inputs) | {"input_ids": generated[:, :length], "attention_mask": torch.ones(1, length)}
        with torch.no_grad():
            logits = model(**prompt, logits_to_keep=1).logits
        logits[:, :, model.generation_config.eos_token_id] = -torch.inf
        assert logits.argmax(-1).item() == generated[0, length].item()


@pytest.mark.parametrize("mode", [{"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}])
def test_beams_keep_each_sample_with_its_images(mode: dict[str, int]) -> None:
    model, processor = build("fila")
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False} | mode
    batch = inputs_of(processor, SAMPLES, padding_side="left")
    together = model.generate(**batch, **options)[:, batch["input_ids"].shape[1] :].tolist()
    alone = []
    for sample in SAMPLES:
        single = inputs_of(processor, [sample])
        alone += model.generate(**single, **options)[:, single["input_ids"].shape[1] :].tolist()
    assert together == alone


def test_order_of_samples_does_not_matter() -> None:
    model, processor = build("fila")
    forward, backward = inputs_of(processor, SAMPLES), inputs_of(processor, SAMPLES[::-1])
    with torch.no_grad():
        first, second = model(**forward).logits, model(**backward).logits.flip(0)
    kept = forward["attention_mask"].bool()
    assert_close(first[kept], second[kept])


def test_logits_to_keep_gives_the_same_last_positions() -> None:
    model, processor = build("fila")
    inputs = inputs_of(processor, SAMPLES[1:2])
    with torch.no_grad():
        full = model(**inputs).logits
        assert_close(model(**inputs, logits_to_keep=3).logits, full[:, -3:])
        assert_close(model(**inputs, logits_to_keep=torch.tensor([0, 5])).logits, full[:, [0, 5]])


def test_features_encoded_before_give_the_same_logits() -> None:
    model, processor = build("fila")
    inputs = inputs_of(processor, SAMPLES)
    images = {name: inputs[name] for name in processor.image_processor.model_input_names}
    text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        encoded = model.get_image_features(**images)
        assert_close(model(**text, mm_encoder_outputs={"image": encoded}).logits, model(**inputs).logits)
        with pytest.raises(ValueError, match="both hold the images"):
            model(**inputs, mm_encoder_outputs={"image": encoded})


def test_embeddings_made_by_the_caller_give_the_same_logits() -> None:
    model, processor = build("fila")
    inputs = inputs_of(processor, SAMPLES)
    ids = inputs.pop("input_ids")
    with torch.no_grad():
        embeds = model.get_input_embeddings()(ids)
        assert_close(model(inputs_embeds=embeds, **inputs).logits, model(input_ids=ids, **inputs).logits)


def test_beams_take_embeddings_made_by_the_caller() -> None:
    model, processor = build("fila")
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "num_beams": 2}
    inputs = inputs_of(processor, SAMPLES, padding_side="left")
    expected = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
    embeds = model.get_input_embeddings()(inputs.pop("input_ids"))
    assert model.generate(inputs_embeds=embeds, **inputs, **options).tolist() == expected.tolist()
