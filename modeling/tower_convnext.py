# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""ConvNeXt tower (v1 and v2), run a stage at a time.

Papers: Liu et al., "A ConvNet for the 2020s", arXiv:2201.03545; Woo et al., "ConvNeXt V2", arXiv:2301.00808.
Code: transformers, `models/convnext` and `models/convnextv2`; the weights keep their names.

Deviations from transformers' classes, none in the arithmetic: each block can be checkpointed; the tower leaves out
stages that nothing reads and the pooled norm.

Options, in `tower_options` of the tower's config:

- `norm_eps`: epsilon of the norms, which transformers fixes at 1e-6 (open_clip's XXL, in LLaVA-HR-X, EAGLE and Eagle2:
  1e-5).
- `encodes`: `canvas`, or `views`: each high-res view alone, so that none sees its neighbour at a border (Eagle2).
- For `views`: `input_size` and `resize`, the size at which views are encoded, and the rule that resizes them.

The tower packs maps of several sizes: all their cells are in one tensor. So every module is called once, with one
tensor, for any batch of canvases. Sharded training (FSDP2, ZeRO-3) needs that: it gathers weights at every call, and
all processes must make the same calls. It also makes the pointwise layers, most of the work, one matrix product.

Shapes: N canvases, C channels, (h, w) cells of a stage's map, M cells of all maps together.
"""

import math
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .image_resize import resize
from .module_gradients import graph_if_needed
from .part_options import one_of
from .tower_options import TowerError, cells_per_side, tower_options

NORM_EPS = 1e-6
Shape = tuple[int, int, int]  # (N, h, w) of one map
Maps = torch.Tensor | tuple[torch.Tensor, ...]  # one map `(N, C, h, w)`, or several that may differ in N, h and w


def convnext_options(config: PreTrainedConfig) -> SimpleNamespace:
    """Return the checked options of the tower.

    Raises:
        ValueError: If an option or its value is not accepted.
    """
    options = tower_options(config, norm_eps=NORM_EPS, encodes="canvas", input_size=None, resize="corners")
    one_of("tower_options.encodes", options.encodes, ("canvas", "views"))
    if options.input_size is not None and options.encodes == "canvas":
        raise TowerError(
            "`tower_options.input_size` is the size of single views, and this ConvNeXt encodes whole canvases. Set "
            "`encodes` to 'views', or drop it."
        )
    return options


def norm_eps(config: PreTrainedConfig) -> float:
    """Return the epsilon of a ConvNeXt's norms."""
    return float(convnext_options(config).norm_eps)


def as_tuple(maps: Maps) -> tuple[torch.Tensor, ...]:
    """Return several maps unchanged, and one map as a tuple of one."""
    return maps if isinstance(maps, tuple) else (maps,)


def pack(maps: Iterable[torch.Tensor]) -> tuple[torch.Tensor, list[Shape]]:
    """Concatenate the cells of maps `(N, C, h, w)` to `(M, C)`, and return the shapes for `unpack`."""
    by_cell = [features.permute(0, 2, 3, 1) for features in maps]
    shapes = [(cells.shape[0], cells.shape[1], cells.shape[2]) for cells in by_cell]
    flat = [cells.flatten(0, 2) for cells in by_cell]
    return flat[0] if len(flat) == 1 else torch.cat(flat), shapes


def unpack(cells: torch.Tensor, shapes: list[Shape]) -> tuple[torch.Tensor, ...]:
    """Split `(M, C)` into the maps `(N, C, h, w)` that were packed; they are views, channels last in memory."""
    parts = cells.split([math.prod(shape) for shape in shapes])
    return tuple(part.unflatten(0, shape).permute(0, 3, 1, 2) for part, shape in zip(parts, shapes, strict=True))


