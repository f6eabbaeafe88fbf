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
from fila.systems.chat_templates import choose_chat_template
from fila.systems.meta_model import model_on_meta
from fila.systems.recipes import MEDIA_END, Recipe, chat_template, config_settings, load_recipe, processor, replaced

from .assemble import parse_dtype, stored_dtype
from .damage import naming_damage
from .key_rules import Drop, Pair, Rule, apply_rules, check_targets
from .model_card import PartEntry, write_model_card
from .new_weights import stored_shapes
from .output import parse_size, write_json, write_weights, written_atomically
from .pickled_weights import has_pickled_weights, read_pickled_weights
from .pretrained_part import Part, open_part, resolve_folder
from .processor_files import save_generation_config
from .shared_templates import CONSTANT
from .source_system import Settings, SourceLayout
from .systems import find_system
from .tokens import add_image_token, ensure_pad_token, image_token_of, padded_vocabulary
from .weights import Account, high_res_rules, low_res_rules

RECORD = "import.json"
_SECTIONS = {"vision_config": "low_res", "high_res_vision_config": "high_res", "text_config": "text"}


@dataclass(frozen=True)
class Source:
    """An import's inputs: the original, its key layout, its config settings, its text side and further towers."""

    part: Part
    layout: SourceLayout
    settings: Settings
    tokens: Any
    chat_template: str
    low_res: Part | None
    high_res: Part | None


@dataclass(frozen=True)
class Fit:
    """A recipe that fits the weights, with the model's config and the source of every tensor."""

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
    low_res_weights: str | Path | None = None,
    high_res_weights: str | Path | None = None,
    dtype: str | torch.dtype | None = None,
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write a checkpoint that `AutoModelForImageTextToText` and `AutoProcessor` load.

    Args:
        source: The original: a folder, or `owner/name` or `owner/name@revision` on the Hub.
        output: Folder to write; it must not exist unless `overwrite` is set.
        system: Key of the system in `systems.SYSTEMS`.
        recipe: Recipe of the checkpoint's size; by default the system's first recipe that fits the weights.
        low_res: Settings of the low-res tower that neither the recipe nor the source gives.
        high_res: Of the high-res tower, likewise.
        text: Of the language model, likewise.
        config: Of `FilaConfig`, likewise.
        image_processor: Of `FilaImageProcessor`, likewise.
        tokenizer: Folder or Hub id of the tokenizer, if the source's tokenizer needs remote code.
        low_res_weights: Checkpoint of the low-res tower alone, in transformers' names, if the original was saved
            without its frozen tower.
        high_res_weights: Of the high-res tower, likewise.
        dtype: dtype of all weights; by default the widest that the source stores.
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
    inputs = [source, tokenizer, low_res_weights, high_res_weights]
    with written_atomically(output, overwrite=overwrite, inputs=inputs) as folder:
        scratch = folder / "pickled.partial"
        part = open_source(source, scratch)
        names = found.recipes if recipe is None else (recipe,)
        settings = found.settings(part.config)
        # must run before vocabulary rows are counted; all recipes of a system share one prompt format
        own = part.folder if tokenizer is None else resolve_folder(tokenizer)[1]
        with naming_damage(own):
            tokens, template = _text_side(own, part, load_recipe(names[0]), settings)
        opened = Source(
            part=part,
            layout=found.layout_of(part.tensors, part.name),
            settings=settings,
            tokens=tokens,
            chat_template=template,
            low_res=None if low_res_weights is None else open_part(low_res_weights),
            high_res=None if high_res_weights is None else open_part(high_res_weights),
        )
        fit = _first_fit(names, opened, given, config or {})
        values_dtype = chosen or stored_dtype(part)

        towers = [fit.config.vision_config, fit.config.high_res_vision_config, *fit.config.extra_vision_configs]
        for section in (fit.config, fit.config.text_config, *towers):
            if section is not None:
                section.dtype = values_dtype
        fit.config.preprocessing = _save_processor(folder, fit, opened, image_processor or {})
        fit.config.save_pretrained(folder)
        _save_card(folder, output.name, fit, opened)
        write_json(folder / RECORD, _record(found.name, fit, opened))
        write_weights(folder, fit.account.streams, dtype=values_dtype, shard_bytes=shard_bytes, progress=progress)
        shutil.rmtree(scratch, ignore_errors=True)
    return output


def open_source(source: str | Path, scratch: Path) -> Part:
    """Open an original checkpoint; pickled weights are converted into `scratch` first."""
    part = open_part(source, weights=False)
    if not any(part.folder.glob("*.safetensors")):  # pickles on the Hub are downloaded only here
        resolve_folder(source, pickles=True)
    if not has_pickled_weights(part.folder):
        return open_part(source)
    tensors = read_pickled_weights(part.folder, scratch, part.name)
    return Part(part.name, part.folder, part.config, tensors, part.card)


def layout_rules(layout: SourceLayout, config: FilaConfig) -> list[Rule]:
    """Return all key rules of a layout for a model of `config`."""
    templates, drops = layout.templates(config), list(layout.drops(config))
    if config.tie_word_embeddings:
        (head,) = [rule for rule in templates if isinstance(rule, Pair) and rule.target == "lm_head.weight"]
        drops.append(Drop(head.source, "the head is the input embedding, by the source's own config"))
    return [*drops, *templates]


