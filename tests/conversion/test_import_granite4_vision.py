# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""transformers' own Granite 4 Vision, imported: the same prompts, pixels, logits and answers; and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    Granite4VisionConfig,
    Granite4VisionForConditionalGeneration,
    Granite4VisionProcessor,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from fila.conversion.export_checkpoint import export_checkpoint
from fila.conversion.import_checkpoint import import_checkpoint
from fila.conversion.system_granite import granite4_settings
from tests.cases import each
from tests.conversion.originals import GRANITE
from tests.conversion.parts import PLACES, byte_tokenizer
from tests.helpers import random_image, randomise

SIDE, PATCH, RATE = 32, 4, "2/4"
PINPOINTS = [[32, 64], [64, 32], [64, 64]]
HALVES = [0.5, 0.5, 0.5]
# Largest difference as a share of the largest logit; worst measured: 4e-7.
TOLERANCE = 1e-5


def write_granite(folder: Path) -> tuple[Any, Any]:
    """A tiny random checkpoint as transformers writes it, and its processor."""
    tokenizer = byte_tokenizer(["<image>"], PLACES)
    tokenizer.pad_token = "<unk>"
    vision = {"hidden_size": 64, "intermediate_size": 19, "num_hidden_layers": 4, "num_attention_heads": 2}
    text = {"hidden_size": 24, "intermediate_size": 31, "num_hidden_layers": 7, "num_attention_heads": 2}
    multipliers = {"embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.5}
    config = Granite4VisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "image_size": SIDE,
            "patch_size": PATCH,
            "vision_use_head": False,
            **vision,
        },
        text_config={
            "model_type": "granite4_vision_text",
            "vocab_size": len(tokenizer),
            "num_key_value_heads": 1,
            "attention_multiplier": 0.3,
            "max_position_embeddings": 512,
            **text,
            **multipliers,
        },
        qformer_config={
            "model_type": "blip_2_qformer",
            "num_hidden_layers": 1,
            "intermediate_size": 17,
            "cross_attention_frequency": 1,
            "use_qformer_text_input": False,
        },
        image_token_index=len(tokenizer) - 1,
        image_grid_pinpoints=PINPOINTS,
        downsample_rate=RATE,
        deepstack_layer_map=[(-3, 1), (1, 3)],
        spatial_vision_layer=-2,
        spatial_target_layers=[0, 2, 4, 6],
        vision_feature_select_strategy="full",
    )
    model = Granite4VisionForConditionalGeneration(config).eval()
    randomise(model)
    model.save_pretrained(folder)
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_grid_pinpoints=PINPOINTS,
        image_mean=HALVES,
        image_std=HALVES,
    )
    processor = Granite4VisionProcessor(
        images, tokenizer, patch_size=PATCH, vision_feature_select_strategy="full", downsample_rate=RATE
    )
    processor.save_pretrained(folder)
    return model, processor


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("granite4")
    theirs = write_granite(folder / "theirs")
    import_checkpoint(folder / "theirs", folder / "ours", system="granite4-vision", progress=False)
    model = AutoModelForImageTextToText.from_pretrained(folder / "ours").eval()
    model._generation_config.suppress_tokens = None  # theirs may write placeholders
    return *theirs, model, AutoProcessor.from_pretrained(folder / "ours"), folder


def batches(both: Any) -> tuple[Any, Any]:
    """Theirs and ours: two images of different tiles, and a row of text."""
    _, their_processor, _, processor, _ = both
    texts = ["one <image> here", "<image>", "none at all"]
    images = [random_image(53, 97), random_image(64, 64, seed=1)]
    theirs = their_processor(images=images, text=texts, return_tensors="pt", padding=True, padding_side="left")
    return theirs, processor(images=images, text=texts, return_tensors="pt", padding=True)


