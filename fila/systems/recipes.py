# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Recipes: published systems as data, one JSON file each in `recipe_files/`.

A recipe holds all differences between systems: canvas, layout, towers, fusion, connector, sizes, normalisation and
special tokens. `FilaConfig.from_recipe` makes the config, `image_processor` and `processor` the rest. Sizes are those
of the released weights; whoever trains anew gives other towers or another language model.
"""

import dataclasses
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, Unpack

from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils import is_torchvision_available

from fila.modeling.configuration_fila import FilaConfig
from fila.processing.chat_template import with_joined_parts, with_values
from fila.processing.image_processing_fila import FilaImageProcessor, FilaImageProcessorKwargs, FilaImageProcessorPil
from fila.processing.layout import build_layout
from fila.processing.processing_fila import FilaProcessor
from fila.systems.chat_templates import choose_chat_template
from fila.systems.compatibility import fitting_settings

FOLDER = Path(__file__).parent / "recipe_files"
# All published systems were trained with images on a line of their own.
MEDIA_END = "\n"
# Required and optional entries of a recipe's parts. The classes that use the values check them.
CONFIG_KEYS = {field.name for field in dataclasses.fields(FilaConfig)}
IMAGE_PROCESSOR_KEYS = set(FilaImageProcessorPil.valid_kwargs.__annotations__)
PROCESSOR_KEYS = {
    "layout",
    "token_size",
    "image_token",
    "video_processor",
    "video_token",
    "video_layout",
}
assert set(inspect.signature(FilaProcessor).parameters) >= PROCESSOR_KEYS

TowerChange: TypeAlias = Mapping[str, Any] | PreTrainedConfig | str | None


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One published system.

    Attributes:
        name: Name of its file.
        system: Name of the system.
        paper: Source of the system.
        code: Repository and commit that the recipe follows.
        config: Settings of `FilaConfig`.
        image_processor: Settings of `FilaImageProcessor`; sizes that it leaves out follow from the config.
        processor: Settings of `FilaProcessor`, without those that `compatibility.py` derives.
        special_tokens: Tokens of the layout, added to a tokenizer that lacks them; the image token comes by itself.
        deviations: Differences between the recipe and the system.
        prompt: The prompt format, see `chat_template`; empty where it is the language model's own.
    """

    name: str
    system: str
    paper: str
    code: str
    config: dict[str, Any]
    image_processor: dict[str, Any]
    processor: dict[str, Any]
    special_tokens: list[str]
    deviations: list[str]
    prompt: dict[str, Any] = dataclasses.field(default_factory=dict)


