# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""EVA-02 in its form for detection as a high-res tower: one map per view.

Paper: Fang et al., "EVA-02: A Visual Representation for Neon Genesis", arXiv:2303.11331; windows after Li et al.,
arXiv:2203.16527.
Code: NVlabs/EAGLE @ fef95f1, `vision_models/eva_vit.py::EVAViT`; the weights keep its names. transformers has no such
model.

Most layers attend within windows, some over the whole view. A window that reaches over the edge is filled with zeros,
which attend too, as in the source. Rotary positions are those of `rope_grid` patches per side, spread over the window
or the view: half of a head's channels rotate with the row, half with the column. No final norm.

Options, in `tower_options` of the tower's config: `unshuffle` (r x r cells become the channels of one, channel
slowest), `input_size` and `resize` (the size at which views are encoded, and the rule that resizes them).

Shapes: T views, t pixels per side, g patches per side, D width, d width of a head.
"""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_eva02 import Eva02Config
from .image_resize import resize
from .module_gradients import graph_if_needed
from .tower_options import TowerError, cells_per_side, tower_options
from .tower_positions import add_positions

Angles = tuple[torch.Tensor, torch.Tensor]  # cosine and sine, `(patches, d)`


def eva02_options(config: PreTrainedConfig) -> SimpleNamespace:
    """Return the checked options of the tower.

    Raises:
        TowerError: If an option or its value is not accepted.
    """
    options = tower_options(config, unshuffle=1, input_size=None, resize="corners")
    if options.unshuffle < 1:
        raise TowerError(f"`tower_options.unshuffle` must be at least 1; got {options.unshuffle}.")
    return options


def rotary_angles(side: int, grid: int, width: int, device: torch.device) -> Angles:
    """Return cosine and sine of each patch's rotation.

    Args:
        side: Patches per side.
        grid: Patches per side that the frequencies are defined for.
        width: Channels of a head; divisible by 4.
        device: Device of the result.

    Returns:
        Two `(side * side, width)` float32; neighbouring channels rotate together.
    """
    steps = torch.arange(0, width // 2, 2, device=device, dtype=torch.float32) / (width // 2)
    places = torch.arange(side, device=device, dtype=torch.float32) / side * grid
    axis = (places[:, None] * (1.0 / 10000**steps)).repeat_interleave(2, dim=1)
    rows, cols = axis[:, None].expand(-1, side, -1), axis[None].expand(side, -1, -1)
    angles = torch.cat([rows, cols], dim=-1).flatten(0, 1)
    return angles.cos(), angles.sin()


def rotate(tokens: torch.Tensor, angles: Angles) -> torch.Tensor:
    """Rotate `(..., patches, d)` by the angles."""
    even, odd = tokens.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-odd, even], dim=-1).flatten(-2)
    return (tokens * angles[0] + turned * angles[1]).to(tokens.dtype)


def to_windows(features: torch.Tensor, size: int) -> torch.Tensor:
    """Cut `(T, g, g, D)` into windows `(T * n * n, size, size, D)`; zeros fill windows beyond the edge."""
    missing = -features.shape[1] % size
    padded = F.pad(features, (0, 0, 0, missing, 0, missing))
    number = padded.shape[1] // size
    cut = padded.unflatten(2, (number, size)).unflatten(1, (number, size))
    return cut.transpose(2, 3).flatten(0, 2)


def from_windows(windows: torch.Tensor, side: int) -> torch.Tensor:
    """Undo `to_windows`: `(T, side, side, D)`."""
    size = windows.shape[1]
    number = -(-side // size)
    grid = windows.unflatten(0, (-1, number, number)).transpose(2, 3)
    return grid.flatten(3, 4).flatten(1, 2)[:, :side, :side]


class Eva02Attention(nn.Module):
    """Attention with rotary positions; queries and values have a bias, keys have none."""

    def __init__(self, config: Eva02Config) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, features: torch.Tensor, angles: Angles) -> torch.Tensor:
        """Map `(T, g, g, D) -> (T, g, g, D)`."""
        tokens = features.flatten(1, 2)
        query, key, value = self.q_proj(tokens) + self.q_bias, self.k_proj(tokens), self.v_proj(tokens) + self.v_bias
        query, key, value = (x.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for x in (query, key, value))
        attended = F.scaled_dot_product_attention(rotate(query, angles), rotate(key, angles), value)
        projected: torch.Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return projected.view_as(features)


class Eva02Mlp(nn.Module):
    """SwiGLU with a norm inside."""

    def __init__(self, config: Eva02Config) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.w2 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.ffn_ln = nn.LayerNorm(config.intermediate_size, eps=config.layer_norm_eps)
        self.w3 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        update: torch.Tensor = self.w3(self.ffn_ln(F.silu(self.w1(features)) * self.w2(features)))
        return update


class Eva02Block(GradientCheckpointingLayer):
    """One transformer layer.

    Args:
        config: The `Eva02Config`.
        window_size: Patches per side of a window; 0: attention over the whole view.
    """

    def __init__(self, config: Eva02Config, window_size: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attn = Eva02Attention(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = Eva02Mlp(config)

    def forward(self, features: torch.Tensor, everywhere: Angles, windowed: Angles) -> torch.Tensor:
        """Map `(T, g, g, D) -> (T, g, g, D)`, with the angles of a whole view and of a window."""
        normed = self.norm1(features)
        if self.window_size:
            update = from_windows(self.attn(to_windows(normed, self.window_size), windowed), features.shape[1])
        else:
            update = self.attn(normed, everywhere)
        features = features + update
        return features + self.mlp(self.norm2(features))


class Eva02PatchEmbed(nn.Module):
    """The patch convolution."""

    def __init__(self, config: Eva02Config) -> None:
        super().__init__()
        self.proj = nn.Conv2d(
            config.num_channels, config.hidden_size, kernel_size=config.patch_size, stride=config.patch_size
        )

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Map `(T, 3, S, S) -> (T, D, g, g)`."""
        features: torch.Tensor = self.proj(views.to(self.proj.weight.dtype))
        return features


