# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Key templates that several original systems share: towers and language models.

Each function takes the piece's prefix in the original and its prefix in our model.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedConfig

from fila.modeling.configuration_fila import FilaConfig

from .key_rules import Drop, KeyTemplate, Pair, Stack, TensorFunction

LOW = "model.vision_tower.low_res_tower."
HIGH = "model.vision_tower.high_res_tower."
FUSION = "model.vision_tower.fusion."
CONNECTOR = "model.multi_modal_projector."
TEXT = "model.language_model."

CONSTANT = "a constant that is computed, not stored"


def extra(number: int) -> str:
    """Return the prefix of a further high-res tower, counted from 0."""
    return f"model.vision_tower.extra_towers.{number}."


def chunked(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """Split a tensor into query, key and value, which it holds one below the other."""
    return tensor.chunk(3)


def stacked(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join query, key and value into one tensor, one below the other."""
    return torch.cat(list(tensors))


def plain(prefix: str, target: str, *names: str) -> list[KeyTemplate]:
    """Return the rule for keys that differ only in their prefix."""
    return [Pair(prefix + name, target + name) for name in names]


def clip(prefix: str, target: str = LOW) -> list[KeyTemplate]:
    """Return the rules for a `CLIPVisionModel`."""
    return plain(prefix, target, "embeddings.{rest}", "pre_layrnorm.{leaf}", "encoder.layers.{i}.{rest}")


def clip_drops(prefix: str, config: FilaConfig, *, has_cls: bool = True) -> list[Drop]:
    """Return the drops for a `CLIPVisionModel`: layers after the one that is read, and the pooled CLS token's norm."""
    drops = [
        Drop(f"{prefix}embeddings.position_ids", CONSTANT),
        Drop(f"{prefix}post_layernorm.{{leaf}}", "it norms the pooled CLS token, which nothing reads"),
        *unread(f"{prefix}encoder.layers.", config.num_vision_layers, config.vision_config.num_hidden_layers),
    ]
    if not has_cls:
        drops.append(Drop(f"{prefix}embeddings.class_embedding", "the system drops the CLS token before it is read"))
    return drops


def unread(layers: str, kept: int, depth: int) -> list[Drop]:
    """Return the drops for layers that are not kept; `layers` is the prefix before their number."""
    reason = "a layer behind the one that the connector reads"
    return [Drop(f"{layers}{number}.{{rest}}", reason) for number in range(kept, depth)]


def as_linear(weight: torch.Tensor) -> torch.Tensor:
    """Return the `(out, in)` weight of a linear layer, from `(out, in)` or a 1x1 convolution's `(out, in, 1, 1)`."""
    return weight.reshape(weight.shape[0], -1)


def as_conv(weight: torch.Tensor) -> torch.Tensor:
    """Return the `(out, in, 1, 1)` weight of a 1x1 convolution, from `(out, in)`."""
    return weight.reshape(*weight.shape, 1, 1)


def as_channels_last(vector: torch.Tensor) -> torch.Tensor:
    """Reshape `(C,)` to `(1, 1, 1, C)`."""
    return vector.reshape(1, 1, 1, -1)


def as_vector(tensor: torch.Tensor) -> torch.Tensor:
    """Flatten any shape to `(C,)`."""
    return tensor.reshape(-1)


def convnext(
    prefix: str, target: str = HIGH, *, stem: str, stages: str, scale: str, back: TensorFunction | None = None
) -> list[KeyTemplate]:
    """Return the rules for a ConvNeXt v1 or v2 in timm's names.

    Args:
        prefix: Prefix in the original.
        target: Prefix in our model.
        stem: Name of the stem in the original.
        stages: Name of the stages in the original.
        scale: Name of the layer scale in the original's copy of timm, `gamma` or `weight`.
        back: Function from a linear layer's weight to the original's: `as_conv` if the original has 1x1 convolutions.
    """
    block, layer = f"{prefix}{stages}.{{i}}.blocks.{{j}}.", f"{target}encoder.stages.{{i}}.layers.{{j}}."
    return [
        Pair(f"{prefix}{stem}.0.{{leaf}}", f"{target}embeddings.patch_embeddings.{{leaf}}"),
        Pair(f"{prefix}{stem}.1.{{leaf}}", f"{target}embeddings.layernorm.{{leaf}}"),
        Pair(
            f"{prefix}{stages}.{{i}}.downsample.{{j}}.{{leaf}}",
            f"{target}encoder.stages.{{i}}.downsampling_layer.{{j}}.{{leaf}}",
        ),
        Pair(f"{block}conv_dw.{{leaf}}", f"{layer}dwconv.{{leaf}}"),
        Pair(f"{block}norm.{{leaf}}", f"{layer}layernorm.{{leaf}}"),
        Pair(f"{block}{scale}", f"{layer}layer_scale_parameter"),
        Pair(f"{block}mlp.grn.{{leaf}}", f"{layer}grn.{{leaf}}", as_channels_last, as_vector),
        Pair(f"{block}mlp.fc1.weight", f"{layer}pwconv1.weight", as_linear, back),
        Pair(f"{block}mlp.fc2.weight", f"{layer}pwconv2.weight", as_linear, back),
        Pair(f"{block}mlp.fc1.bias", f"{layer}pwconv1.bias"),
        Pair(f"{block}mlp.fc2.bias", f"{layer}pwconv2.bias"),
    ]


def convnext_drops(prefix: str) -> list[Drop]:
    """Return the drops for what timm's ConvNeXt has after the tower."""
    reason = "the head behind the tower is not used"
    return [Drop(f"{prefix}{name}.{{rest}}", reason) for name in ("head", "norm", "norm_pre")]


def intern_vit(prefix: str, target: str = LOW) -> list[KeyTemplate]:
    """Return the rules for InternViT in OpenGVLab's names."""
    layer, ours = f"{prefix}encoder.layers.{{i}}.", f"{target}encoder.layer.{{i}}."
    names = tuple(f"{ours}attention.{part}_proj." for part in "qkv")
    return [
        Pair(f"{prefix}embeddings.class_embedding", f"{target}embeddings.cls_token"),
        Pair(f"{prefix}embeddings.position_embedding", f"{target}embeddings.position_embeddings"),
        Pair(
            f"{prefix}embeddings.patch_embedding.{{leaf}}", f"{target}embeddings.patch_embeddings.projection.{{leaf}}"
        ),
        Stack(f"{layer}attn.qkv.{{leaf}}", tuple(f"{name}{{leaf}}" for name in names), chunked, stacked),
        Pair(f"{layer}attn.proj.{{leaf}}", f"{ours}attention.projection_layer.{{leaf}}"),
        Pair(f"{layer}attn.q_norm.weight", f"{ours}attention.q_norm.weight"),
        Pair(f"{layer}attn.k_norm.weight", f"{ours}attention.k_norm.weight"),
        Pair(f"{layer}norm1.{{leaf}}", f"{ours}layernorm_before.{{leaf}}"),
        Pair(f"{layer}norm2.{{leaf}}", f"{ours}layernorm_after.{{leaf}}"),
        Pair(f"{layer}ls1", f"{ours}lambda_1"),
        Pair(f"{layer}ls2", f"{ours}lambda_2"),
        Pair(f"{layer}mlp.{{rest}}", f"{ours}mlp.{{rest}}"),
    ]


def llama(prefix: str = "") -> list[KeyTemplate]:
    """Return the rules for a causal language model of LLaMA's layout, Qwen2 and Mistral included."""
    return [
        Pair(f"{prefix}model.embed_tokens.weight", f"{TEXT}embed_tokens.weight"),
        Pair(f"{prefix}model.layers.{{i}}.{{rest}}", f"{TEXT}layers.{{i}}.{{rest}}"),
        Pair(f"{prefix}model.norm.weight", f"{TEXT}norm.weight"),
        Pair(f"{prefix}lm_head.weight", "lm_head.weight"),
    ]


def llama_drops(prefix: str = "") -> list[Drop]:
    """Return the drops for the extra tensors that older transformers stored."""
    return [Drop(f"{prefix}model.{{rest}}.rotary_emb.inv_freq", CONSTANT)]


def intern_lm2(prefix: str, text_config: PreTrainedConfig) -> list[KeyTemplate]:
    """Return the rules for InternLM2, which is LLaMA with query, key and value stacked group by group."""
    heads, groups = text_config.num_attention_heads, text_config.num_key_value_heads
    per_group = heads // groups

    def split(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
        grouped = tensor.unflatten(0, (groups, per_group + 2, -1))
        parts = grouped[:, :per_group], grouped[:, per_group : per_group + 1], grouped[:, per_group + 1 :]
        return [part.flatten(0, 2) for part in parts]

    def join(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        sizes = (per_group, 1, 1)
        parts = [part.unflatten(0, (groups, size, -1)) for part, size in zip(tensors, sizes, strict=True)]
        return torch.cat(parts, dim=1).flatten(0, 2)

    layer, ours = f"{prefix}model.layers.{{i}}.", f"{TEXT}layers.{{i}}."
    return [
        Pair(f"{prefix}model.tok_embeddings.weight", f"{TEXT}embed_tokens.weight"),
        Stack(
            f"{layer}attention.wqkv.weight",
            tuple(f"{ours}self_attn.{part}_proj.weight" for part in "qkv"),
            split,
            join,
        ),
        Pair(f"{layer}attention.wo.weight", f"{ours}self_attn.o_proj.weight"),
        Pair(f"{layer}feed_forward.w1.weight", f"{ours}mlp.gate_proj.weight"),
        Pair(f"{layer}feed_forward.w3.weight", f"{ours}mlp.up_proj.weight"),
        Pair(f"{layer}feed_forward.w2.weight", f"{ours}mlp.down_proj.weight"),
        Pair(f"{layer}attention_norm.weight", f"{ours}input_layernorm.weight"),
        Pair(f"{layer}ffn_norm.weight", f"{ours}post_attention_layernorm.weight"),
        Pair(f"{prefix}model.norm.weight", f"{TEXT}norm.weight"),
        Pair(f"{prefix}output.weight", "lm_head.weight"),
    ]


def llava_projector(prefix: str = "model.mm_projector.") -> list[KeyTemplate]:
    """Return the rules for LLaVA's `mlp2x_gelu`."""
    return [
        Pair(f"{prefix}0.{{leaf}}", f"{CONNECTOR}linear_1.{{leaf}}"),
        Pair(f"{prefix}2.{{leaf}}", f"{CONNECTOR}linear_2.{{leaf}}"),
    ]


def shuffle_projector(prefix: str, target: str = CONNECTOR) -> list[KeyTemplate]:
    """Return the rules for InternVL's `mlp1`: norm, linear layer, activation, linear layer."""
    names = {"0": "norm", "1": "linear_1", "3": "linear_2"}
    return [Pair(f"{prefix}{number}.{{leaf}}", f"{target}{name}.{{leaf}}") for number, name in names.items()]
