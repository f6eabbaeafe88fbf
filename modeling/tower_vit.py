# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Base of the ViT towers: views of any size, groups of layers, and use as a high-res tower.

Options, in `tower_options` of the tower's config:

- `positions`: rule that fits the position table to another patch grid: `bicubic`, `bicubic_antialias` (LLaVA-HR,
  EAGLE) or `buckets` (MiniCPM-V 2.6); None: the rule of transformers' class.
- `prefix`: `keep`, or `drop` to leave CLS and registers out from the first layer on (LLaVA-HR, EAGLE).
- `norm`: whether the final norm is applied. `None` applies it only if the tower keeps its last layer. CLIP's final
  norm acts on the pooled CLS token, so `ClipTower` never applies it.
- `merge_after`: the layer, counted from 1, behind which windows of 2 x 2 patches become one patch, so that the layers
  behind it run on a quarter of the patches (MiniCPM-V 4.6: 7; see `tower_merger.py`). Only without prefix tokens.
- `input_size` and `resize`: the size at which views are encoded, and the rule that resizes them, each alone (Eagle2:
  448 pixels for tiles of another size). `None` keeps the views' size.
- For high-res towers only: `layer`, the layer that is read, counted as `vision_feature_layer`.

Shapes: T views, S pixels per side, N prefix tokens, P patches, L patches of the largest view, D width.
"""

import functools
import math
from types import SimpleNamespace
from typing import Any, ClassVar, Unpack, cast

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.masking_utils import create_bidirectional_mask
from transformers.utils import TransformersKwargs
from transformers.utils.output_capturing import OutputRecorder

from .image_resize import resize
from .module_gradients import graph_if_needed
from .part_options import one_of
from .tower_configs import TOWER_FEATURES
from .tower_options import TowerError, cells_per_side, square, tower_options, whole_patches
from .tower_positions import RULES, patch_mask

OPTIONS: dict[str, Any] = {
    "positions": None,
    "prefix": "keep",
    "norm": None,
    "merge_after": None,
    "input_size": None,
    "resize": "corners",
}
HIGH_RES_OPTIONS: dict[str, Any] = {"layer": -1}


def vit_options(config: PreTrainedConfig) -> SimpleNamespace:
    """Return the checked options of a ViT tower.

    Raises:
        ValueError: If an option or its value is not accepted.
    """
    options = tower_options(config, **OPTIONS, **HIGH_RES_OPTIONS)
    if options.positions is None:
        # match transformers: only DINOv2 with registers uses antialiasing when it interpolates positions
        options.positions = "bicubic_antialias" if hasattr(config, "num_register_tokens") else "bicubic"
    one_of("tower_options.positions", options.positions, RULES)
    one_of("tower_options.prefix", options.prefix, ("keep", "drop"))
    if options.norm not in (None, True, False):
        raise TowerError(f"`tower_options.norm` must be true, false or null; got {options.norm!r}.")
    return options


def has_final_norm(config: PreTrainedConfig, num_layers: int | None) -> bool:
    """Return whether a tower that keeps `num_layers` layers applies its final norm."""
    norm = vit_options(config).norm
    return num_layers in (None, config.num_hidden_layers) if norm is None else bool(norm)


def of_low_res_tower(layer: type[nn.Module], attention: type[nn.Module]) -> dict[str, OutputRecorder]:
    """Return recorders of a low-res tower's layers; they record nothing for a high-res tower of the same class."""
    return {
        "hidden_states": OutputRecorder(layer, layer_name="low_res_tower"),
        "attentions": OutputRecorder(attention, index=1, layer_name="low_res_tower"),
    }