def strided(shapes: list[Shape], stride: int) -> list[Shape]:
    """Return the shapes of maps after a convolution whose kernel equals its stride."""
    return [(number, height // stride, width // stride) for number, height, width in shapes]


class PackedConv2d(nn.Conv2d):
    """A convolution of packed maps, map by map."""

    def forward(self, cells: torch.Tensor, shapes: list[Shape] | None = None) -> torch.Tensor:  # type: ignore[override]
        if shapes is None:
            raise TowerError(
                "A convolution of a ConvNeXt tower was called like a plain one, as adapters call theirs; it needs the "
                "shapes of the maps. Adapt the tower's linear layers instead: `fila.training.scopes.lora_config` "
                "names them, and no convolution."
            )
        convolve = super().forward
        return pack(convolve(features) for features in unpack(cells, shapes))[0]


class GlobalResponseNorm(nn.Module):
    """Global response normalisation of ConvNeXt V2 over packed maps, map by map."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, 1, dim))
        self.bias = nn.Parameter(torch.zeros(1, 1, 1, dim))

    def set_initial_weights(self, std: float) -> None:
        """Make the norm start as the identity."""
        init.zeros_(self.weight)
        init.zeros_(self.bias)

    def forward(self, cells: torch.Tensor, shapes: list[Shape]) -> torch.Tensor:
        maps = (features.permute(0, 2, 3, 1) for features in unpack(cells, shapes))
        return pack(self._normalise(features).permute(0, 3, 1, 2) for features in maps)[0]

    def _normalise(self, features: torch.Tensor) -> torch.Tensor:
        """Map `(N, h, w, C) -> (N, h, w, C)`."""
        norm = torch.linalg.vector_norm(features, ord=2, dim=(1, 2), keepdim=True)
        scale = norm / (norm.mean(dim=-1, keepdim=True) + 1e-6)
        return self.weight * (features * scale) + self.bias + features


class ConvNextBlock(GradientCheckpointingLayer):
    """One residual block on packed maps `(M, C)`."""

    def __init__(self, config: PreTrainedConfig, dim: int, drop_path: float) -> None:
        super().__init__()
        self.dwconv = PackedConv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.layernorm = nn.LayerNorm(dim, eps=norm_eps(config))
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = ACT2FN[config.hidden_act]
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.drop_path = drop_path
        layer_scale = getattr(config, "layer_scale_init_value", 0)  # ConvNeXt V2 has no layer scale
        self.layer_scale_init_value = layer_scale
        self.layer_scale_parameter = nn.Parameter(layer_scale * torch.ones(dim)) if layer_scale > 0 else None
        self.grn = GlobalResponseNorm(4 * dim) if config.model_type == "convnextv2" else None

    def set_initial_weights(self, std: float) -> None:
        """Set the scale of the block's update."""
        if self.layer_scale_parameter is not None:
            init.constant_(self.layer_scale_parameter, self.layer_scale_init_value)

    def forward(self, cells: torch.Tensor, shapes: list[Shape]) -> torch.Tensor:
        update = self.act(self.pwconv1(self.layernorm(self.dwconv(cells, shapes))))
        if self.grn is not None:
            update = self.grn(update, shapes)
        update = self.pwconv2(update)
        if self.layer_scale_parameter is not None:
            update = self.layer_scale_parameter * update
        if self.training and self.drop_path > 0:  # stochastic depth, arXiv:1603.09382: canvas by canvas
            keep = [
                update.new_empty(number).bernoulli_(1 - self.drop_path).repeat_interleave(height * width)
                for number, height, width in shapes
            ]
            update = update * torch.cat(keep)[:, None] / (1 - self.drop_path)
        fused: torch.Tensor = cells + update
        return fused


class ConvNextStage(nn.Module):
    """A downsampling layer (except in the first stage) and its blocks, on packed maps."""

    def __init__(self, config: PreTrainedConfig, index: int, drop_path: list[float]) -> None:
        super().__init__()
        dim = config.hidden_sizes[index]
        self.downsampling_layer = nn.ModuleList()
        if index > 0:
            previous = config.hidden_sizes[index - 1]
            self.downsampling_layer.append(nn.LayerNorm(previous, eps=norm_eps(config)))
            self.downsampling_layer.append(PackedConv2d(previous, dim, kernel_size=2, stride=2))
        self.layers = nn.ModuleList(ConvNextBlock(config, dim, rate) for rate in drop_path)

    def forward(self, cells: torch.Tensor, shapes: list[Shape]) -> torch.Tensor:
        """Run the stage on packed cells; `shapes` are those of the input maps."""
        if self.downsampling_layer:
            norm, conv = self.downsampling_layer
            cells = conv(norm(cells), shapes)
        shapes = self.shapes_after(shapes)
        for layer in self.layers:
            cells = layer(cells, shapes)
        return cells

    def shapes_after(self, shapes: list[Shape]) -> list[Shape]:
        """Return the shapes of the output maps."""
        return strided(shapes, 2) if self.downsampling_layer else shapes


class ConvNextEmbeddings(nn.Module):
    """The stem, a patch convolution and a norm, on packed canvases."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.patch_embeddings = PackedConv2d(
            config.num_channels, config.hidden_sizes[0], kernel_size=config.patch_size, stride=config.patch_size
        )
        self.layernorm = nn.LayerNorm(config.hidden_sizes[0], eps=norm_eps(config))

    def forward(self, pixels: torch.Tensor, shapes: list[Shape]) -> torch.Tensor:
        embedded: torch.Tensor = self.layernorm(self.patch_embeddings(pixels, shapes))
        return embedded


class ConvNextEncoder(nn.Module):
    """Container of the stages; the tower runs them one by one."""

    def __init__(self, config: PreTrainedConfig, num_stages: int) -> None:
        super().__init__()
        # The rates are those of the whole network, even if only a part is kept.
        rates = torch.linspace(0, config.drop_path_rate, sum(config.depths), device="cpu").tolist()
        starts = [sum(config.depths[:i]) for i in range(len(config.depths) + 1)]
        self.stages = nn.ModuleList(
            ConvNextStage(config, i, rates[starts[i] : starts[i + 1]]) for i in range(num_stages)
        )


class ConvNextTower(nn.Module):
    """ConvNeXt without head, one stage at a time.

    Args:
        config: A `ConvNextConfig` or `ConvNextV2Config`.
        num_stages: Stages to keep, counted from the input.
    """

    encodes_views = False
    _no_split_modules = ("ConvNextBlock",)

    def __init__(self, config: PreTrainedConfig, num_stages: int) -> None:
        super().__init__()
        if not 1 <= num_stages <= len(config.depths):
            raise ValueError(
                f"The high-res tower has stages 1..{len(config.depths)}; the fusion reads stage {num_stages}."
            )
        self.config = config
        self.options = convnext_options(config)
        self.encodes_views = self.options.encodes == "views"
        self.embeddings = ConvNextEmbeddings(config)
        self.encoder = ConvNextEncoder(config, num_stages)

    @staticmethod
    def count_stages(config: PreTrainedConfig) -> int:
        """Return the number of stages of the whole network."""
        return len(config.depths)

    @staticmethod
    def stage_shape(config: PreTrainedConfig, stage: int, tile: int) -> tuple[int, int]:
        """Return (channels, cells per side) of a stage's map (from 1) for a view of `tile` pixels."""
        stride = int(config.patch_size * 2 ** (stage - 1))
        if convnext_options(config).encodes == "views":
            return config.hidden_sizes[stage - 1], cells_per_side(config, tile, patch=stride)
        if tile % stride:
            raise TowerError(
                f"`high_res_tile_size` must be a multiple of {stride}, the stride of stage {stage} of the high-res "
                f"tower; got {tile}."
            )
        return config.hidden_sizes[stage - 1], tile // stride

    def stride(self, stage: int) -> int:
        """Return the pixels per side of one cell of the map of `stage` (counted from 1)."""
        return int(self.config.patch_size * 2 ** (stage - 1))

    @graph_if_needed
    def embed(self, canvases: Maps) -> Maps:
        """Turn canvases `(N, 3, H, W)`, of one size or several, into the input of the first stage."""
        dtype = self.embeddings.patch_embeddings.weight.dtype
        pixels, shapes = pack(pixels.to(dtype) for pixels in as_tuple(canvases))
        maps = unpack(self.embeddings(pixels, shapes), strided(shapes, self.config.patch_size))
        return maps if isinstance(canvases, tuple) else maps[0]

    @graph_if_needed
    def run_stages(self, maps: Maps, start: int, stop: int) -> Maps:
        """Run stages `start` (inclusive, from 0) to `stop` (exclusive); each input map gives one output map."""
        cells, shapes = pack(as_tuple(maps))
        stage: Any
        for stage in self.encoder.stages[start:stop]:
            cells = stage(cells, shapes)
            shapes = stage.shapes_after(shapes)
        results = unpack(cells, shapes)
        return results if isinstance(maps, tuple) else results[0]

    @graph_if_needed
    def forward(self, views: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Encode single views `(T, 3, t, t)`: one map `(T, C, s, s)` per stage."""
        size = self.options.input_size or views.shape[-1]
        maps = [self.embed(resize(views, (size, size), self.options.resize))]
        for stage in range(len(self.encoder.stages)):
            maps.append(self.run_stages(maps[-1], stage, stage + 1))
        return tuple(cast("list[torch.Tensor]", maps[1:]))
