# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Layers that PEFT adapts if a config names none: the attention projections of the language model and no others.

PEFT has such a default by model type. A list of last names, as it has for language models, would adapt the towers too,
which name their layers alike; so ours is a pattern of full names.
"""

import importlib

LORA_DEFAULT = r"(.*\.)?language_model\..*\.(q_proj|v_proj|qkv_proj|query_key_value|c_attn|Wqkv)"


def set_lora_default() -> None:
    """Enter the pattern into PEFT's tables for LoRA, unless an entry is there."""
    constants = importlib.import_module("peft.utils.constants")
    for name, table in vars(constants).items():
        if name.startswith("TRANSFORMERS_MODELS_TO_LORA_TARGET"):
            table.setdefault("fila", LORA_DEFAULT)