def _first_fit(names: Sequence[str], source: Source, given: Mapping[str, Any], changes: Mapping[str, Any]) -> Fit:
    """Return the first recipe whose model and the source's tensors match one to one."""
    errors = []
    for name in names:
        recipe = load_recipe(name)
        try:
            return _fit(recipe, _config(recipe, source, given, changes), source)
        except RuntimeError as error:
            errors.append(f"{name}: {error}")
    raise RuntimeError(f"{source.part.name} fits none of the recipes of this system. " + " | ".join(errors))


def _config(recipe: Recipe, source: Source, given: Mapping[str, Any], changes: Mapping[str, Any]) -> FilaConfig:
    made, settings, tokens = config_settings(recipe), source.settings, source.tokens
    for section, field in _SECTIONS.items():
        whole, change = getattr(settings, field), given[section]
        if whole is not None:
            options = {"tower_options": kept} if (kept := (made[section] or {}).get("tower_options")) else {}
            made[section] = {**options, **whole}
        if change is not None:
            made[section] = replaced(made[section] or {}, change, section)
    image_token = image_token_of(tokens, recipe.processor["image_token"])
    made |= {**settings.config, **changes, "image_token_id": tokens.convert_tokens_to_ids(image_token)}
    if video_token := recipe.processor.get("video_token"):
        made["video_token_id"] = tokens.convert_tokens_to_ids(video_token)
    made |= {"architectures": ["FilaForConditionalGeneration"], "auto_map": dict(AUTO_MAP)}
    return FilaConfig(**made)


def _fit(recipe: Recipe, config: FilaConfig, source: Source) -> Fit:
    part, name = source.part, "model.language_model.embed_tokens.weight"
    rules = layout_rules(source.layout, config)
    embedding = [move.source for move in apply_rules(part.tensors, rules, name=part.name).moves if move.target == name]
    if not embedding:
        raise RuntimeError(f"{part.name} has no input embedding.")
    rows = padded_vocabulary(source.tokens, part.tensors[embedding[0]].shape[0])
    config.text_config.vocab_size = rows
    model = model_on_meta(config)
    account = Account()
    account.add_part(part, rules, extended={name: rows, "lm_head.weight": rows})
    if source.low_res is not None:
        account.add_part(source.low_res, low_res_rules(model))
    if source.high_res is not None:
        account.add_part(source.high_res, high_res_rules(source.high_res, model))
    expected = stored_shapes(model)
    check_targets({key: stream.shape for key, stream in account.streams.items()}, expected, origin=account.origin)
    account.streams = {key: account.streams[key] for key in expected}
    return Fit(recipe, config, model, account)


def _text_side(source: Path, part: Part, recipe: Recipe, settings: Settings) -> tuple[Any, str]:
    """Return the tokenizer with all prompt tokens added, and the chat template; the source's code is not run."""
    try:
        tokens = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (ValueError, OSError, KeyError, ImportError) as error:
        if not (source / "tokenizer.json").is_file():
            raise ValueError(
                f"{part.name if source == part.folder else source.name} has no tokenizer that loads without code of "
                f"its own ({error}). Pass `tokenizer`, a folder or Hub id with a tokenizer.json."
            ) from error
        tokens = PreTrainedTokenizerFast.from_pretrained(source)
    tokens.init_kwargs.pop("auto_map", None)
    special = [AddedToken(token, special=True, normalized=False) for token in recipe.special_tokens]
    tokens.add_tokens(special, special_tokens=True)  # existing tokens keep their ids
    image_token = image_token_of(tokens, recipe.processor["image_token"])
    add_image_token(tokens, image_token)
    ensure_pad_token(tokens, image_token)
    chosen = choose_chat_template(
        tokens,
        image_token,
        own=part.read_json("chat_template.json").get("chat_template"),
        of_system=lambda own: chat_template(recipe, own=own, image_token=image_token, **settings.prompt),
        media_end=MEDIA_END,
    )
    return tokens, chosen


def _save_processor(folder: Path, fit: Fit, source: Source, images: Mapping[str, Any]) -> dict[str, Any]:
    """Write processor and generation config; the processor gets the settings that the weights were trained with."""
    settings = {**source.settings.image_processor, **images}
    made = processor(
        fit.recipe, fit.config, source.tokens, image_processor=settings, chat_template=source.chat_template
    )
    made.save_pretrained(folder)
    save_generation_config(folder, source.part, fit.config, source.tokens, chat_template=source.chat_template)
    trained: dict[str, Any] = made.preprocessing()
    return trained


def _save_card(folder: Path, name: str, fit: Fit, source: Source) -> None:
    roles = {"low-res tower": source.low_res, "high-res tower": source.high_res}
    parts = {"the rest" if any(roles.values()) else "the whole model": source.part, **roles}
    entries = [
        PartEntry(role, part.name, trained=True, license=part.license)
        for role, part in parts.items()
        if part is not None
    ]
    intro = f"{fit.recipe.system} in the code of `fila`, made by `fila import` out of {source.part.name}."
    write_model_card(folder, name=name, parts=entries, dropped=fit.account.dropped, intro=intro)


def _record(system: str, fit: Fit, source: Source) -> dict[str, Any]:
    """Return the facts about the source that `export_checkpoint` needs."""
    part = source.part
    plan = apply_rules(part.tensors, layout_rules(source.layout, fit.config), name=part.name)
    by_token = {"model.language_model.embed_tokens.weight", "lm_head.weight"}
    return {
        "system": system,
        "recipe": fit.recipe.name,
        "source": part.name,
        "layout": source.layout.name,
        "config": json.loads(json.dumps(dict(part.config))),
        "rows": {move.source: part.tensors[move.source].shape[0] for move in plan.moves if move.target in by_token},
        "left_behind": sorted(key for key, reason in plan.dropped.items() if reason != CONSTANT),
    }
