# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Table of the fusions, which join the high-res tower's features into the low-res tower's."""

from typing import Protocol

import torch

from .configuration_fila import FilaConfig
from .connector import Connector
from .fusion_cbam import CbamFusion
from .fusion_channel_concat import ChannelConcatFusion
from .fusion_concat_1x1 import Concat1x1Fusion
from .fusion_cross_attention import CrossAttentionFusion
from .fusion_cvfm import CvfmFusion
from .fusion_half_projections import HalfProjectionsFusion
from .fusion_mixture_of_resolution import MixtureOfResolutionFusion
from .fusion_multi_encoder_queries import MultiEncoderQueriesFusion
from .fusion_none import NoFusion
from .fusion_patch_info_mining import PatchInfoMiningFusion
from .fusion_query_gate import QueryGateFusion
from .fusion_scale_softmax import ScaleSoftmaxFusion
from .fusion_se import SqueezeExcitationFusion
from .fusion_sequence_concat import SequenceConcatFusion
from .fusion_spatial_gate import SpatialGateFusion
from .fusion_upsample_concat import UpsampleConcatFusion
from .part_options import build_part, check_answers, find_part
from .view_layout import ViewLayout


class Fusion(Protocol):
    """Joins the towers at some taps, and once more after the last layer.

    Attributes:
        taps: `(layer, stage)` pairs, both counted from 1, in the order of the layers: after that layer of the low-res
            tower the fusion reads the map of that stage of the high-res tower.
        final_stages: Groups of stages whose maps `finish` reads, one map per group. The maps of a group are resized to
            the size of its first stage and stacked along the channels before views are cut.
        output_size: Channels of the result of `finish`.
        output_grid: (rows, cols) of the P' tokens per view in the result of `finish`; the patch grid, unless the
            fusion changes the number of tokens.
        joins_views: Whether `finish` reads the views of an image together. If not, it may get a chunk of the views,
            and must not read the layout.
        needs_high_res_tower: Whether the fusion needs a model with a high-res tower.
        takes_cls: Whether `finish` accepts the prefix tokens too, for `vision_feature_select` "cls_patch".
        takes_unequal_views: Whether the views of a batch may differ in size; only without a high-res tower.
        tokens_are_places: Whether the tokens of `finish` are the cells of `output_grid` on the view, row by row;
            False for queries and for sequences.

    Shapes: T views, N prefix tokens (CLS), P patches, D low-res width, E width of the stage or group, s cells per side
    that one view owns of that map.
    """

    taps: tuple[tuple[int, int], ...]
    final_stages: tuple[tuple[int, ...], ...]
    output_size: int
    output_grid: tuple[int, int]
    joins_views: bool
    needs_high_res_tower: bool
    takes_cls: bool
    takes_unequal_views: bool
    tokens_are_places: bool

    def fuse(self, tap: int, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Apply tap `tap`, counted from 0: `(low (T, N + P, D), high (T, E, s, s)) -> (T, N + P, D)`."""
        ...

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Join after the last layer: `(low (T, P, D), a map (T, E, s, s) per group) -> (T, P', output_size)`."""
        ...


FUSIONS: dict[str, type[Fusion]] = {
    "cbam": CbamFusion,
    "channel_concat": ChannelConcatFusion,
    "concat_1x1": Concat1x1Fusion,
    "cross_attention": CrossAttentionFusion,
    "cvfm": CvfmFusion,
    "half_projections": HalfProjectionsFusion,
    "mixture_of_resolution": MixtureOfResolutionFusion,
    "multi_encoder_queries": MultiEncoderQueriesFusion,
    "none": NoFusion,
    "patch_info_mining": PatchInfoMiningFusion,
    "query_gate": QueryGateFusion,
    "scale_softmax": ScaleSoftmaxFusion,
    "se": SqueezeExcitationFusion,
    "sequence_concat": SequenceConcatFusion,
    "spatial_gate": SpatialGateFusion,
    "upsample_concat": UpsampleConcatFusion,
}


def check_fusion(name: str, part: type) -> None:
    """Check that a fusion's class declares all members of `Fusion`.

    Raises:
        ValueError: If members are missing; the message names them.
    """
    check_answers("fusion", name, part, Fusion)


def needs_high_res_tower(options: object) -> bool:
    """Return whether the fusion that an option dict or a name selects needs a high-res tower.

    Raises:
        ValueError: If the name is unknown.
    """
    return bool(find_part("fusion", FUSIONS, options)[1].needs_high_res_tower)


def build_fusion(config: FilaConfig) -> Fusion:
    """Build the fusion that `config.fusion` names.

    Raises:
        ValueError: If the name, an option or an option's value is not accepted, or the fusion does not fit the
            model's towers.
    """
    name, part = find_part("fusion", FUSIONS, config.fusion)
    single_tower = config.high_res_vision_config is None
    if single_tower and part.needs_high_res_tower:
        raise ValueError(
            f"`fusion.type` {name!r} joins two towers, but `high_res_vision_config` is None. "
            'Set a high-res tower or `fusion={"type": "none"}`.'
        )
    if config.vision_feature_select == "cls_patch" and not part.takes_cls:
        raise ValueError(
            f"`vision_feature_select` 'cls_patch' keeps CLS, which fusion {name!r} has no place for. Use 'patch', or "
            '`fusion={"type": "none"}`.'
        )
    fusion = build_part("fusion", FUSIONS, config.fusion, config)
    if not (single_tower or fusion.taps or fusion.final_stages or config.has_serial_towers):
        raise ValueError(
            f"`fusion.type` {name!r} reads no high-res tower, but `high_res_vision_config` is set. Set "
            "`high_res_vision_config=None`."
        )
    return fusion


def token_grid(fusion: Fusion, connector: Connector) -> tuple[int, int] | None:
    """Return (rows, cols) of the cells of a tile that its image tokens represent; None if tokens are not cells."""
    return connector.token_grid(fusion.output_grid) if fusion.tokens_are_places else None
