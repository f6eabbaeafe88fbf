# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""LLaVA-HR @ 1212ffb: adapter, final align, and both towers joined."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from fila import FilaConfig
from fila.modeling.fusion_mixture_of_resolution import FinalAlign, MixtureOfResolutionFusion, ResolutionAdapter
from fila.modeling.resize import resize_corners
from fila.modeling.tower_clip import ClipTower
from fila.modeling.tower_convnext import ConvNextTower
from fila.modeling.view_layout import ViewLayout
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
            "image_size": max(int(side / 32 * patch), trained),
            "patch_size": patch,
            "hidden_act": "quick_gelu" if "quick_gelu" in golden.metadata["clip"] else "gelu",
        },
        high_res_vision_config={
            "model_type": "convnext",
            "hidden_sizes": [len(convnext[f"stages.{stage}.blocks.0.conv_dw.bias"]) for stage in range(4)],
            "depths": depths,
        },
        fusion={"type": "mixture_of_resolution"} | ({} if taps is None else {"taps": taps}),
        vision_feature_layer=-1,
        high_res_tile_size=side,
    )


CLIP = "fast_vision_tower.vision_tower.vision_model."
CONVNEXT = "slow_vision_tower.vision_tower."


def patch_tokens(tower: ClipTower, pixels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The source's input of the first layer: positions resampled with antialiasing, no CLS before the first norm."""
    patches = tower.embeddings.patch_embedding(pixels)
    side = math.isqrt(len(positions) - 1)
    table = positions[1:].T.unflatten(1, (side, side))[None]
    if patches.shape[-1] != side:
        table = F.interpolate(table, size=patches.shape[-2:], mode="bicubic", antialias=True, align_corners=False)
    return tower.pre_layrnorm((patches + table).flatten(2).transpose(1, 2))


def tower(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    for key in golden.cases(".out"):
        side, adapters = (int(number) for number in re.findall(r"\d+", key))
        out = golden[f"{key}.out"]
        x = golden.tensors.get(f"{side}.x")
        if x is None:
            seed = int(golden.tensors.get(f"{side}.x_seed", torch.tensor(side)))
            x = torch.randn(len(out), 3, side, side, generator=torch.Generator().manual_seed(seed))
        config = tower_config(golden, side, None if adapters else [])
        low_tower = ClipTower._from_config(config.vision_config)
        clip = golden.state(CLIP)
        positions = clip.pop("embeddings.position_embedding.weight")
        clip = {name: value for name, value in clip.items() if not name.startswith("post_layernorm.")}
        missing, unexpected = low_tower.load_state_dict(clip, strict=False)
        assert (missing, unexpected) == (["embeddings.position_embedding.weight"], [])
        high_tower = ConvNextTower(config.high_res_vision_config, 4)
        load(high_tower, convnext_state(golden.state(CONVNEXT)))
        fusion = MixtureOfResolutionFusion(config, **{k: v for k, v in config.fusion.items() if k != "type"})
        weights = {f"final.{name}": value for name, value in renamed(golden.state("align_stages.0.")).items()}
        if adapters:
            latent = renamed(golden.state("align_stages_latent."))
            weights |= {f"layers.{name}": value for name, value in latent.items()}
        load(fusion, weights)

        high = high_tower.run_stages(high_tower.embed(x), 0, 4)
        if f"{side}.slow_last" in golden and not adapters:
            yield f"{side}.slow_last", high, golden[f"{side}.slow_last"]
        low_side = config.vision_config.image_size
        low = patch_tokens(low_tower.eval(), resize_corners(x, (low_side, low_side)), positions)
        done = 0
        for tap, (layer, _) in enumerate(fusion.taps):
            low = fusion.fuse(tap, low_tower.run_layers(low, done, layer), high)
            done = layer
        low = low_tower.run_layers(low, done, low_tower.num_layers)
        layout = ViewLayout((1,) * len(x), ((1, 1),) * len(x))
        yield f"{key}.out", fusion.finish(low, (high,), layout), out
