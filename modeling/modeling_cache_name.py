# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The two names of the language model's cache: `past_key_values`, and `cache` in newer transformers.

A caller may use either name on every version. Language models, `generate` and outputs use the name of their version.
Newer language models accept the older name too and warn about it.
"""

from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast

CACHE_NAME = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"


def named_cache(cache: Cache | None, past_key_values: Cache | None) -> dict[str, Cache | None]:
    """Return the caller's cache under the argument name that the language model expects.

    Raises:
        ValueError: If a cache is given under both names.
    """
    if past_key_values is None:
        return {CACHE_NAME: cache}
    if cache is None:
        return {"past_key_values": past_key_values}
    raise ValueError(
        "`cache` and `past_key_values` are two names of one argument, and both hold a cache; pass one of them. "
        f"`generate` of this version takes `{CACHE_NAME}`."
    )
