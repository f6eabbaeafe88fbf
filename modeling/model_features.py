# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Table of features that only some models have; a checkpoint carries the entries that its config needs."""

from typing import Any

from .shared_positions import shared_positions
from .slice_positions import SlicePositions
from .video_features import VideoFeatures

FEATURES: dict[str, Any] = {
    "shared_positions": shared_positions,
    "slice_positions": SlicePositions,
    "videos": VideoFeatures,
}
