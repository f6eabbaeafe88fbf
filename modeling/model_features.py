# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Table of features that only some models have; a checkpoint carries the entries that its config needs."""

from typing import Any

from .image_carrier import unpack_images
from .injection import build_injection
from .modeling_shared_positions import shared_positions
from .pruning import Pruning
from .serial_towers import SerialTowers
from .video_features import VideoFeatures
from .view_from_low_res import check_views_from_low_res, views_from_low_res
from .view_tile_positions import SlicePositions

FEATURES: dict[str, Any] = {
    "injection": build_injection,
    "packed_images": unpack_images,
    "pruning": Pruning,
    "serial_towers": SerialTowers,
    "shared_positions": shared_positions,
    "slice_positions": SlicePositions,
    "videos": VideoFeatures,
    "views_from_low_res": (check_views_from_low_res, views_from_low_res),
}
