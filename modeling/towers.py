# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tables of the towers, by the `model_type` of a config's sub-configs.

Stages are numbered through all high-res towers, from 1: first those of `high_res_vision_config`, then those of each of
`extra_vision_configs`.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, Unpack, cast

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.utils import TransformersKwargs

from .configuration_fila import FilaConfig
from .part_options import check_answers, find_missing
from .tower_clip import ClipTower
from .tower_convnext import ConvNextTower, Maps
from .tower_dinov2 import Dinov2Tower
from .tower_eva02 import Eva02Tower
from .tower_eva2_clip import Eva2ClipTower
from .tower_internvit import InternVitTower
from .tower_options import TowerError, whole_patches
from .tower_pix2struct import Pix2StructTower
from .tower_sam import SamTower
from .tower_siglip import SiglipTower
from .tower_vit import HIGH_RES_OPTIONS, vit_options


class LowResTower(Protocol):
    """Encodes views `(T, 3, S, S)` as tokens `(T, num_prefix_tokens + P, D)`, a group of layers at a time.

    Views of unequal size have the form `(T, 3, p, L * p)`, their patches side by side, and come with patch grids.

    Attributes:
        takes_mask: Whether the layers accept a mask, which views of different sizes need.
        num_prefix_tokens: Number of tokens before the patches.
        num_layers: Number of layers that the tower keeps.
    """

    takes_mask: ClassVar[bool]

    @property
    def num_prefix_tokens(self) -> int: ...

    @property
    def num_layers(self) -> int: ...

    @staticmethod
    def num_prefix(config: PreTrainedConfig) -> int: ...

    @staticmethod
    def patch_grid(config: PreTrainedConfig, height: int, width: int) -> tuple[int, int]:
        """Return (rows, cols) of the features behind the last layer, for a view of `height` x `width` pixels.

        All token counts and all checks of grids ask it. It is the grid of patches, unless the tower joins patches or
        reads the map of another tower.

        Raises:
            TowerError: If a view of that size has no such grid; the message names `tile_size`.
        """
        ...

    def embed(self, pixel_values: torch.Tensor, patch_grids: torch.Tensor | None = None) -> torch.Tensor: ...

    def attention_mask(self, hidden_states: torch.Tensor, patch_grids: torch.Tensor | None) -> torch.Tensor | None: ...

    def run_layers(
        self,
        hidden_states: torch.Tensor,
        start: int,
        stop: int,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """Run layers `start` (inclusive, from 0) to `stop` (exclusive).

        A tower that joins patches gets `patch_grids` too, where views differ in size.
        """
        ...

    def finish(self, hidden_states: torch.Tensor) -> torch.Tensor: ...


class HighResTower(Protocol):
    """Geometry of a high-res tower's maps, computed from its config alone.

    Attributes:
        encodes_views: Whether the tower encodes single high-res views (`ViewTower`) or whole canvases
            (`CanvasTower`). A canvas tower that can do both by an option sets it in its instances.
    """

    encodes_views: bool

    @staticmethod
    def count_stages(config: PreTrainedConfig) -> int: ...

    @staticmethod
    def stage_shape(config: PreTrainedConfig, stage: int, tile: int) -> tuple[int, int]:
        """Return (channels, cells per side) of the part of a stage's map that belongs to one view of `tile` pixels."""
        ...


class CanvasTower(HighResTower, Protocol):
    """Encodes canvases `(N, 3, H, W)` as one map `(N, E, h, w)` per stage, stage by stage.

    A tuple of canvases of several sizes gives a tuple of maps. Every module inside is called once for all of them,
    with one tensor, because sharded training needs the same calls in every process.
    """

    def stride(self, stage: int) -> int: ...

    def embed(self, canvases: Maps) -> Maps: ...

    def run_stages(self, maps: Maps, start: int, stop: int) -> Maps: ...


class ViewTower(HighResTower, Protocol):
    """Encodes views `(T, 3, t, t)` as one map `(T, E, s, s)`, or a tuple of one per stage that it keeps.

    Its position table is square. One call encodes all views, so that every process makes the same calls.
    """

    def __call__(self, views: torch.Tensor) -> Maps: ...


LOW_RES_TOWERS: dict[str, "type[LowResTower]"] = {
    "clip_vision_model": ClipTower,
    "dinov2": Dinov2Tower,
    "dinov2_with_registers": Dinov2Tower,
    "eva2_clip": Eva2ClipTower,
    "internvl_vision": InternVitTower,
    "siglip_vision_model": SiglipTower,
}
HIGH_RES_TOWERS: dict[str, "type[ViewTower] | type[CanvasTower]"] = {
    "convnext": ConvNextTower,
    "convnextv2": ConvNextTower,
    "eva02": Eva02Tower,
    "pix2struct_vision_model": Pix2StructTower,
    "sam_vision_model": SamTower,
    **cast("dict[str, type[ViewTower]]", LOW_RES_TOWERS),  # each of these is a `ViewTower` too
}


def check_low_res_tower(name: str, part: type) -> None:
    """Check that a tower's class declares all members of `LowResTower`.

    Raises:
        ValueError: If members are missing; the message names them.
    """
    check_answers("low-res tower", name, part, LowResTower)


def check_high_res_tower(name: str, part: type) -> None:
    """Check that a tower's class declares all members of `ViewTower` or `CanvasTower`.

    Raises:
        ValueError: If members are missing; the message names them.
    """
    kinds: dict[Any, type] = {True: ViewTower, False: CanvasTower}
    check_answers("high-res tower", name, part, kinds.get(getattr(part, "encodes_views", None), HighResTower))


def high_res_configs(config: FilaConfig) -> list[PreTrainedConfig]:
    """Return the configs of all high-res towers of a `FilaConfig`."""
    first = config.high_res_vision_config
    return [] if first is None else [first, *getattr(config, "extra_vision_configs", ())]


def check_tower_types(config: FilaConfig) -> None:
    """Check that the tables contain all towers of a `FilaConfig`, and check the low-res tower's options.

    Raises:
        ValueError: If a `model_type` is unknown; the message lists the known ones.
    """
    tables: list[tuple[str, str, PreTrainedConfig, Mapping[str, object]]] = [
        ("vision_config", "low_res_tower", config.vision_config, LOW_RES_TOWERS)
    ]
    for index, tower in enumerate(high_res_configs(config)):
        name = f"extra_vision_configs[{index - 1}]" if index else "high_res_vision_config"
        tables.append((name, "high_res_tower", tower, HIGH_RES_TOWERS))
    for name, kind, tower, table in tables:
        find_missing(kind, tower.model_type, table)
        if tower.model_type not in table:
            raise ValueError(f"`{name}.model_type` must be one of {sorted(table)}; got {tower.model_type!r}.")
    given = vit_options(config.vision_config) and getattr(config.vision_config, "tower_options", None)
    if wrong := sorted(set(given or ()) & set(HIGH_RES_OPTIONS)):
        raise TowerError(
            f"{wrong} in `tower_options` are options of a high-res tower; `vision_config` is the low-res tower. "
            "`vision_feature_layer` of the `FilaConfig` says the same for it."
        )


def locate_stage(config: FilaConfig, stage: int) -> tuple[int, int]:
    """Return the high-res tower of a stage, counted from 0, and the stage's number in that tower, counted from 1.

    Raises:
        ValueError: If there is no such stage.
    """
    own = stage
    for index, tower in enumerate(high_res_configs(config)):
        count = HIGH_RES_TOWERS[tower.model_type].count_stages(tower)
        if 1 <= own <= count:
            return index, own
        own -= count
    raise ValueError(f"The high-res tower has stages 1..{count_stages(config)}; the fusion reads stage {stage}.")


def count_stages(config: FilaConfig) -> int:
    """Return the number of stages of all high-res towers together."""
    return sum(HIGH_RES_TOWERS[tower.model_type].count_stages(tower) for tower in high_res_configs(config))


def last_stages(config: FilaConfig) -> list[int]:
    """Return the last stage of each high-res tower, numbered through all towers."""
    found: list[int] = []
    for tower in high_res_configs(config):
        count = HIGH_RES_TOWERS[tower.model_type].count_stages(tower)
        found.append((found[-1] if found else 0) + count)
    return found


def stage_shape(config: FilaConfig, stage: int) -> tuple[int, int]:
    """Return (channels, cells per side) of one view's part of a stage's map.

    Raises:
        ValueError: If there is no such stage, or the high-res view does not divide into whole cells.
    """
    index, own = locate_stage(config, stage)
    tower = high_res_configs(config)[index]
    channels, side = HIGH_RES_TOWERS[tower.model_type].stage_shape(tower, own, config.high_res_side)
    return int(channels), int(side)


def low_res_grid(config: FilaConfig, height: int, width: int) -> tuple[int, int]:
    """Return (rows, cols) of the low-res tower's features of a view of `height` x `width` pixels.

    Args:
        config: The `FilaConfig`.
        height: Pixels of the view.
        width: Pixels of the view.

    Raises:
        TowerError: If a view of that size has no such grid.
    """
    if config.has_serial_towers:
        first = config.high_res_vision_config
        find_missing("high_res_tower", first.model_type, HIGH_RES_TOWERS)
        if (source := HIGH_RES_TOWERS.get(first.model_type)) is not None:
            last = source.count_stages(first)
            return source.stage_shape(first, last, height)[1], source.stage_shape(first, last, width)[1]
    vision = config.vision_config
    find_missing("low_res_tower", vision.model_type, LOW_RES_TOWERS)
    tower = LOW_RES_TOWERS.get(vision.model_type)  # `check_tower_types` rejects an unknown one with the model
    return whole_patches(vision, height, width) if tower is None else tower.patch_grid(vision, height, width)


def build_low_res_tower(config: PreTrainedConfig, num_layers: int) -> "LowResTower":
    """Build the tower that `vision_config.model_type` names, with its first `num_layers` layers."""
    tower: Any = LOW_RES_TOWERS[config.model_type]  # a class from transformers
    return cast("LowResTower", tower._from_config(config, num_layers=num_layers))


def build_high_res_tower(config: PreTrainedConfig, num_stages: int, attention: str | None = None) -> nn.Module:
    """Build the high-res tower that `config.model_type` names.

    Args:
        config: The tower's config.
        num_stages: Number of stages to keep, counted from the input.
        attention: Implementation of attention if the config names none; `sdpa` if the tower does not support it.
    """
    tower: Any = HIGH_RES_TOWERS[config.model_type]
    if not tower.encodes_views:
        built: nn.Module = tower(config, num_stages)
        return built
    config = copy.deepcopy(config)
    config.dtype = None  # the outer model's, which transformers does not write into configs in a list
    attention = config._attn_implementation or attention
    flexible = getattr(tower, "_supports_flash_attn", False)
    config._attn_implementation = attention if flexible or attention in (None, "eager", "sdpa") else "sdpa"
    options = {}
    if config.model_type in LOW_RES_TOWERS:
        layer, depth = vit_options(config).layer, config.num_hidden_layers
        options["num_layers"] = layer if layer > 0 else depth + 1 + layer
        if not 1 <= options["num_layers"] <= depth:
            raise TowerError(f"`tower_options.layer` must name one of the {depth} layers of the tower; got {layer}.")
    encoder: nn.Module = tower._from_config(config, **options)
    return encoder


def build_high_res_towers(config: FilaConfig, read_stages: Sequence[int]) -> list[nn.Module]:
    """Build the high-res towers, each up to the last stage that the fusion reads.

    Args:
        config: The `FilaConfig`.
        read_stages: The stages that the fusion reads, numbered through all towers.

    Raises:
        TowerError: If the fusion does not read a tower.
    """
    located = [locate_stage(config, stage) for stage in read_stages]
    towers: list[nn.Module] = []
    for index, tower in enumerate(high_res_configs(config)):
        own = [stage for place, stage in located if place == index]
        if not own:
            read = sorted({high_res_configs(config)[place].model_type for place, _ in located})
            raise TowerError(
                f"Fusion {config.fusion['type']!r} reads nothing of tower {tower.model_type!r}, only of {read}. Name "
                "a stage of it (stages are counted on through all high-res towers), choose 'channel_concat' or "
                "'multi_encoder_queries', or drop the tower."
            )
        built: Any = build_high_res_tower(tower, max(own), config._attn_implementation)
        if not (config.has_high_res_canvas or config.has_serial_towers or built.encodes_views):
            raise TowerError(
                f"`high_res_views` 'low_res' leaves no canvas, and tower {tower.model_type!r} encodes whole canvases. "
                "Set `encodes` in its `tower_options` to 'views', or `high_res_views` to 'canvas'."
            )
        towers.append(built)
    return towers
