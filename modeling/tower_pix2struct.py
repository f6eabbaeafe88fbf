# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pix2Struct's encoder as a high-res tower: one map per view.

Paper: Lee et al., "Pix2Struct: Screenshot Parsing as Pretraining for Visual Language Understanding",
arXiv:2210.03347.
Code: transformers, `models/pix2struct/modeling_pix2struct.py::Pix2StructVisionModel`; the weights keep its names.
EAGLE @ fef95f1, `pix2struct_encoder.py`: undoes the image's normalisation and applies Pix2Struct's own processor.

This file does the processor's work on tensors: it standardises a view by its own mean and deviation, resizes it with
antialiasing and cuts it. The processor fits 2048 patches to an image, 45 x 45 to a square one: `input_size=720`.

Options, in `tower_options` of the tower's config: `patch_size`; `mean` and `std`, the normalisation to undo (CLIP's);
`input_size` and `resize`, the size at which views are encoded, and the rule that resizes them.

Deviation: there are no masked patches that fill the sequence up to 2048.

Shapes: T views, t pixels per side, p pixels per side of a patch, g patches per side, D width.
"""

from types import SimpleNamespace

import torch
from transformers import Pix2StructVisionConfig, Pix2StructVisionModel, PreTrainedConfig

from .image_resize import resize
from .module_gradients import graph_if_needed
from .tower_options import TowerError, cells_per_side, tower_options

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


def pix2struct_options(config: PreTrainedConfig) -> SimpleNamespace:
    """Return the checked options of the tower.

    Raises:
        TowerError: If an option is unknown or the patches do not fit the weights.
    """
    options = tower_options(config, patch_size=16, mean=CLIP_MEAN, std=CLIP_STD, input_size=None, resize="antialias")
    channels = len(options.mean)
    if channels * options.patch_size**2 != config.patch_embed_hidden_size or len(options.std) != channels:
        raise TowerError(
            f"Tower 'pix2struct_vision_model' projects patches of {config.patch_embed_hidden_size} numbers; "
            f"`patch_size` {options.patch_size} in its `tower_options` with {channels} channels gives "
            f"{channels * options.patch_size**2}."
        )
    return options


def flattened_patches(views: torch.Tensor, patch: int) -> torch.Tensor:
    """Return row, column (both from 1) and pixels of each patch, channels fastest.

    Args:
        views: `(T, C, S, S)` float.
        patch: p.

    Returns:
        `(T, g * g, 2 + p * p * C)`.
    """
    grid = views.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # (T, C, g, p, g, p)
    pixels = grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    side = views.shape[-1] // patch
    numbers = torch.arange(1, side + 1, device=views.device, dtype=views.dtype)
    places = torch.stack(torch.meshgrid(numbers, numbers, indexing="ij"), dim=-1).flatten(0, 1)
    return torch.cat([places.expand(views.shape[0], -1, -1), pixels], dim=2)


def standardised(views: torch.Tensor, mean: list[float], std: list[float]) -> torch.Tensor:
    """Undo a normalisation of `(T, C, H, W)` and give each view zero mean and unit deviation, in float32."""
    views = views.float()
    like = views.new_tensor(std)[:, None, None], views.new_tensor(mean)[:, None, None]
    pixels = (views * like[0] + like[1]) * 255
    centre = pixels.mean(dim=(1, 2, 3), keepdim=True)
    deviation = pixels.std(dim=(1, 2, 3), keepdim=True).clamp(min=pixels[0].numel() ** -0.5)
    return (pixels - centre) / deviation


class Pix2StructTower(Pix2StructVisionModel):
    """Pix2Struct's encoder.

    Args:
        config: The `Pix2StructVisionConfig`.
    """

    encodes_views: bool = True

    def __init__(self, config: Pix2StructVisionConfig) -> None:
        super().__init__(config)
        self.options = pix2struct_options(config)

    @classmethod
    def is_custom_code(cls) -> bool:
        """Keep transformers from skipping Pix2Struct's own init rules."""
        return False

    @staticmethod
    def count_stages(config: PreTrainedConfig) -> int:
        """Return 1: the tower has one stage."""
        return 1

    @staticmethod
    def stage_shape(config: PreTrainedConfig, stage: int, tile: int) -> tuple[int, int]:
        """Return (channels, cells per side) of the map of a view of `tile` pixels."""
        side = cells_per_side(config, tile, patch=pix2struct_options(config).patch_size)
        most = min(config.seq_len - 1, 256)
        if side > most:
            raise TowerError(f"Tower 'pix2struct_vision_model' takes at most {most} rows of patches; got {side}.")
        return config.hidden_size, side

    @graph_if_needed
    def forward(self, views: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Encode views `(T, 3, t, t)` of the high-res canvas: one map `(T, D, g, g)`."""
        size = self.options.input_size or views.shape[-1]
        drawn = resize(standardised(views, self.options.mean, self.options.std), (size, size), self.options.resize)
        patches = flattened_patches(drawn, self.options.patch_size)
        patches = patches.to(self.embeddings.row_embedder.weight.dtype)  # integers up to 256 are exact in bfloat16
        hidden_states = self.encoder(self.embeddings(patches), attention_mask=None).last_hidden_state
        side = size // self.options.patch_size
        features: torch.Tensor = self.layernorm(hidden_states).transpose(1, 2).unflatten(2, (side, side))
        return features
