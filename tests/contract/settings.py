# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A tiny model with each fusion and each connector, and a processor that fits it.

Every entry of a table is tried with its default options. Only what would be slow or cannot fit has other options here.
"""

from typing import Any

from fila import FilaForConditionalGeneration, FilaProcessor
from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE
from tests.helpers import SPECIALS, single_tower, tiny_config, tiny_image_processor, tiny_tokenizer

FUSION_CHANGES: dict[str, dict[str, Any]] = {
    "multi_encoder_queries": {
        "fusion": {
            "type": "multi_encoder_queries",
            "num_queries": 7,
            "hidden_size": 12,
            "key_size": 17,
            "num_layers": 3,
            "num_heads": 3,
        }
    },
    "none": single_tower(),
}
# features of the language model's width
EQUAL_WIDTHS: dict[str, Any] = {
    "text_config": {
        "model_type": "llama",
        "hidden_size": 20,
        "intermediate_size": 31,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": len(SPECIALS) + 256,
        "max_position_embeddings": 4096,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 4,
    }
}
CONNECTOR_CHANGES: dict[str, dict[str, Any]] = {
    "codebook": {
        "connector": {"type": "codebook", "codebook_size": 31, "code_size": 6, "patch_nums": [1, 2, 4]},
    },
    **dict.fromkeys(("identity", "spatial_conv", "spatial_pool"), EQUAL_WIDTHS),
    "window_qformer": {
        "connector": {
            "type": "window_qformer",
            "query_side": 1,
            "window_side": 2,
            "intermediate_size": 17,
            "dropout": 0.0,
        }
    },
    **{name: {"connector": {"type": name, "depth": 1, "image_frames": 3}} for name in ("stc", "stc_v35", "stp")},
}


def fusion_settings(name: str) -> dict[str, Any]:
    """Settings for `tiny_config`."""
    return FUSION_CHANGES.get(name, {"fusion": {"type": name}})


def connector_settings(name: str) -> dict[str, Any]:
    """Settings for `tiny_config`."""
    return {"connector": {"type": name}} | CONNECTOR_CHANGES.get(name, {})


def fitting_processor(model: FilaForConditionalGeneration, **changes: Any) -> FilaProcessor:
    """The processor for a tiny model."""
    settings = {} if model.config.high_res_vision_config is not None else {"high_res_size": None}
    return FilaProcessor(
        tiny_image_processor(**(settings | changes)),
        tiny_tokenizer(),
        chat_template=DEFAULT_CHAT_TEMPLATE,
        tokens_per_tile=model.model.tokens_per_tile,
    )


def configs() -> dict[str, Any]:
    """A tiny config for every entry of both tables, by `family-name`."""
    from fila.modeling.connector import CONNECTORS
    from fila.modeling.fusion import FUSIONS

    families = (("fusion", FUSIONS, fusion_settings), ("connector", CONNECTORS, connector_settings))
    return {f"{family}-{name}": tiny_config(**of(name)) for family, table, of in families for name in table}