class Eva02Tower(PreTrainedModel):
    """EVA-02 with windows.

    Args:
        config: The `Eva02Config`.
    """

    config_class = Eva02Config
    base_model_prefix = "eva02"
    main_input_name = "pixel_values"
    input_modalities = ("image",)  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    encodes_views: bool = True
    _no_split_modules = ["Eva02Block"]  # noqa: RUF012
    _supports_sdpa = True

    def __init__(self, config: Eva02Config) -> None:
        super().__init__(config)
        self.options = eva02_options(config)
        trained = config.pretrain_image_size // config.patch_size
        self.patch_embed = Eva02PatchEmbed(config)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + trained * trained, config.hidden_size))
        self.blocks = nn.ModuleList(
            Eva02Block(config, 0 if index in config.global_attn_indexes else config.window_size)
            for index in range(config.num_hidden_layers)
        )
        self.post_init()

    @classmethod
    def is_custom_code(cls) -> bool:
        """Keep transformers from skipping the init rule below."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Eva02Tower):
            init.normal_(module.pos_embed, std=self.config.initializer_range)
        elif isinstance(module, Eva02Attention):
            init.zeros_(module.q_bias)
            init.zeros_(module.v_bias)

    @staticmethod
    def count_stages(config: PreTrainedConfig) -> int:
        """Return 1: the tower has one stage."""
        return 1

    @staticmethod
    def stage_shape(config: PreTrainedConfig, stage: int, tile: int) -> tuple[int, int]:
        """Return (channels, cells per side) of the map of a view of `tile` pixels."""
        times = eva02_options(config).unshuffle
        return config.hidden_size * times**2, cells_per_side(config, tile, patch=config.patch_size, unshuffle=times)

    def get_input_embeddings(self) -> nn.Module:
        """Return the patch embedding."""
        return self.patch_embed

    @graph_if_needed
    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Encode views `(T, 3, t, t)` of the high-res canvas: one map `(T, E, s, s)`."""
        size = self.options.input_size or views.shape[-1]
        patches = self.patch_embed(resize(views, (size, size), self.options.resize))
        side = patches.shape[-1]
        # the table's first row belongs to a CLS token, which only pre-training has
        tokens = add_positions(patches.flatten(2).transpose(1, 2), self.pos_embed[0, 1:], "bicubic", (side, side))
        features = tokens.unflatten(1, (side, side))
        grid, width = self.config.rope_grid, self.config.hidden_size // self.config.num_attention_heads
        everywhere = rotary_angles(side, grid, width, features.device)
        windowed = rotary_angles(self.config.window_size, grid, width, features.device)
        for block in self.blocks:
            features = block(features, everywhere, windowed)
        return F.pixel_unshuffle(features.permute(0, 3, 1, 2), self.options.unshuffle)
