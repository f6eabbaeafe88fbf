# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Misspelt settings of a config are errors: transformers keeps every key that it is given, and nothing reads it."""

import difflib
from collections.abc import Iterable

from transformers.generation import GenerationConfig

# Keys that transformers itself passes to a config beside its declared fields. Whatever else is unknown is a typo.
TRANSFORMERS_KEYS = {
    "_name_or_path",
    "name_or_path",
    "auto_map",
    "attn_implementation",
    "experts_implementation",
    "torch_dtype",
    "num_labels",
    "output_attentions",
    "quantization_config",
    "per_layer_config",
    "tie_last_hidden_states",
    "model_type",
    "transformers_weights",
    "fuse_mapping",
    "_commit_hash",
    "_attn_implementation",
    "_experts_implementation",
    "_output_attentions",
    "distributed_config",
}


def refuse_unknown_keys(config: str, fields: Iterable[str], given: Iterable[str]) -> None:
    """Check the keys that a config got beside its fields.

    Args:
        config: Name of its class.
        fields: Its settings.
        given: What it got.

    Raises:
        ValueError: If a key is neither a setting nor one that transformers passes.
    """
    own = list(fields)
    for key in unknown_keys(own, given):
        hint = difflib.get_close_matches(key, own, n=1)
        raise ValueError(f"`{config}` has no setting `{key}`" + (f"; did you mean `{hint[0]}`?" if hint else "."))


def refuse_misspelt_keys(config: str, fields: Iterable[str], given: Iterable[str]) -> None:
    """Check the keys that a config of transformers' own got beside its fields.

    A checkpoint of another version of transformers can have keys that this one does not know, and they stay; a key
    that is almost a setting is none of these.

    Args:
        config: What to call it.
        fields: Its settings.
        given: What it got.

    Raises:
        ValueError: If a key is almost a setting.
    """
    own = [name for name in fields if not name.startswith("_")]
    for key in unknown_keys(own, given):
        if not key.startswith("_") and (close := difflib.get_close_matches(key, own, n=1, cutoff=0.9)):
            raise ValueError(f"`{config}` has no setting `{key}`; did you mean `{close[0]}`?")


def unknown_keys(own: Iterable[str], given: Iterable[str]) -> list[str]:
    """Those of the keys `given` that are neither among a config's `own` nor passed by transformers."""
    # generation settings are popped from old config files by transformers
    known = {*own, *TRANSFORMERS_KEYS, *GenerationConfig._get_default_generation_params()}
    return [key for key in given if key not in known]
