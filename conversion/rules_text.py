# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rules and config of the language model: any causal language model of transformers."""

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from .key_rules import Drop, Pair, Rule
from .pretrained_part import Part

TARGET = "model.language_model."


def text_config(part: Part) -> PreTrainedConfig:
    """Read the language model's config.

    Raises:
        ValueError: If transformers does not know its type, or it is not a language model of LLaMA's layout.
    """
    # Keys with an underscore are internal to transformers; some choose the code that runs.
    values = {key: value for key, value in part.config.items() if not key.startswith("_")}
    model_type = values.pop("model_type", None)
    if model_type is None:
        raise ValueError(f"The text part {part.name} has no `model_type` in its config.json.")
    try:
        config = AutoConfig.for_model(model_type, **values)
    except ValueError as error:
        raise ValueError(
            f"The text part {part.name} has model_type {model_type!r}, unknown to transformers."
        ) from error
    plain = config.get_text_config() is config and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    if not plain or not hasattr(_causal_lm(config).base_model, "embed_tokens"):
        raise ValueError(
            f"The text part {part.name} is a {model_type!r} model. It must be a plain causal language model that "
            "keeps its input embedding as `embed_tokens`, as LLaMA, Mistral and Qwen do."
        )
    return config


def text_rules(*, base_prefix: str, tied: bool) -> list[Rule]:
    """Return the rules for a causal language model.

    Args:
        base_prefix: Name of the base model inside the causal one, `model` for LLaMA.
        tied: Whether the output head shares the input embedding's weight.
    """
    rules: list[Rule] = [Drop("{rest}.rotary_emb.inv_freq", "a constant that is computed, not stored")]
    if tied:
        rules.append(Drop("lm_head.weight", "the head is the input embedding, by the part's own config"))
    rules.append(Pair("lm_head.{rest}", "lm_head.{rest}"))
    # a base model that was saved alone has no prefix
    return [*rules, Pair(f"{base_prefix}.{{rest}}", f"{TARGET}{{rest}}"), Pair("{rest}", f"{TARGET}{{rest}}")]


def text_base_prefix(config: PreTrainedConfig) -> str:
    """Return the name of the base model inside the causal language model of `config`, `model` for LLaMA."""
    return str(_causal_lm(config).base_model_prefix)


def _causal_lm(config: PreTrainedConfig) -> PreTrainedModel:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)
