# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What the ViT towers share: views of any size, groups of layers, and their use as a high-res tower.

Options, in `tower_options` of the tower's config:

- `positions`: how the position table serves a patch grid that is not its own: `bicubic`, `bicubic_antialias`
  (LLaVA-HR, EAGLE) or `buckets` (MiniCPM-V 2.6); None: as transformers' class does.
- `prefix`: `keep`, or `drop`: CLS and registers are left out from the first layer on (LLaVA-HR, EAGLE).
- `norm`: whether the final norm is applied; None: if the last layer is kept. CLIP's norms the pooled CLS token and
  is never applied.
- Of a high-res tower only: `layer`, the layer that is read, counted as `vision_feature_layer` is; `input_size` and
  `resize`, the size at which views are encoded and how they are brought to it.

Shapes: T views, S pixels per side, N prefix tokens, P patches, L patches of the view that has most, D width.
"""

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
from .tower_options import TowerError, cells_per_side, square, tower_options
from .tower_positions import RULES, patch_mask

LOW_RES_OPTIONS: dict[str, Any] = {"positions": None, "prefix": "keep", "norm": None}
HIGH_RES_OPTIONS: dict[str, Any] = {"layer": -1, "input_size": None, "resize": "corners"}


def vit_options(config: PreTrainedConfig) -> SimpleNamespace:
    """The checked options of a ViT tower.

    Raises:
        ValueError: If an option or its value is not accepted.
    """
    options = tower_options(config, **LOW_RES_OPTIONS, **HIGH_RES_OPTIONS)
    if options.positions is None:
        # as transformers' classes do: of all of them, the one with registers averages
        options.positions = "bicubic_antialias" if hasattr(config, "num_register_tokens") else "bicubic"
    one_of("tower_options.positions", options.positions, RULES)
    one_of("tower_options.prefix", options.prefix, ("keep", "drop"))
    if options.norm not in (None, True, False):
        raise TowerError(f"`tower_options.norm` must be true, false or null; got {options.norm!r}.")
    return options


def has_final_norm(config: PreTrainedConfig, num_layers: int | None) -> bool:
    """Whether a tower of which `num_layers` layers are kept applies its final norm."""
    norm = vit_options(config).norm
    return num_layers in (None, config.num_hidden_layers) if norm is None else bool(norm)


def of_low_res_tower(layer: type[nn.Module], attention: type[nn.Module]) -> dict[str, OutputRecorder]:
    """What a call of the encoder records of a tower: nothing where the tower is a high-res one, of the same class."""
    return {
        "hidden_states": OutputRecorder(layer, layer_name="low_res_tower"),
        "attentions": OutputRecorder(attention, index=1, layer_name="low_res_tower"),
    }


class VitTower:
    """Mixin for a vision model of transformers whose layers the hybrid encoder runs itself.

    The model holds `embeddings`, called with `(pixel_values, patch_grids)`, which gives `(T, N + P, D)`.
    """

    config: Any
    embeddings: Any  # each tower's own module
    encodes_views: ClassVar[bool] = True
    takes_mask: ClassVar[bool] = True

    @staticmethod
    def num_prefix(config: PreTrainedConfig) -> int:
        """N, by the config."""
        return 1 if vit_options(config).prefix == "keep" else 0

    @staticmethod
    def count_stages(config: PreTrainedConfig) -> int:
        """As a high-res tower a ViT has one stage."""
        return 1

    @classmethod
    def stage_shape(cls, config: PreTrainedConfig, stage: int, tile: int) -> tuple[int, int]:
        """Channels and cells per side of the map of a view of `tile` pixels."""
        return config.hidden_size, cells_per_side(config, tile, patch=square(config, "patch_size"))

    @property
    def num_prefix_tokens(self) -> int:
        """N."""
        return self.num_prefix(self.config)

    @property
    def layers(self) -> nn.ModuleList:
        """The layers that exist."""
        raise NotImplementedError

    @property
    def final_norm(self) -> nn.Module | None:
        """The norm after the last layer, if it is applied."""
        return None

    @property
    def num_layers(self) -> int:
        """Layers that exist."""
        return len(self.layers)

    @graph_if_needed
    def embed(self, pixel_values: torch.Tensor, patch_grids: torch.Tensor | None = None) -> torch.Tensor:
        """Turn views into the input of the first layer.

        Args:
            pixel_values: `(T, 3, S, S)` float, or `(T, 3, p, L * p)` with the patches of a view side by side.
            patch_grids: `(T, 2)` int, (rows, cols) of each view's patches; with the second form.

        Returns:
            `(T, N + P, D)`. P is L with `patch_grids`, and what lies beyond a view's patches is padding.
        """
        hidden_states: torch.Tensor = self.embeddings(pixel_values, patch_grids)
        return hidden_states

    def attention_mask(self, hidden_states: torch.Tensor, patch_grids: torch.Tensor | None) -> torch.Tensor | None:
        """What `run_layers` needs to leave padding out of the attention; None where there is none.

        Args:
            hidden_states: `(T, N + L, D)`.
            patch_grids: `(T, 2)` int, or None.

        Raises:
            TowerError: If there is padding and the tower's layers take no mask.
        """
        if patch_grids is None:
            return None
        mask = patch_mask(patch_grids.to(hidden_states.device), hidden_states.shape[1] - self.num_prefix_tokens)
        if bool(mask.all()):
            return None
        if not self.takes_mask:
            raise TowerError(
                f"The layers of tower {self.config.model_type!r} take no mask, and the views of this batch have "
                f"different numbers of patches: {patch_grids.prod(dim=-1).unique().tolist()}. Choose a canvas of "
                "equal views."
            )
        mask = torch.nn.functional.pad(mask, (self.num_prefix_tokens, 0), value=True)
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
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """Run layers `start` (inclusive, from 0) to `stop` (exclusive) on `(T, N + P, D)`."""
        for layer in self.layers[start:stop]:
            hidden_states = layer(hidden_states, attention_mask, **kwargs) if self.takes_mask else layer(hidden_states)
        return hidden_states

    @graph_if_needed
    def finish(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Apply the final norm, if there is one, to `(T, N + P, D)`."""
        return hidden_states if self.final_norm is None else self.final_norm(hidden_states)

    @graph_if_needed
    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """As a high-res tower, encode views `(T, 3, t, t)` of the high-res canvas: one map `(T, D, s, s)`."""
        options = vit_options(self.config)
        size = options.input_size or views.shape[-1]
        hidden_states = self.embed(resize(views, (size, size), options.resize))
        hidden_states = self.finish(self.run_layers(hidden_states, 0, self.num_layers))
        patches = hidden_states[:, self.num_prefix_tokens :]
        side = size // square(self.config, "patch_size")
        return patches.transpose(1, 2).unflatten(2, (side, side))
