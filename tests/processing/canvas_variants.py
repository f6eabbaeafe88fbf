# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every canvas strategy with options that change its behaviour, and a tile that no side can be mistaken in."""

from typing import Any

import pytest

from fila.processing.canvas_plan import Size

TILE = Size(7, 11)
SQUARE = Size(28, 28)  # strategies that count in patches take a square tile

SETTINGS: list[tuple[dict[str, Any], Size]] = [
    ({"type": "deepseek_ocr", "patch_size": 7, "multiple": 2, "overview_size": 42}, SQUARE),
    ({"type": "deepseek_ocr", "patch_size": 7, "multiple": 2, "overview_size": 42, "rounding": "pillow"}, SQUARE),
    ({"type": "deepseek_ocr", "patch_size": 7, "multiple": 2, "overview_size": 42, "tiles": False}, SQUARE),
    ({"type": "fila"}, TILE),
    ({"type": "fila", "rule": "llava_next"}, TILE),
    ({"type": "fila", "overview": False}, TILE),
    ({"type": "fila", "tile_grids": [[1, 1], [3, 2], [1, 5]]}, TILE),
    ({"type": "internvl"}, TILE),
    ({"type": "internvl", "min_tiles": 2, "max_tiles": 5, "thumbnail": False, "ties": "lexicographic"}, TILE),
    ({"type": "llava_next"}, TILE),
    ({"type": "long_edge_tiers", "tiers": [[60, 30], [20, 12]]}, TILE),
    ({"type": "long_edge_tiers", "tiers": [[60, 30]], "max_tiles": 5, "overview": True}, TILE),
    ({"type": "minicpm", "patch_size": 7}, SQUARE),
    ({"type": "minicpm", "patch_size": 7, "max_slices": 4, "max_view_area": None}, SQUARE),
    ({"type": "native", "patch_size": 5, "max_patches": 50}, TILE),
    ({"type": "native", "patch_size": 5, "multiple": 2, "max_patches": 50, "fit": "corner"}, TILE),
    ({"type": "redrawn_square", "side": 64, "least": 5}, TILE),
    ({"type": "redrawn_square", "side": 40, "filter": "bicubic", "fill": [1, 2, 3]}, SQUARE),
    ({"type": "single"}, TILE),
    ({"type": "square_pad"}, SQUARE),
    ({"type": "square_pad", "grid": 2, "overview": True, "exact": True}, SQUARE),
    ({"type": "square_pad", "grid": 3, "fit": "corner", "fill": [1, 2, 3]}, SQUARE),
    ({"type": "uhd", "patch_size": 7}, SQUARE),
]
VARIANTS = {str(options): tile for options, tile in SETTINGS}

over_variants = pytest.mark.parametrize("options", [options for options, _ in SETTINGS], ids=str)
