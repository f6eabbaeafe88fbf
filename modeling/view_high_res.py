# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Cut views out of the high-res canvases, for towers that encode single views and for the low-res tower.

Shapes: I images, T real views of all images, t pixels per side of a high-res view, S of a low-res view, E channels, s
cells per side.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from .configuration_fila import FilaConfig
from .fusion_align import area_resample, interpolate_box, stack_stages
from .image_plan import Box, PerImage
from .image_resize import resize
from .view_layout import ViewLayout

if TYPE_CHECKING:
    from .towers import ViewTower


def scaled_box(config: FilaConfig, box: Box, stride: int = 1) -> tuple[float, float, float, float]:
    """Convert a view's box from canvas pixels to cells of `stride` pixels of the high-res canvas."""
    scale = config.high_res_tile_size, config.tile_size * stride
    top, left, bottom, right = (edge * scale[0] / scale[1] for edge in box)
    return top, left, bottom, right


def real_canvases(
    config: FilaConfig, pixels: PerImage, sizes: Sequence[tuple[int, int]], boxes: list[list[Box]]
) -> list[torch.Tensor]:
    """Return the high-res canvases `(3, h, w)` without padding.

    Args:
        config: The `FilaConfig`.
        pixels: `(I, 3, H, W)` or one `(3, H_i, W_i)` per image.
        sizes: (height, width) of each canvas.
        boxes: Boxes of each image's views.

    Raises:
        ValueError: If a canvas does not have the size that follows from the views' boxes.
    """
    found = []
    for index, (canvas, (height, width)) in enumerate(zip(pixels, sizes, strict=True)):
        scale = config.high_res_tile_size / config.tile_size
        expected = tuple(round(max(box[edge] for box in boxes[index]) * scale) for edge in (2, 3))
        if (height, width) != expected or height > canvas.shape[-2] or width > canvas.shape[-1]:
            raise ValueError(
                f"The high-res canvas of image {index} must be {expected[0]}x{expected[1]} pixels (its views' boxes "
                f"times {config.high_res_tile_size}/{config.tile_size}); `high_res_sizes` says {height}x{width} and "
                f"`high_res_pixel_values` holds {canvas.shape[-2]}x{canvas.shape[-1]}. Processor and model disagree "
                "about `high_res_size`; load both from one checkpoint."
            )
        found.append(canvas[:, :height, :width])
    return found


def has_overview(layout: ViewLayout) -> list[bool]:
    """Return for each image whether it has an overview."""
    return [views > rows * cols for views, (rows, cols) in zip(layout.num_views, layout.tile_grids, strict=True)]


def high_res_views(
    config: FilaConfig, canvases: list[torch.Tensor], boxes: list[list[Box]], layout: ViewLayout
) -> torch.Tensor:
    """Return the high-res view of each view, `(T, 3, t, t)`, image by image.

    A tile is cut out. An overview is averaged by exact area, or with `high_res_overview="interpolate"` interpolated.
    """
    size = config.high_res_tile_size, config.high_res_tile_size
    views = []
    for canvas, found, overview in zip(canvases, boxes, has_overview(layout), strict=True):
        for index, box in enumerate(found):
            shrink = overview and index == 0 and config.high_res_overview == "interpolate"
            views.append((interpolate_box if shrink else area_resample)(canvas, scaled_box(config, box), size))
    return torch.stack(views)


def low_res_views(config: FilaConfig, canvases: list[torch.Tensor], boxes: list[list[Box]]) -> torch.Tensor:
    """Resize the high-res canvases to the low-res views `(T, 3, S, S)` by the rule `low_res_views`.

    The whole canvas is resized first, then cut, as Mini-Gemini does; an overview is resized once more.
    """
    size = config.tile_size, config.tile_size
    views = []
    for canvas, found in zip(canvases, boxes, strict=True):
        whole = max(box[2] for box in found), max(box[3] for box in found)
        drawn = resize(canvas[None], whole, config.low_res_views)
        views += [
            resize(drawn[:, :, top:bottom, left:right], size, config.low_res_views)
            for top, left, bottom, right in found
        ]
    return torch.cat(views)


class EncodedViews:
    """The maps of a tower that encodes single views. All its stages run when a chunk of views is read.

    Args:
        tower: The tower.
        views: `(T, 3, t, t)`.
    """

    def __init__(self, tower: "ViewTower", views: torch.Tensor) -> None:
        self.tower = tower
        self.views = views
        self.chunk: slice | None = None
        self.maps: tuple[torch.Tensor, ...] = ()

    def advance(self, stage: int) -> None:
        """Do nothing: the tower runs in `per_view`."""

    def per_view(self, stages: Sequence[int], chunk: slice) -> torch.Tensor:
        """Return the stacked maps `(T, E, s, s)` of `stages` for the T views in `chunk`."""
        if chunk != self.chunk:
            maps = self.tower(self.views[chunk])
            self.maps, self.chunk = maps if isinstance(maps, tuple) else (maps,), chunk
        return self.maps[stages[0] - 1] if len(stages) == 1 else stack_stages([self.maps[at - 1] for at in stages])
