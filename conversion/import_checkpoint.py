# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Import an original system's checkpoint: its own names and config in, a checkpoint of ours out.

Every tensor is accounted for: renamed, transformed, split, or left behind with a reason that the model card repeats;
a tensor that is left over on either side is an error. Tensors stream from file to file.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerFast

from fila.modeling.configuration_fila import AUTO_MAP, FilaConfig
from fila.recipes import Recipe, config_settings, load_recipe, processor, replaced

from .assemble import parse_dtype, stored_dtype
from .key_rules import Drop, Rule, apply_rules, check_targets
from .key_templates import KeyTemplate, Pair, import_rules, pattern_of
from .model_card import PartEntry, write_model_card
from .new_weights import model_on_meta, stored_shapes
from .output import parse_size, write_json, write_weights, written_atomically
from .part import Part, open_part
from .pickled_weights import has_pickled_weights, read_pickled_weights
from .processor_files import save_generation_config
from .remote_code import copy_remote_code
from .source_pieces import CONSTANT
from .source_system import Settings, SourceLayout
from .systems import find_system
from .tokens import add_image_token, choose_chat_template, ensure_pad_token, image_token_of, padded_vocabulary
from .weights import Account

RECORD = "import.json"
_SECTIONS = {"vision_config": "low_res", "high_res_vision_config": "high_res", "text_config": "text"}


@dataclass(frozen=True)
class Fit:
    """A recipe that the weights fit: the model's config and the source of every tensor."""

    recipe: Recipe
    config: FilaConfig
    model: Any
    account: Account