def recipe_names() -> list[str]:
    """Return the names of all recipes, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load_recipe(name: str) -> Recipe:
    """Read and check a recipe.

    Raises:
        ValueError: If no recipe has that name, or its form is wrong.
    """
    if name not in recipe_names():
        raise ValueError(f"There is no recipe {name!r}; there are {recipe_names()}.")
    return check_recipe(name, json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def check_recipe(name: str, values: Mapping[str, Any]) -> Recipe:
    """Turn the contents of a recipe's file into a `Recipe`.

    Raises:
        ValueError: If a key is missing or unknown, or a part has the wrong form; names the recipe and the key.
    """
    expected = {field.name for field in dataclasses.fields(Recipe)} - {"name", "prompt"}
    if set(values) - {"prompt"} != expected:
        missing, unknown = sorted(expected - set(values)), sorted(set(values) - expected - {"prompt"})
        raise ValueError(
            f"Recipe {name!r} must have the keys {sorted(expected)}; missing {missing}, unknown {unknown}."
        )
    for part, keys in (
        ("config", CONFIG_KEYS),
        ("image_processor", IMAGE_PROCESSOR_KEYS),
        ("processor", PROCESSOR_KEYS),
    ):
        if not isinstance(values[part], dict) or (set(values[part]) - keys):
            unknown = sorted(set(values[part]) - keys)
            raise ValueError(
                f"Recipe {name!r}: `{part}` must be an object with keys of {sorted(keys)}; got {unknown}."
            )
    for part in ("special_tokens", "deviations"):
        if not isinstance(values[part], list) or not all(isinstance(text, str) for text in values[part]):
            raise ValueError(f"Recipe {name!r}: `{part}` must be a list of strings; got {values[part]!r}.")
    prompt, files = values.get("prompt", {}), sorted(path.name for path in FOLDER.glob("*.jinja"))
    if not isinstance(prompt, dict) or (prompt and prompt.get("file") not in files):
        raise ValueError(f"Recipe {name!r}: `prompt` must be an object, its `file` one of {files}; got {prompt!r}.")
    return Recipe(name=name, **values)


def chat_template(
    recipe: Recipe, *, own: str | None = None, image_token: str | None = None, **changes: Any
) -> str | None:
    """Return the chat template that writes prompts in the format of the system's training.

    Args:
        recipe: The recipe. Its `prompt` names a `file` beside the recipes and what the file's template takes, such as
            the system message. `only_without_own` is for systems that were released with several language models,
            each with its own format, of which some have no template. `tasks` are texts that the system was trained
            to obey, by what they ask for; no template takes them.
        own: The language model's own template.
        image_token: What stands for an image; the recipe's if not given.
        changes: Values that replace single ones of `prompt`.

    Returns:
        The template, or `None` if the recipe has none or leaves it to the language model.
    """
    values = {**recipe.prompt, **changes}
    file, only_without_own, _ = (
        values.pop("file", None),
        values.pop("only_without_own", False),
        values.pop("tasks", {}),
    )
    if file is None or (own and only_without_own):
        return None
    template, image_token = (FOLDER / file).read_text(encoding="utf-8"), image_token or recipe.processor["image_token"]
    if "image_token" not in template:  # it takes messages as strings
        template = with_joined_parts(template, image_token=image_token, media_end=MEDIA_END)
    return with_values(template, **values)


def config_settings(
    recipe: Recipe, *, low_res: TowerChange = None, high_res: TowerChange = None, text: TowerChange = None
) -> dict[str, Any]:
    """Return settings of `FilaConfig`, optionally with other towers or another language model.

    Args:
        recipe: The recipe.
        low_res: Sizes that replace single ones of the recipe's low-res tower, or a whole config, or the folder or Hub
            id of a checkpoint whose config is taken.
        high_res: The same for the high-res tower.
        text: The same for the language model.

    Raises:
        ValueError: If the recipe has no such tower.
    """
    settings: dict[str, Any] = json.loads(json.dumps(recipe.config))  # a copy that the caller may change
    changes = {"vision_config": low_res, "high_res_vision_config": high_res, "text_config": text}
    for name, change in changes.items():
        if change is None:
            continue
        if settings.get(name) is None:
            raise ValueError(f"Recipe {recipe.name!r} has no `{name}`, so there is nothing to replace.")
        settings[name] = replaced(settings[name], change, name)
    return settings


def image_processor(
    recipe: Recipe, config: FilaConfig, **changes: Unpack[FilaImageProcessorKwargs]
) -> FilaImageProcessor | FilaImageProcessorPil:
    """Make the image processor of a recipe for a model of `config`."""
    sizes = {
        "size": config.tile_size,
        "high_res_size": config.high_res_tile_size,
    }
    squares = {name: None if side is None else {"height": side, "width": side} for name, side in sizes.items()}
    made = FilaImageProcessor if is_torchvision_available() else FilaImageProcessorPil
    return made(**{**squares, **recipe.image_processor, **changes})


def processor(recipe: Recipe, config: FilaConfig, tokenizer: PreTrainedTokenizerBase, **changes: Any) -> FilaProcessor:
    """Make the processor of a recipe for a model of `config`.

    Args:
        recipe: The recipe.
        config: The model's config.
        tokenizer: The language model's; its vocabulary must hold the recipe's image token.
        changes: Settings of `FilaProcessor`; of the image processor in a dict `image_processor`.

    Raises:
        ValueError: If the tokenizer lacks the image token, a setting is not accepted, or model and processor do not
            fit together.
    """
    images = image_processor(recipe, config, **changes.pop("image_processor", {}))
    settings = {**recipe.processor, **changes}
    if "chat_template" not in settings:
        image_token = getattr(tokenizer, "image_token", None) or settings["image_token"]
        own = tokenizer.chat_template

        def of_system(own: str | None) -> str | None:
            return chat_template(recipe, own=own, image_token=image_token)

        # without any there is nothing to place images in, and none is made up: it would need tokens of its own
        settings["chat_template"] = (
            choose_chat_template(tokenizer, image_token, of_system=of_system, media_end=MEDIA_END)
            if own
            else of_system(None)
        )
    if isinstance(frames := settings.get("video_processor"), dict):
        side = config.tile_size
        settings["video_processor"] = {"size": {"height": side, "width": side}, **frames}
    fitting = fitting_settings(config, images, build_layout(settings["layout"]))
    return FilaProcessor(images, tokenizer, **{**fitting, **settings})


def replaced(
    own: Mapping[str, Any], change: Mapping[str, Any] | PreTrainedConfig | str, name: str
) -> dict[str, Any] | PreTrainedConfig:
    """Return the section `name` of a config with a change, see `config_settings`."""
    if isinstance(change, Mapping):
        other = change.get("model_type", own["model_type"]) != own["model_type"]
        return dict(change) if other else {**own, **change}
    other_config: PreTrainedConfig = AutoConfig.from_pretrained(change) if isinstance(change, str) else change
    if name == "text_config":
        return other_config.get_text_config()
    whole: PreTrainedConfig = getattr(other_config, "vision_config", other_config)
    return whole


def as_rows(recipes: list[Recipe]) -> list[list[str]]:
    """Return one row of text per recipe, under a heading."""
    rows = [["recipe", "system", "canvas", "towers", "fusion", "connector", "injection", "layout"]]
    for recipe in recipes:
        rows.append(
            [
                recipe.name,
                recipe.system,
                recipe.image_processor["canvas"]["type"],
                " + ".join(tower_names(recipe)),
                recipe.config["fusion"]["type"],
                recipe.config["connector"]["type"],
                recipe.config.get("injection", {"type": "none"})["type"],
                recipe.processor["layout"]["type"],
            ]
        )
    return rows


def tower_names(recipe: Recipe) -> list[str]:
    """Return the `model_type` of each tower, the low-res one first."""
    towers = [recipe.config["vision_config"], recipe.config.get("high_res_vision_config")]
    towers += recipe.config.get("extra_vision_configs", [])
    return [tower["model_type"] for tower in towers if tower is not None]
