# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rejects misspelt settings of a config; transformers would keep every unknown key without reading it."""

import difflib
from collections.abc import Iterable

from transformers.generation import GenerationConfig

# Keys that transformers itself passes to a config besides its declared fields. Any other unknown key is a typo.
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
    """Reject keys of a config that are not its fields.

    Args:
        config: Name of the config's class.
        fields: The config's settings.
        given: The keys that were passed.

    Raises:
        ValueError: If a key is neither a setting nor one that transformers passes.
    """
    own = list(fields)
    for key in unknown_keys(own, given):
        hint = difflib.get_close_matches(key, own, n=1)
        raise ValueError(f"`{config}` has no setting `{key}`" + (f"; did you mean `{hint[0]}`?" if hint else "."))


def refuse_misspelt_keys(config: str, fields: Iterable[str], given: Iterable[str]) -> None:
    """Reject keys that are almost a field of one of transformers' own configs.

    A checkpoint of another version of transformers can have keys that this version does not know; such keys stay.
    A key that is almost a setting is a typo.

    Args:
        config: Name of the config in the message.
        fields: The config's settings.
        given: The keys that were passed.

    Raises:
        ValueError: If a key is almost a setting.
    """
    own = [name for name in fields if not name.startswith("_")]
    for key in unknown_keys(own, given):
        if not key.startswith("_") and (close := difflib.get_close_matches(key, own, n=1, cutoff=0.9)):
            raise ValueError(f"`{config}` has no setting `{key}`; did you mean `{close[0]}`?")


def unknown_keys(own: Iterable[str], given: Iterable[str]) -> list[str]:
    """Return the keys in `given` that are neither in a config's `own` nor passed by transformers."""
    # transformers pops generation settings from old config files
    known = {*own, *TRANSFORMERS_KEYS, *GenerationConfig._get_default_generation_params()}
    return [key for key in given if key not in known]
