# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tiny configs of every causal language model of transformers that can be the text part of a model."""

import dataclasses
import functools
from typing import Any

from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from fila import FilaForConditionalGeneration
from tests.helpers import randomise, single_tower, tiny_config

# Whatever of these a config class has; what acts behind the last hidden state is switched on.
SIZES: dict[str, Any] = {
    "vocab_size": 262,
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 4,
    # heads
    "logits_scaling": 8.0,
    "logit_scale": 0.3,
    "final_logit_softcapping": 3.0,
    "lm_head_multiplier": 0.4,
    "logits_soft_cap": 3.0,
    "embedding_multiplier": 1.7,
    "residual_multiplier": 0.8,
    "unpadded_vocab_size": 262,
    # experts
    "num_local_experts": 4,
    "num_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_k": 2,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 16,
    "expert_ffn_hidden_size": 16,
    "ffn_hidden_size": 24,
    "shared_expert_intermediate_size": 16,
    "shared_intermediate_size": 16,
    "moe_shared_expert_intermediate_size": 16,
    "router_hidden_size": 8,
    # latent attention
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "index_head_dim": 8,
    "index_n_heads": 2,
    "index_topk": 4,
    # layers with a state
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_d_ssm": 64,
    "mamba_chunk_size": 8,
    "chunk_size": 8,
    "lru_width": 32,
    # others
    "hidden_size_per_layer_input": 0,
    "num_kv_shared_layers": 0,
    "num_global_key_value_heads": 2,
    "global_head_dim": 8,
    "sliding_window": 16,
    "attention_window_size": 16,
    "num_kv_heads": 4,
    "d_model": 32,
    "num_layers": 4,
    "ffn_dim": 24,
    "attention_heads": 4,
}

CHANGES: dict[str, dict[str, Any]] = {
    "gemma3n_text": {"hidden_size_per_layer_input": 4},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 2},
    "mimo_v2_flash": {"num_key_value_heads": 2},
    "zaya": {"num_experts_per_tok": 1},
}

# `assemble` does not take them: no plain causal language model, or its embedding has another name.
NO_TEXT_PARTS = """
bart bert bert-generation big_bird bigbird_pegasus blenderbot blenderbot-small bloom blt camembert codegen cpmant
ctrl data2vec-text dbrx dots3_note electra emu3 ernie falcon falcon_mamba fuyu gemma3 gemma3n gemma4
gemma4_assistant gemma4_unified gemma4_unified_assistant git got_ocr2 gpt-sw3 gpt2 gpt_bigcode gpt_neo gpt_neox
gpt_neox_japanese gptj llama4 llama4_text mamba mamba2 marian mbart megatron-bert mllama modernbert-decoder
moss_transcribe_diarize mpt musicgen musicgen_melody mvp nemotron_h openai-gpt opt pegasus plbart prophetnet
qwen3_5 qwen3_5_moe qwen4_exp reformer rembert roberta roberta-prelayernorm roc_bert roformer rwkv trocr whisper
xlm xlm-roberta xlm-roberta-xl xlnet xlstm xmod
""".split()  # noqa: SIM905

# Their config classes have settings of their own that keep them large.
NOT_TINY = """
cohere_compass_text dots3_note_text kimi_linear phi4_multimodal qwen4_exp_text zamba zamba2
""".split()  # noqa: SIM905

FAMILIES = sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - {*NO_TEXT_PARTS, *NOT_TINY})
# None of these may be refused, whatever a newer transformers makes of them.
PLAIN = "cohere cohere2 gemma gemma2 gemma3_text glm granite llama mistral olmo2 phi phi3 qwen2 qwen3 smollm3".split()  # noqa: SIM905


def tiny_text_config(model_type: str, **changes: Any) -> Any:
    """The config of a family, as small as its class allows."""
    config_class = type(AutoConfig.for_model(model_type))
    known = {field.name for field in dataclasses.fields(config_class)} | set(config_class.attribute_map)
    sizes = {name: size for name, size in SIZES.items() if name in known}
    return config_class(**{**sizes, **CHANGES.get(model_type, {}), **changes})


def with_text(config: Any) -> FilaForConditionalGeneration:
    """A model with random weights around a text config, in eval mode."""
    model = FilaForConditionalGeneration(tiny_config(**single_tower(text_config=config))).eval()
    randomise(model)
    return model


@functools.cache
def tiny_family(model_type: str) -> FilaForConditionalGeneration:
    """The model around a family's tiny config; shared, do not change it."""
    return with_text(tiny_text_config(model_type))
