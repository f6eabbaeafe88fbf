# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rules for VAR's own checkpoints: the tokenizer (vae_ch160v4096z32) and the transformers (var_d16 to var_d36).

Code: FoundationVision/VAR @ 78b9539, `models/vqvae.py`, `quant.py`, `var.py`. Names inside the encoder, the decoder
and the blocks are the source's; the phis lose the name of their sharing mode, and what follows from the config is
dropped.
"""

from .key_rules import Drop, Rename, Rule

_CONV = r"(weight|bias)"
_MIDDLE = r"mid\.(?:block_[12]\.(?:norm1|conv1|norm2|conv2|nin_shortcut)|attn_1\.(?:norm|qkv|proj_out))"
_LEVEL = (
    r"(?:down|up)\.\d+\.(?:block\.\d+\.(?:norm1|conv1|norm2|conv2|nin_shortcut)"
    r"|attn\.\d+\.(?:norm|qkv|proj_out)|(?:downsample|upsample)\.conv)"
)
_HALF = rf"(?:encoder|decoder)\.(?:conv_in|{_MIDDLE}|{_LEVEL}|norm_out|conv_out)\.(?:weight|bias)"


def quantizer_rules(source: str = "", target: str = "", *, keep_hits: bool = True) -> list[Rule]:
    """Rules for a `VectorQuantizer2` whose keys begin with `source`.

    Args:
        source: Prefix in the source, with its dot.
        target: Prefix in the model, with its dot.
        keep_hits: Whether the statistics of hits have the model's number of scales.
    """
    start = source.replace(".", r"\.")
    hits: Rule = Rename(rf"{start}ema_vocab_hit_SV", f"{target}code_hits")
    if not keep_hits:
        hits = Drop(rf"{start}ema_vocab_hit_SV", "statistics of the hits of another number of scales")
    return [
        Rename(rf"{start}embedding\.weight", f"{target}embedding.weight"),
        hits,
        Rename(rf"{start}quant_resi\.qresi\.{_CONV}", rf"{target}phis.0.\1"),  # one phi for all scales
        Rename(rf"{start}quant_resi\.(?:qresi_ls\.)?(\d+)\.{_CONV}", rf"{target}phis.\1.\2"),
    ]


def tokenizer_rules(target: str = "", *, keep_hits: bool = True) -> list[Rule]:
    """Rules for a `VQVAE`: the weights of `VarVQModel`, whose keys begin with `target` in the model."""
    return [
        Rename(rf"({_HALF})", rf"{target}\1"),
        Rename(r"((?:post_)?quant_conv\.(?:weight|bias))", rf"{target}\1"),
        *quantizer_rules("quantize.", f"{target}quantize.", keep_hits=keep_hits),
    ]


def transformer_rules() -> list[Rule]:
    """Rules for a `VAR`: the weights of `VarForImageGeneration` but for its tokenizer."""
    return [
        Drop(r"lvl_1L", "the level of each token follows from the patch numbers"),
        Drop(r"attn_bias_for_masking", "the mask follows from the patch numbers"),
        Drop(r"blocks\.\d+\.attn\.zero_k_bias", "keys have no bias: it is zero"),
        Rename(r"(pos_start|pos_1LC)", r"\1"),
        Rename(rf"((?:word_embed|class_emb|lvl_embed|head)\.{_CONV})", r"\1"),
        Rename(rf"(?:(shared_ada_lin|head_nm\.ada_lin|blocks\.\d+\.ada_lin)\.1)\.{_CONV}", r"\1.\2"),
        Rename(r"(blocks\.\d+\.ada_gss)", r"\1"),
        Rename(r"(blocks\.\d+\.attn\.(?:scale_mul_1H11|q_bias|v_bias))", r"\1"),
        Rename(rf"(blocks\.\d+\.(?:attn\.(?:mat_qkv|proj)|ffn\.fc[12])\.{_CONV})", r"\1"),
    ]