@torch.no_grad()
def test_a_batch_of_text_and_images_equals_transformers(both: Any) -> None:
    theirs, ours = batches(both)
    assert ours["input_ids"].tolist() == theirs["input_ids"].tolist()
    mask = ours["attention_mask"].bool()
    expected = both[0](**theirs).logits[mask]
    assert (both[2](**ours).logits[mask] - expected).abs().max() <= TOLERANCE * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 3])
def test_answers_equal_transformers(both: Any, beams: int) -> None:
    theirs, ours = batches(both)
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "num_beams": beams, "do_sample": False, "output_scores": True}
    expected = both[0].generate(**theirs, **options, return_dict_in_generate=True)
    found = both[2].generate(**ours, **options, return_dict_in_generate=True)
    assert found.sequences.tolist() == expected.sequences.tolist()
    for mine, reference in zip(found.scores, expected.scores, strict=True):
        known = reference.isfinite()
        assert (mine - reference)[known].abs().max() <= TOLERANCE * reference[known].abs().max()


def test_scores_of_beams_are_those_of_the_whole_prompt_with_both_its_images(both: Any) -> None:
    _, _, model, processor, _ = both  # transformers' class gives the beams of such a prompt the images A A B B
    images = [random_image(53, 97), random_image(64, 64, seed=1)]
    inputs = processor(images=images, text="<image> and <image>", return_tensors="pt")
    length, options = inputs["input_ids"].shape[1], {"max_new_tokens": 4, "min_new_tokens": 4, "num_beams": 3}
    found = model.generate(**inputs, **options, do_sample=False, output_scores=True, return_dict_in_generate=True)
    whole = dict(inputs) | {"input_ids": found.sequences, "attention_mask": torch.ones_like(found.sequences)}
    with torch.no_grad():
        scores = model(**whole).logits[0, length - 1 : -1].log_softmax(-1)
    mean = scores.gather(1, found.sequences[0, length:, None]).mean()
    assert abs(mean - found.sequences_scores[0]) <= 1e-5


def test_export_gives_back_what_came_in(both: Any) -> None:
    folder = both[4]
    back = export_checkpoint(folder / "ours", folder / "back", original=folder / "theirs", progress=False)
    original, exported = load_file(folder / "theirs" / "model.safetensors"), load_file(back / "model.safetensors")
    assert set(original) == set(exported)
    assert all(torch.equal(exported[key], tensor) for key, tensor in original.items())
    assert json.loads((back / "config.json").read_text()) == json.loads((folder / "theirs/config.json").read_text())


SOURCE = GRANITE | {"vision_config": {"model_type": "siglip_vision_model", "num_hidden_layers": 3, "image_size": 28}}


@each(
    ("changes", "message"),
    [
        ({"downsample_rate": "1/4"}, "`downsample_rate` is '1/4': the four spatial projectors"),
        ({"downsample_rate": "half"}, "`downsample_rate` must be queries and patches per side of a window, as '4/8'"),
        ({"spatial_target_layers": [1, 2, 4, 5]}, "layerwise_projectors.1 and spatial_projectors.1 .* before layer 2"),
        ({"qformer_config": {"hidden_act": "relu"}}, "`qformer_config.hidden_act` is 'relu'"),
        ({"vision_feature_select_strategy": "default"}, "`vision_feature_select_strategy` is 'default'"),
        (
            {"text_config": {"model_type": "granitemoehybrid", "layer_types": ["mamba", "attention"]}},
            "`text_config.layer_types` names layers without attention",
        ),
    ],
)
def test_configs_that_no_model_of_ours_has_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        granite4_settings(SOURCE | changes)


def test_a_text_config_by_the_name_of_the_hybrid_is_granite_s() -> None:
    hybrid = {"model_type": "granitemoehybrid", "intermediate_size": 5, "shared_intermediate_size": 31}
    text = granite4_settings(SOURCE | {"text_config": hybrid | {"logits_scaling": 7.0}}).text
    assert text is not None
    assert (text["model_type"], text["intermediate_size"], text["logits_scaling"]) == ("granite", 31, 7.0)
