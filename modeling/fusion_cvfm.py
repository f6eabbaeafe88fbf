# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""CVFM, the ConvNeXt-ViT deep fusion module of FILA.

Paper: Zhu et al., "FILA: Fine-Grained Vision Language Models", arXiv:2412.08378. No code was published.

    C = align(map of ConvNeXt stage i under the view's box)      resized to the (g, g) patch grid
    L <- L + MLP([norm(L) ; norm(C)])                            L: patch features of the low-res tower, (T, P, D)

after layers 2, 6, 12 and 20 of a 24-layer ViT, with stages 1, 2, 3 and 4 of a ConvNeXt that saw the whole canvas.

Deviations: secondary sources give only L <- MLP([L ; C]). Residual, norms, initialisation, the alignment operator and
the treatment of CLS are our choices, each an option; the reasons are in docs/decisions.md.

Shapes: T views, N prefix tokens (CLS), P patches, D low-res width, E width of the tap's stage, s cells per side, g
patches per side.
"""

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN

from .configuration_fila import FilaConfig
from .fusion_align import Align
from .fusion_taps import checked_taps, layers_at, split_prefix
from .part_options import one_of
from .tower_options import TowerError
from .towers import last_stages, stage_shape
from .view_layout import ViewLayout


class CvfmLayer(nn.Module):
    """CVFM's layer at one tap."""

    def __init__(
        self,
        low_size: int,
        high_size: int,
        *,
        align: Align,
        hidden_size: int,
        act: str,
        residual: str,
        norm: bool,
        cls: str,
    ) -> None:
        super().__init__()
        self.align = align
        self.residual = residual
        self.cls = cls
        self.norm_low = nn.LayerNorm(low_size) if norm else nn.Identity()
        self.norm_high = nn.LayerNorm(high_size) if norm else nn.Identity()
        self.fc1 = nn.Linear(low_size + high_size, hidden_size)
        self.act = ACT2FN[act]
        self.fc2 = nn.Linear(hidden_size, low_size)
        self.gate = nn.Parameter(torch.zeros(1)) if residual == "gate" else None

    def set_initial_weights(self, std: float) -> None:
        """Make the layer start as the identity if it adds to the features."""
        if self.residual == "add":
            init.zeros_(self.fc2.weight)
        if self.gate is not None:
            init.zeros_(self.gate)

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        aligned = self.align(high.to(low.dtype)).flatten(2).transpose(1, 2)
        prefix, patches = split_prefix(low, aligned.shape[1])
        if self.cls == "mean" and prefix.shape[1]:
            mean = aligned.mean(dim=1, keepdim=True).expand(-1, prefix.shape[1], -1)
            prefix, patches, aligned = prefix[:, :0], low, torch.cat([mean, aligned], dim=1)
        update = self.fc1(torch.cat([self.norm_low(patches), self.norm_high(aligned)], dim=-1))
        update = self.fc2(self.act(update))
        if self.gate is not None:
            update = torch.tanh(self.gate) * update
        fused = update if self.residual == "none" else patches + update
        return torch.cat([prefix, fused], dim=1)


class CvfmFusion(nn.Module):
    """FILA's fusion at several taps.

    Args:
        config: The `FilaConfig`.
        taps: Layers of the low-res tower, counted from 1, after which to fuse; 2, 6, 12, 20 of 24 and the same
            fractions of other depths by default.
        stages: Stage of the high-res tower for each tap, counted from 1; by default the last stages of the first
            high-res tower, one per tap.
        align: Rule that resizes a view's part of the map to the patch grid: `conv`, `pool` or `bilinear`.
        residual: `add` (starts as the identity: the MLP's last layer is zero), `gate` (times tanh of a scalar that
            starts at zero), or `none` (the bare equation of the secondary sources).
        norm: Whether each input of the MLP is layer-normalised.
        cls: `skip` leaves the prefix tokens alone, `mean` fuses them with the mean of the view's map.
        hidden_size: Width of the MLP's hidden layer; the low-res width by default.
        hidden_act: Activation of the MLP.

    Raises:
        ValueError: If taps and stages do not fit the towers or each other, or a choice is unknown.
    """

    taps: tuple[tuple[int, int], ...]
    final_stages: tuple[tuple[int, ...], ...] = ()
    output_size: int
    output_grid: tuple[int, int]
    joins_views = False
    needs_high_res_tower = True
    takes_cls = False
    takes_unequal_views = False
    tokens_are_places = True
    _no_split_modules = ("CvfmLayer",)

    def __init__(
        self,
        config: FilaConfig,
        *,
        taps: list[int] | None = None,
        stages: list[int] | None = None,
        align: str = "conv",
        residual: str = "add",
        norm: bool = True,
        cls: str = "skip",
        hidden_size: int | None = None,
        hidden_act: str = "gelu",
    ) -> None:
        super().__init__()
        one_of("fusion.residual", residual, ("add", "gate", "none"))
        one_of("fusion.cls", cls, ("skip", "mean"))
        if hidden_act not in ACT2FN:
            raise ValueError(f"`fusion.hidden_act` must be an activation that transformers knows; got {hidden_act!r}.")
        layers = layers_at(config, (2 / 24, 6 / 24, 12 / 24, 20 / 24), taps)
        if stages is None:
            count = last_stages(config)[0]
            if count < len(layers):
                tower = config.high_res_vision_config.model_type
                raise TowerError(
                    f"Fusion 'cvfm' reads as many stages as it has taps, {len(layers)}; tower {tower!r} has {count}. "
                    "Set `fusion.taps` and `fusion.stages`, or choose a fusion that joins the towers after the last "
                    "layer."
                )
            stages = list(range(1, count + 1))[-len(layers) :]
        self.taps = checked_taps(config, layers, stages)
        low_size: int = config.vision_config.hidden_size
        self.output_size = low_size
        self.output_grid = config.patch_grid
        shapes = [stage_shape(config, stage) for stage in stages]
        self.layers = nn.ModuleList(
            CvfmLayer(
                low_size,
                channels,
                align=Align(align, channels=channels, side=side, grid=config.patch_grid[0]),
                hidden_size=hidden_size or low_size,
                act=hidden_act,
                residual=residual,
                norm=norm,
                cls=cls,
            )
            for channels, side in shapes
        )

    def fuse(self, tap: int, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Map `(low (T, N + P, D), high (T, E, s, s)) -> (T, N + P, D)`."""
        fused: torch.Tensor = self.layers[tap](low, high)
        return fused

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Return the features `(T, P, D)` unchanged."""
        return low