class VitTower:
    """Mixin for a vision model of transformers whose layers the hybrid encoder runs itself.

    The model has a module `embeddings`; its call with `(pixel_values, patch_grids)` returns `(T, N + P, D)`.
    """

    config: Any
    embeddings: Any  # each tower has its own module
    vit_merger: Any  # with `merge_after`
    encodes_views: bool = True
    takes_mask: ClassVar[bool] = True

    @staticmethod
    def num_prefix(config: PreTrainedConfig) -> int:
        """Return N from the config."""
        return 1 if vit_options(config).prefix == "keep" else 0

    @classmethod
    def patch_grid(cls, config: PreTrainedConfig, height: int, width: int) -> tuple[int, int]:
        """Return (rows, cols) of the features of a view of `height` x `width` pixels; see `LowResTower.patch_grid`."""
        options = vit_options(config)
        if options.input_size is not None:
            height = width = options.input_size
        grid = whole_patches(config, height, width)
        if options.merge_after is None:
            return grid
        joined: tuple[int, int] = TOWER_FEATURES["vit_merger"].joined_grid(config, grid, cls.num_prefix(config))
        return joined

    def add_merger(self, config: PreTrainedConfig, num_layers: int | None) -> None:
        """Add the merger of `merge_after`, if there is one, to a tower that keeps `num_layers` layers."""
        if vit_options(config).merge_after is not None:
            self.vit_merger = TOWER_FEATURES["vit_merger"](config, num_layers)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[misc]  # of transformers' model
        if callable(initialise := getattr(module, "set_initial_weights", None)):
            initialise(getattr(self.config, "initializer_range", 0.02))

    @staticmethod
    def count_stages(config: PreTrainedConfig) -> int:
        """Return 1: as a high-res tower a ViT has one stage."""
        return 1

    @classmethod
    def stage_shape(cls, config: PreTrainedConfig, stage: int, tile: int) -> tuple[int, int]:
        """Return (channels, cells per side) of the map of a view of `tile` pixels."""
        window = 1 if vit_options(config).merge_after is None else 2
        return config.hidden_size, cells_per_side(config, tile, patch=square(config, "patch_size"), unshuffle=window)

    @property
    def num_prefix_tokens(self) -> int:
        """N, the number of prefix tokens."""
        return self.num_prefix(self.config)

    @property
    def layers(self) -> nn.ModuleList:
        """Layers that this tower keeps."""
        raise NotImplementedError

    @property
    def final_norm(self) -> nn.Module | None:
        """The norm after the last layer, if it is applied."""
        return None

    @property
    def num_layers(self) -> int:
        """Number of layers that this tower keeps."""
        return len(self.layers)

    @graph_if_needed
    def embed(self, pixel_values: torch.Tensor, patch_grids: torch.Tensor | None = None) -> torch.Tensor:
        """Turn views into the input of the first layer.

        Args:
            pixel_values: `(T, 3, S, S)` float, or `(T, 3, p, L * p)` with the patches of a view side by side.
            patch_grids: `(T, 2)` int, (rows, cols) of each view's patches; only with the second form.

        Returns:
            `(T, N + P, D)`. With `patch_grids` P is L, and rows beyond a view's patches are padding.
        """
        options = vit_options(self.config)
        if options.input_size is not None and patch_grids is None:
            pixel_values = resize(pixel_values, (options.input_size, options.input_size), options.resize)
        hidden_states: torch.Tensor = self.embeddings(pixel_values, patch_grids)
        return hidden_states

    def attention_mask(self, hidden_states: torch.Tensor, patch_grids: torch.Tensor | None) -> torch.Tensor | None:
        """Return the mask that keeps padding out of the attention of `run_layers`; None if there is no padding.

        Args:
            hidden_states: `(T, N + L, D)`.
            patch_grids: `(T, 2)` int, or None.

        Raises:
            TowerError: If there is padding and the tower's layers take no mask.
        """
        if patch_grids is None:
            return None
        mask = patch_mask(patch_grids, hidden_states.shape[1] - self.num_prefix_tokens)
        if bool(mask.all()):
            return None
        if not self.takes_mask:
            raise TowerError(
                f"The layers of tower {self.config.model_type!r} take no mask, and the views of this batch have "
                f"different numbers of patches: {patch_grids.prod(dim=-1).unique().tolist()}. Choose a canvas of "
                "equal views."
            )
        mask = torch.nn.functional.pad(mask.to(hidden_states.device), (self.num_prefix_tokens, 0), value=True)
        made: Any = create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden_states, attention_mask=mask.to(torch.int64)
        )
        return cast("torch.Tensor | None", made)

    @graph_if_needed
    def run_layers(
        self,
        hidden_states: torch.Tensor,
        start: int,
        stop: int,
        attention_mask: torch.Tensor | None = None,
        patch_grids: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """Run layers `start` (inclusive, from 0) to `stop` (exclusive) on `(T, N + P, D)`.

        With `merge_after`, P is a quarter behind that layer, and `attention_mask` and `patch_grids` are those of the
        patches before it; without `patch_grids` all views are squares.
        """
        run = functools.partial(self._run_layers, **kwargs)
        if (merger := getattr(self, "vit_merger", None)) is None:
            return run(hidden_states, start, stop, attention_mask)
        merged: torch.Tensor = merger.run_layers(
            run, self.attention_mask, hidden_states, start, stop, attention_mask, patch_grids
        )
        return merged

    def _run_layers(
        self, hidden_states: torch.Tensor, start: int, stop: int, attention_mask: torch.Tensor | None, **kwargs: Any
    ) -> torch.Tensor:
        for layer in self.layers[start:stop]:
            hidden_states = layer(hidden_states, attention_mask, **kwargs) if self.takes_mask else layer(hidden_states)
        return hidden_states

    @graph_if_needed
    def finish(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Apply the final norm, if the tower has one, to `(T, N + P, D)`."""
        return hidden_states if self.final_norm is None else self.final_norm(hidden_states)

    @graph_if_needed
    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Encode high-res views `(T, 3, t, t)` as one map `(T, D, s, s)`, in the role of a high-res tower."""
        hidden_states = self.embed(views)
        hidden_states = self.finish(self.run_layers(hidden_states, 0, self.num_layers))
        patches = hidden_states[:, self.num_prefix_tokens :]
        side = math.isqrt(patches.shape[1])
        return patches.transpose(1, 2).unflatten(2, (side, side))
