# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rejects impossible sizes when a config is made; later they would cause divisions by zero."""

import difflib
from collections.abc import Iterable
from typing import cast

from transformers.activations import ACT2FN

# One number, or one per stage or axis; None if another setting decides.
_COUNTS = (
    "base_channels",
    "channel_multipliers",
    "code_size",
    "codebook_size",
    "d_ff",
    "d_kv",
    "d_model",
    "depths",
    "head_dim",
    "hidden_size",
    "hidden_sizes",
    "image_size",
    "intermediate_size",
    "mlp_dim",
    "norm_groups",
    "num_attention_heads",
    "num_channels",
    "num_classes",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_phis",
    "num_stages",
    "output_channels",
    "patch_nums",
    "patch_size",
    "patch_embed_hidden_size",
    "pretrain_image_size",
    "rope_grid",
    "vocab_size",
)
_ACTIVATIONS = ("activation_function", "dense_act_fn", "hidden_act", "hidden_activation")


def refuse_impossible_values(section: str, config: object) -> None:
    """Check the sizes and activations of a config, this package's or transformers'.

    Args:
        section: Name of the config in the message.
        config: The config; settings that it lacks are skipped.

    Raises:
        ValueError: If a size is below 1, or an activation is unknown; the message names the setting.
    """
    for name in _COUNTS:
        value = _setting(config, name)
        numbers = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(number, int | float) and number < 1 for number in numbers):
            raise ValueError(f"`{section}.{name}` must be at least 1; got {value}.")
    for name in _ACTIVATIONS:
        value = _setting(config, name)
        if isinstance(value, str) and value not in ACT2FN:
            close = difflib.get_close_matches(value, list(ACT2FN), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise ValueError(f"`{section}.{name}` must be an activation that transformers knows; got {value!r}{hint}")


def _setting(config: object, name: str) -> object:
    """Return a setting; None if the config lacks it or sets it per layer."""
    name = getattr(config, "attribute_map", {}).get(name, name)
    if getattr(config, "is_heterogeneous", False) and name not in iter(cast("Iterable[str]", config)):
        return None
    return getattr(config, name, None)
