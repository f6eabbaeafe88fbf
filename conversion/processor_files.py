# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Processor and generation config of an assembled checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from fila.modeling.configuration_fila import FilaConfig
from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.modeling.tower_pix2struct import pix2struct_options
from fila.processing.canvas import as_options, build_canvas
from fila.processing.image_processing_fila import FilaImageProcessorPil
from fila.processing.layout import Layout
from fila.processing.processing_fila import FilaProcessor
from fila.systems.chat_templates import TURN_END
from fila.systems.compatibility import fitting_settings

from .pretrained_part import Part

_OF_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


def normalization(part: Part, config: PreTrainedConfig) -> dict[str, Any]:
    """Return the image mean and standard deviation that the part was trained with, if its files give them.

    Pix2Struct's tower undoes the normalisation in its tower options, so this normalisation is returned for it.
    """
    if config.model_type == "pix2struct_vision_model":
        options = pix2struct_options(config)
        return {"image_mean": list(options.mean), "image_std": list(options.std)}
    # newer transformers writes the image settings into the processor's file, if it exists
    together = part.read_json("processor_config.json").get("image_processor", {})
    values = part.read_json("preprocessor_config.json") or together
    if "image_mean" not in values:
        settings = part.config.get("pretrained_cfg") or part.config.get("preprocess_cfg") or {}
        values = {"image_mean": settings.get("mean"), "image_std": settings.get("std")}
    found = {key: values.get(key) for key in ("image_mean", "image_std")}
    return {key: list(value) for key, value in found.items() if isinstance(value, list)}


def save_processor(
    folder: Path,
    model: FilaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    *,
    chat_template: str,
    image_token: str,
    canvas: Mapping[str, Any] | str | None,
    low_res: Part,
    high_res: Part | None,
) -> dict[str, Any]:
    """Write a processor with the model's sizes and tokens per tile and the parts' image normalisations.

    Returns:
        The processor's settings, which the model's config stores.

    Raises:
        ValueError: If the model does not support the canvas.
    """
    config = model.config
    side, high_side = config.tile_size, config.high_res_tile_size
    settings: dict[str, Any] = {
        "size": {"height": side, "width": side},
        "high_res_size": None if high_side is None else {"height": high_side, "width": high_side},
        **normalization(low_res, config.vision_config),
    }
    if canvas is not None:
        own = {} if build_canvas(canvas, (side, side)).equal_views else {"patch_size": config.patch_size}
        settings["canvas"] = {**own, **as_options(canvas)}
    if high_res is not None:
        found = normalization(high_res, config.high_res_vision_config)
        settings |= {f"high_res_{name}": value for name, value in found.items()}
    images = FilaImageProcessorPil(**settings)
    processor = FilaProcessor(
        images,
        tokenizer,
        chat_template=chat_template,
        image_token=image_token,
        **fitting_settings(config, images, Layout()),
    )
    processor.save_pretrained(folder)
    settings_of_pixels: dict[str, Any] = processor.preprocessing()
    return settings_of_pixels


def save_generation_config(
    folder: Path, text: Part, config: FilaConfig, tokenizer: PreTrainedTokenizerBase, *, chat_template: str
) -> None:
    """Write the language model's generation settings, and add the chat template's end of turn as a stop token.

    The settings also suppress the placeholders.
    """
    if (text.folder / "generation_config.json").is_file():
        generation = GenerationConfig.from_pretrained(text.folder)
    else:
        generation = GenerationConfig.from_model_config(config.text_config)
    generation._from_model_config = False
    if generation.do_sample is not True:  # sampling settings then have no effect and are not saved
        defaults = GenerationConfig()
        for name in _OF_SAMPLING:
            setattr(generation, name, getattr(defaults, name))
    own = generation.eos_token_id
    stops = [] if own is None else list(own) if isinstance(own, list) else [own]
    stops.append(tokenizer.eos_token_id)
    if TURN_END in chat_template and TURN_END in tokenizer.get_vocab():
        stops.append(tokenizer.convert_tokens_to_ids(TURN_END))
    stops = [stop for stop in dict.fromkeys(stops) if stop is not None]
    generation.eos_token_id = stops[0] if len(stops) == 1 else stops or None
    generation.pad_token_id = tokenizer.pad_token_id
    generation.suppress_tokens = sorted({*(generation.suppress_tokens or ()), *config.placeholder_ids()})
    generation.save_pretrained(folder)