def import_checkpoint(
    source: str | Path,
    output: str | Path,
    *,
    system: str,
    recipe: str | None = None,
    low_res: Mapping[str, Any] | None = None,
    high_res: Mapping[str, Any] | None = None,
    text: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    image_processor: Mapping[str, Any] | None = None,
    tokenizer: str | Path | None = None,
    dtype: str | torch.dtype | None = None,
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write a checkpoint that `AutoModelForImageTextToText` and `AutoProcessor` load.

    Args:
        source: The original: a folder, or `owner/name` or `owner/name@revision` on the Hub.
        output: Folder to write; it must not exist unless `overwrite` is set.
        system: Which system it is, a key of `systems.SYSTEMS`.
        recipe: Its size; by default the first of the system's recipes that the weights fit.
        low_res: Settings of the low-res tower that neither recipe nor source states.
        high_res: Of the high-res tower, likewise.
        text: Of the language model, likewise.
        config: Of `FilaConfig`, likewise.
        image_processor: Of `FilaImageProcessor`, likewise.
        tokenizer: Folder or Hub id of the tokenizer, where the source's own needs code of its own.
        dtype: Of all weights; by default the widest that the source stores.
        max_shard_size: Largest weight file, in bytes or as `"5GB"`.
        overwrite: Replace an existing output.
        progress: Show a progress bar.

    Raises:
        ValueError: If the source cannot be read, or is not of this system.
        RuntimeError: If a tensor is not accounted for, or does not have the shape that the config says.
        FileExistsError: If the output exists.
    """
    found = find_system(system)
    output, shard_bytes, chosen = Path(output), parse_size(max_shard_size), parse_dtype(dtype)
    given = {"vision_config": low_res, "high_res_vision_config": high_res, "text_config": text}
    with written_atomically(output, overwrite=overwrite) as folder:
        scratch = folder / "pickled.partial"
        part = open_source(source, scratch)
        layout = found.layout_of(part.tensors, part.name)
        settings = found.settings(part.config)
        names = found.recipes if recipe is None else (recipe,)
        tokens = _tokenizer(tokenizer or part.folder, load_recipe(names[0]))
        fit = _first_fit(names, part, layout, settings, given, config or {}, tokens)
        values_dtype = chosen or stored_dtype(part)

        for section in (
            fit.config,
            fit.config.vision_config,
            fit.config.high_res_vision_config,
            fit.config.text_config,
        ):
            if section is not None:
                section.dtype = values_dtype
        fit.config.save_pretrained(folder)
        _save_processor(folder, fit, tokens, {**settings.image_processor, **(image_processor or {})}, part)
        copy_remote_code(folder)
        entry = PartEntry("the whole model", part.name, trained=True, license=part.card.get("license"))
        intro = f"{fit.recipe.system} in the code of `fila`, made by `fila import` out of {part.name}."
        write_model_card(folder, name=output.name, parts=[entry], dropped=fit.account.dropped, intro=intro)
        write_json(folder / RECORD, _record(found.name, fit, part, layout))
        write_weights(folder, fit.account.streams, dtype=values_dtype, shard_bytes=shard_bytes, progress=progress)
        shutil.rmtree(scratch, ignore_errors=True)
    return output


def open_source(source: str | Path, scratch: Path) -> Part:
    """Open an original checkpoint; pickled weights are converted into `scratch` first."""
    part = open_part(source, weights=False)
    if not has_pickled_weights(part.folder):
        return open_part(source)
    tensors = read_pickled_weights(part.folder, scratch, part.name)
    return Part(part.name, part.folder, part.config, tensors, part.card)


def layout_rules(layout: SourceLayout, config: Any) -> list[Rule]:
    """All key rules of a layout for a model of `config`."""
    templates = layout.templates(config)
    rules: list[Rule] = list(layout.drops(config))
    if config.tie_word_embeddings:
        rules.append(Drop(_head_pattern(templates), "the head is the input embedding, by the source's own config"))
    return rules + import_rules(templates)


def _head_pattern(templates: Sequence[KeyTemplate]) -> str:
    (head,) = [item for item in templates if isinstance(item, Pair) and item.target == "lm_head.weight"]
    return pattern_of(head.source)


def _first_fit(
    names: Sequence[str],
    part: Part,
    layout: SourceLayout,
    settings: Settings,
    given: Mapping[str, Any],
    changes: Mapping[str, Any],
    tokens: Any,
) -> Fit:
    """The first recipe whose model has a place for every tensor and a tensor for every place."""
    errors = []
    for name in names:
        recipe = load_recipe(name)
        try:
            config = _config(recipe, settings, given, changes, tokens)
            return _fit(recipe, config, part, layout, tokens)
        except RuntimeError as error:
            errors.append(f"{name}: {error}")
    raise RuntimeError(f"{part.name} fits none of the recipes of this system. " + " | ".join(errors))


def _config(
    recipe: Recipe, settings: Settings, given: Mapping[str, Any], changes: Mapping[str, Any], tokens: Any
) -> FilaConfig:
    made = config_settings(recipe)
    for section, field in _SECTIONS.items():
        whole, change = getattr(settings, field), given[section]
        if whole is not None:
            options = {"tower_options": kept} if (kept := (made[section] or {}).get("tower_options")) else {}
            made[section] = {**whole, **options}
        if change is not None:
            made[section] = replaced(made[section] or {}, change, section)
    image_token = image_token_of(tokens, recipe.processor["image_token"])
    made |= {**settings.config, **changes, "image_token_id": tokens.convert_tokens_to_ids(image_token)}
    return FilaConfig(**made, architectures=["FilaForConditionalGeneration"], auto_map=dict(AUTO_MAP))


def _fit(recipe: Recipe, config: FilaConfig, part: Part, layout: SourceLayout, tokens: Any) -> Fit:
    rules, name = layout_rules(layout, config), "model.language_model.embed_tokens.weight"
    embedding = [move.source for move in apply_rules(part.tensors, rules, name=part.name).moves if move.target == name]
    if not embedding:
        raise RuntimeError(f"{part.name} has no input embedding.")
    rows = padded_vocabulary(tokens, part.tensors[embedding[0]].shape[0])
    config.text_config.vocab_size = rows
    model = model_on_meta(config)
    account = Account()
    account.add_part(part, rules, extended={name: rows, "lm_head.weight": rows})
    expected = stored_shapes(model)
    check_targets({key: stream.shape for key, stream in account.streams.items()}, expected, origin=account.origin)
    account.streams = {key: account.streams[key] for key in expected}
    return Fit(recipe, config, model, account)


def _tokenizer(source: str | Path, recipe: Recipe) -> Any:
    """The tokenizer with the recipe's tokens; code that lies beside it is not run."""
    try:
        tokens = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (ValueError, OSError, KeyError, ImportError) as error:
        if not (Path(source) / "tokenizer.json").is_file():
            raise ValueError(
                f"The source has no tokenizer that loads without code of its own ({error}). Pass `tokenizer`, the "
                "folder or Hub id of its language model."
            ) from error
        tokens = PreTrainedTokenizerFast.from_pretrained(source)
    tokens.init_kwargs.pop("auto_map", None)
    special = [AddedToken(token, special=True, normalized=False) for token in recipe.special_tokens]
    tokens.add_tokens(special, special_tokens=True)  # those that it has keep their ids
    add_image_token(tokens, image_token_of(tokens, recipe.processor["image_token"]))
    ensure_pad_token(tokens)
    return tokens


def _save_processor(folder: Path, fit: Fit, tokens: Any, images: Mapping[str, Any], part: Part) -> None:
    image_token = image_token_of(tokens, fit.recipe.processor["image_token"])
    chat_template = choose_chat_template(tokens, image_token)
    made = processor(
        fit.recipe,
        fit.config,
        tokens,
        image_processor=dict(images),
        chat_template=chat_template,
    )
    made.save_pretrained(folder)
    save_generation_config(folder, part, fit.config, tokens, chat_template=chat_template)


def _record(system: str, fit: Fit, part: Part, layout: SourceLayout) -> dict[str, Any]:
    """What `export_checkpoint` needs to know of the source."""
    plan = apply_rules(part.tensors, layout_rules(layout, fit.config), name=part.name)
    by_token = {"model.language_model.embed_tokens.weight", "lm_head.weight"}
    return {
        "system": system,
        "recipe": fit.recipe.name,
        "source": part.name,
        "layout": layout.name,
        "config": json.loads(json.dumps(dict(part.config))),
        "rows": {move.source: part.tensors[move.source].shape[0] for move in plan.moves if move.target in by_token},
        "left_behind": sorted(key for key, reason in plan.dropped.items() if reason != CONSTANT),
    }
