# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rules for VAR's own checkpoints: the tokenizer (vae_ch160v4096z32) and the transformers (var_d16 to var_d36).

Code: FoundationVision/VAR @ 78b9539, `models/vqvae.py`, `quant.py`, `var.py`. Names inside the encoder, the decoder
    and the blocks are the source's. The phis lose the name of their sharing mode. Tensors that follow from the config
    are dropped.
"""

from .key_rules import Drop, Pair, Rule

_BLOCK = (
    "attn.scale_mul_1H11",
    "attn.q_bias",
    "attn.v_bias",
    "attn.mat_qkv.{leaf}",
    "attn.proj.{leaf}",
    "ffn.fc1.{leaf}",
    "ffn.fc2.{leaf}",
    "ada_gss",
)
_OUTSIDE = ("pos_start", "pos_1LC", "word_embed.{leaf}", "class_emb.{leaf}", "lvl_embed.{leaf}", "head.{leaf}")


def quantizer_rules(source: str = "", target: str = "", *, keep_hits: bool = True) -> list[Rule]:
    """Return the rules for a `VectorQuantizer2` whose keys begin with `source`.

    Args:
        source: Prefix in the source, with its dot.
        target: Prefix in the model, with its dot.
        keep_hits: Whether the statistics of hits have the model's number of scales.
    """
    hits: Rule = Pair(f"{source}ema_vocab_hit_SV", f"{target}code_hits")
    if not keep_hits:
        hits = Drop(f"{source}ema_vocab_hit_SV", "statistics of the hits of another number of scales")
    return [
        Pair(f"{source}embedding.weight", f"{target}embedding.weight"),
        hits,
        Pair(f"{source}quant_resi.qresi_ls.{{i}}.{{leaf}}", f"{target}phis.{{i}}.{{leaf}}"),
        Pair(f"{source}quant_resi.{{i}}.{{leaf}}", f"{target}phis.{{i}}.{{leaf}}"),
        Pair(f"{source}quant_resi.qresi.{{leaf}}", f"{target}phis.0.{{leaf}}"),  # one phi for all scales
    ]


def tokenizer_rules(target: str = "", *, keep_hits: bool = True) -> list[Rule]:
    """Return the rules for a `VQVAE`: the weights of `VarVQModel`, whose keys begin with `target` in the model."""
    names = ("encoder.{rest}", "decoder.{rest}", "quant_conv.{leaf}", "post_quant_conv.{leaf}")
    return [
        *(Pair(name, f"{target}{name}") for name in names),
        *quantizer_rules("quantize.", f"{target}quantize.", keep_hits=keep_hits),
    ]


def transformer_rules() -> list[Rule]:
    """Return the rules for a `VAR`: the weights of `VarForImageGeneration` except those of its tokenizer."""
    same = (*_OUTSIDE, *(f"blocks.{{i}}.{name}" for name in _BLOCK))
    modulated = ("shared_ada_lin", "head_nm.ada_lin", "blocks.{i}.ada_lin")
    return [
        Drop("lvl_1L", "the level of each token follows from the patch numbers"),
        Drop("attn_bias_for_masking", "the mask follows from the patch numbers"),
        Drop("blocks.{i}.attn.zero_k_bias", "keys have no bias: it is zero"),
        *(Pair(name, name) for name in same),
        *(Pair(f"{name}.1.{{leaf}}", f"{name}.{{leaf}}") for name in modulated),
    ]
