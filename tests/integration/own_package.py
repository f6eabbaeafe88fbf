# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Writes a package that is not fila's: a fusion, a connector of unequal tokens and a canvas of overlapping tiles."""

from pathlib import Path

FILES = {
    "__init__.py": "",
    "modulation.py": """
import torch


def modulated(low: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return low * (1 + scale[:, None]) + shift[:, None]
""",
    "film.py": """
from typing import Any

import torch
from torch import nn

from acme_parts.modulation import modulated
from fila.modeling.fusion_at_end import FusionAtEnd
from fila.modeling.towers import count_stages, stage_shape
from fila.modeling.view_layout import ViewLayout


class FilmFusion(FusionAtEnd):
    def __init__(self, config: Any, *, stage: int | None = None) -> None:
        stage = count_stages(config) if stage is None else stage
        super().__init__(config, (stage,))
        self.linear = nn.Linear(stage_shape(config, stage)[0], 2 * self.output_size)

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        return modulated(low, *self.linear(maps[0].to(low.dtype).mean((2, 3))).chunk(2, dim=-1))
""",
    "pooled.py": """
from typing import Any

import torch
from torch import nn

from fila.modeling.view_patch_grid import Grid


class PooledConnector(nn.Module):
    takes_unequal_views = True
    patch_block = 2
    over_time = "each"

    def __init__(self, config: Any, *, input_size: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, config.text_config.hidden_size, bias=bias)

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        return patch_grid[0] // 2 * (patch_grid[1] // 2)

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int]:
        return patch_grid[0] // 2, patch_grid[1] // 2

    def forward(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        grids = grid.tolist() if isinstance(grid, torch.Tensor) else [grid] * len(features)
        views = [
            view[: rows * cols].unflatten(0, (rows // 2, 2, cols // 2, 2)).mean((1, 3)).flatten(0, 1)
            for view, (rows, cols) in zip(features, grids, strict=True)
        ]
        return self.linear(nn.utils.rnn.pad_sequence(views, batch_first=True))
""",
    "overlap.py": """
from fila.processing.canvas_plan import Box, CanvasPlan, Size, Views


class OverlapCanvas:
    equal_views = True
    centred = False
    tiles_overlap = True

    def __init__(self, tile_size: Size, *, shared: int = 14) -> None:
        self.tile_size = tile_size
        self.shared = shared

    def __call__(self, height: int, width: int) -> CanvasPlan:
        (rows, cols), tile, overview = self.views(height, width)
        step = tile.height - self.shared
        corners = [(row * step, col * step) for row in range(rows) for col in range(cols)]
        boxes = [Box(top, left, top + tile.height, left + tile.width) for top, left in corners]
        canvas = Size(boxes[-1].bottom, boxes[-1].right)
        return CanvasPlan(Size(height, width), canvas, Box(0, 0, *canvas), (rows, cols), tuple(boxes), overview)

    def views(self, height: int, width: int) -> Views:
        return ((1, 2) if width > height else (2, 1)), self.tile_size, self.tile_size
""",
}
ENTRY_POINTS = """
[fila.parts]
fusion.film = acme_parts.film:FilmFusion
connector.pooled = acme_parts.pooled:PooledConnector
canvas.overlap = acme_parts.overlap:OverlapCanvas
"""


def write_package(folder: Path) -> None:
    """Write the package and what pip notes of it: it is installed for whoever has the folder on the path."""
    (folder / "acme_parts").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / "acme_parts" / name).write_text(text, encoding="utf-8")
    noted = folder / "acme_parts-1.0.dist-info"
    noted.mkdir()
    (noted / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-parts\nVersion: 1.0\n", encoding="utf-8")
    (noted / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
