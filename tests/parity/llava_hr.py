# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""LLaVA-HR @ 1212ffb: adapter, final align, and both towers joined."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from fila import FilaConfig, FilaVisionModel
from fila.modeling.fusion_mixture_of_resolution import FinalAlign, ResolutionAdapter
from tests.parity.golden import Comparison, Golden, load, read


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The source's fast_* and slow_* are low_* and high_* here."""
    return {key.replace("fast_", "low_").replace("slow_", "high_"): value for key, value in state.items()}


def square(tokens: torch.Tensor) -> tuple[int, int]:
    side = math.isqrt(tokens.shape[1])
    assert side * side == tokens.shape[1]
    return side, side


def adapter(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    state = renamed(golden.state())
    low_size, high_size = state["high_proj.weight"].shape[:2]
    for case in golden.cases("fast"):
        low, high = golden[f"{case}fast"], golden[f"{case}slow"]
        module = ResolutionAdapter(low_size, high_size, square(low))
        load(module, state)
        gates: list[torch.Tensor] = []
        module.gate.register_forward_hook(lambda module, inputs, output, gates=gates: gates.append(output))
        yield f"{case}out", module(low, high), golden[f"{case}out"]
        if f"{case}gate_tanh" in golden:
            yield f"{case}gate_tanh", torch.tanh(gates[0]), golden[f"{case}gate_tanh"]


def final_align(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    state = renamed(golden.state())
    low_size, high_size = state["high_proj.weight"].shape
    for case in golden.cases("fast"):
        low, high = golden[f"{case}fast"], golden[f"{case}slow"]
        module = FinalAlign(low_size, high_size, square(low))
        load(module, state)
        yield f"{case}out", module(low, high), golden[f"{case}out"]


def convnext_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The source's copy of timm to our names."""
    rules = (
        (r"stem\.0\.", "embeddings.patch_embeddings."),
        (r"stem\.1\.", "embeddings.layernorm."),
        (r"stages\.(\d+)\.downsample\.", r"encoder.stages.\1.downsampling_layer."),
        (r"stages\.(\d+)\.blocks\.(\d+)\.conv_dw\.", r"encoder.stages.\1.layers.\2.dwconv."),
        (r"stages\.(\d+)\.blocks\.(\d+)\.norm\.", r"encoder.stages.\1.layers.\2.layernorm."),
        (r"stages\.(\d+)\.blocks\.(\d+)\.mlp\.fc(\d)\.", r"encoder.stages.\1.layers.\2.pwconv\3."),
        (r"stages\.(\d+)\.blocks\.(\d+)\.(?:weight|gamma)$", r"encoder.stages.\1.layers.\2.layer_scale_parameter"),
    )
    found = {}
    for key, value in state.items():
        for pattern, target in rules:
            if re.match(pattern, key):
                found[re.sub(pattern, target, key)] = value.flatten(1) if "mlp.fc" in key and value.ndim > 1 else value
                break
        else:
            assert key.startswith("head."), key
    return found


def norm_eps(said: str) -> float:
    """`depths 1,1,2,1 dims 8,12,16,24 eps 1e-6 ls` says 1e-6."""
    found = re.search(r"eps ?(\d[\d.e-]*)", said)
    assert found is not None, said
    return float(found[1])


def tower_config(golden: Golden, side: int, taps: list[int] | None) -> FilaConfig:
    """Both towers and the fusion for inputs of `side` pixels, sizes read from the weights."""
    clip, convnext = golden.state(CLIP), golden.state(CONVNEXT)
    patch = clip["embeddings.patch_embedding.weight"].shape[-1]
    trained = patch * math.isqrt(len(clip["embeddings.position_embedding.weight"]) - 1)
    layers = 1 + max(int(key.split(".")[2]) for key in clip if key.startswith("encoder.layers."))
    heads = re.search(r"(\d+) heads", golden.metadata["clip"])
    assert heads is not None
    blocks = [key.split(".") for key in convnext if key.endswith("conv_dw.bias")]
    depths = [sum(block[1] == str(stage) for block in blocks) for stage in range(4)]
    return FilaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": len(clip["embeddings.class_embedding"]),
            "intermediate_size": len(clip["encoder.layers.0.mlp.fc1.bias"]),
            "num_hidden_layers": layers,
            "num_attention_heads": int(heads[1]),
            "image_size": trained,
            "patch_size": patch,
            "layer_norm_eps": norm_eps(golden.metadata["clip"]),
            "hidden_act": "quick_gelu" if "quick_gelu" in golden.metadata["clip"] else "gelu",
            "tower_options": {"positions": "bicubic_antialias", "prefix": "drop"},
        },
        high_res_vision_config={
            "model_type": "convnext",
            "hidden_sizes": [len(convnext[f"stages.{stage}.blocks.0.conv_dw.bias"]) for stage in range(4)],
            "depths": depths,
            "tower_options": {"norm_eps": norm_eps(golden.metadata["convnext"])},
        },
        fusion={"type": "mixture_of_resolution"} | ({} if taps is None else {"taps": taps}),
        vision_feature_layer=-1,
        tile_size=max(int(side / 32 * patch), trained),
        high_res_tile_size=side,
        low_res_views="corners",
    )


CLIP = "fast_vision_tower.vision_tower.vision_model."
CONVNEXT = "slow_vision_tower.vision_tower."


def tower_weights(golden: Golden, *, adapters: bool) -> dict[str, torch.Tensor]:
    """The source's weights under the names of `FilaVisionModel`."""
    clip = golden.state(CLIP)
    unread = ("post_layernorm.", "embeddings.class_embedding")  # the source computes CLS and drops it
    found = {f"low_res_tower.{key}": value for key, value in clip.items() if not key.startswith(unread)}
    found |= {f"high_res_tower.{key}": value for key, value in convnext_state(golden.state(CONVNEXT)).items()}
    final = renamed(golden.state("align_stages.0."))
    found |= {f"fusion.final.{key}": value for key, value in final.items()}
    if adapters:
        latent = renamed(golden.state("align_stages_latent."))
        found |= {f"fusion.layers.{key}": value for key, value in latent.items()}
    return found


def tower(path: Path) -> Iterator[Comparison]:
    """Positions resampled, CLS left out, low-res views drawn out of the high-res image: the source's whole tower."""
    golden = read(path)
    for key in golden.cases(".out"):
        side, adapters = (int(number) for number in re.findall(r"\d+", key))
        out = golden[f"{key}.out"]
        x = golden.tensors.get(f"{side}.x")
        if x is None:
            seed = int(golden.tensors.get(f"{side}.x_seed", torch.tensor(side)))
            x = torch.randn(len(out), 3, side, side, generator=torch.Generator().manual_seed(seed))
        model = FilaVisionModel(tower_config(golden, side, None if adapters else []))
        load(model, tower_weights(golden, adapters=bool(adapters)))
        if f"{side}.slow_last" in golden and not adapters:
            high = model.high_res_tower
            yield f"{side}.slow_last", high.run_stages(high.embed(x), 0, 4), golden[f"{side}.slow_last"]
        low_side = model.config.tile_size
        features = model(
            torch.zeros(len(x), 1, 3, low_side, low_side),
            torch.tensor([[[0, 0, low_side, low_side]]]).expand(len(x), -1, -1),
            torch.ones(len(x), 2, dtype=torch.int64),
            high_res_pixel_values=x,
            high_res_sizes=torch.tensor([[side, side]]).expand(len(x), -1),
        )
        yield f"{key}.out", features.last_hidden_state, out
