# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Recipes: each is a whole system that can be built; what a recipe may hold is checked."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from transformers import CLIPConfig, LlamaConfig, PreTrainedTokenizerFast

from fila import FilaConfig
from fila.processing.layout import LAYOUTS
from fila.systems.recipes import check_recipe, image_processor, load_recipe, processor, recipe_names
from tests.helpers import tiny_tokenizer

Run = Callable[..., Any]

# MiniCPM-V's layout has `<image>` as text, so another token is the placeholder here.
TOKENIZER = PreTrainedTokenizerFast(
    tokenizer_object=tiny_tokenizer().backend_tokenizer,
    extra_special_tokens={"image_token": "<patch>", "video_token": "<video>"},
)


def contents(name: str, **changes: Any) -> dict[str, Any]:
    recipe = vars(load_recipe(name)).copy()
    del recipe["name"]
    return recipe | changes


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_is_a_whole_system(name: str) -> None:
    config = FilaConfig.from_recipe(name)
    recipe = load_recipe(name)
    assert recipe.processor["layout"]["type"] in LAYOUTS
    made = processor(recipe, config, TOKENIZER, image_token="<patch>")
    assert made.tokens_per_tile >= 1
    assert made.image_processor.image_mean is not None
    plan = image_processor(recipe, config).plan(480, 640)
    assert plan.image_size == (480, 640)
    assert config.image_newline == made._layout.row_newlines


@pytest.mark.parametrize("name", ["fila", "llava-next", "llava-hr", "open-autoglm"])
def test_processor_of_a_recipe_writes_prompts_from_parts(name: str) -> None:
    tokenizer = copy.deepcopy(TOKENIZER)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    made = processor(load_recipe(name), FilaConfig.from_recipe(name), tokenizer, image_token="<patch>")
    content = [{"type": "image"}, {"type": "text", "text": "What?"}]
    prompt = made.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    assert "<patch>\nWhat?" in prompt


def test_from_recipe_replaces_towers() -> None:
    config = FilaConfig.from_recipe(
        "mini-gemini-hd",
        low_res={"num_hidden_layers": 2, "image_size": 56},
        high_res={"depths": [1, 1, 1, 1]},
        text=LlamaConfig(hidden_size=32, num_attention_heads=4, num_hidden_layers=1),
        high_res_tile_size=128,
    )
    assert config.vision_config.num_hidden_layers == 2
    assert config.vision_config.hidden_size == 1024
    assert config.high_res_vision_config.depths == [1, 1, 1, 1]
    assert config.text_config.hidden_size == 32
    assert config.fusion == {"type": "patch_info_mining"}
    assert config.high_res_overview == "interpolate"


def test_from_recipe_takes_a_checkpoints_config(tmp_path: Any) -> None:
    CLIPConfig(vision_config={"hidden_size": 48, "num_hidden_layers": 3}).save_pretrained(tmp_path)
    config = FilaConfig.from_recipe("llava-next", low_res=str(tmp_path))
    assert config.vision_config.hidden_size == 48


def test_a_recipe_is_not_changed_by_its_use() -> None:
    config = FilaConfig.from_recipe("llava-next")
    config.fusion["type"] = "changed"
    assert load_recipe("llava-next").config["fusion"] == {"type": "none"}


def test_unknown_names_and_towers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no recipe 'llava-nxt'; there are \["):
        FilaConfig.from_recipe("llava-nxt")
    with pytest.raises(ValueError, match="'llava-next' has no `high_res_vision_config`"):
        FilaConfig.from_recipe("llava-next", high_res={"depths": [1]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"notes": "x"}, r"unknown \['notes'\]"),
        ({"config": {"visoin_config": {}}}, r"`config` must be an object.*\['visoin_config'\]"),
        ({"processor": {"tokens_per_tile": 1}}, r"`processor` must be an object.*\['tokens_per_tile'\]"),
        ({"image_processor": {"tile": 1}}, r"`image_processor` must be an object.*\['tile'\]"),
        ({"special_tokens": "<img>"}, "`special_tokens` must be a list of strings"),
    ],
)
def test_wrong_recipes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_recipe("x", contents("llava-next", **changes))


def test_missing_keys_are_named() -> None:
    values = contents("llava-next")
    del values["paper"]
    with pytest.raises(ValueError, match=r"missing \['paper'\]"):
        check_recipe("x", values)


def test_recipes_lists_and_shows(fila: Run) -> None:
    listed = fila("recipes")
    assert listed.exit_code == 0, listed.stderr
    rows = [line.split() for line in listed.stdout.splitlines()]
    assert [row[0] for row in rows] == ["recipe", *recipe_names()]
    shown = fila("recipes", "llava-hr")
    assert json.loads(shown.stdout)["config"]["fusion"] == {"type": "mixture_of_resolution"}
    assert fila("recipes", "llava").exit_code == 2


@pytest.mark.parametrize("name", ["videollama2-7b", "videollama2-7b-16f", "videollama2.1-7b-16f"])
def test_videollama2_says_that_its_source_keeps_32_frames(name: str) -> None:
    assert any("of more than 32 the source keeps the first 32" in text for text in load_recipe(name).deviations)
