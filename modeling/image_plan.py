# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""An image batch inside the model, split into the plan (integers) and the pixels.

The encoder computes `encode(plan, pixels)`. The plan decides which modules run on which views and fixes all shapes;
the pixels are only tensors.

Shapes: I images, V views of the image with the most, T real views of all images, S pixels per side of a view.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .view_layout import ViewLayout

PerImage = torch.Tensor | Sequence[torch.Tensor]  # a padded tensor, or a list with one entry per image
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class ImagePlan:
    """The views of each image and their boxes on its canvas.

    Attributes:
        boxes: For each image the boxes of its real views, (top, left, bottom, right) in canvas pixels, overview first.
        layout: Number of views and tile grid of each image.
        high_res_sizes: (height, width) of each image's high-res canvas; None without one.
        patch_grids: For each image the patches per axis of its real views, `(V_i, 2)` int; None if all views are
            squares of one size.
    """

    boxes: list[list[Box]]
    layout: ViewLayout
    high_res_sizes: tuple[tuple[int, int], ...] | None = None
    patch_grids: list[torch.Tensor] | None = None

    @classmethod
    def of(
        cls,
        view_boxes: PerImage,
        tile_grid: PerImage,
        high_res_sizes: PerImage | None = None,
        patch_grids: PerImage | None = None,
    ) -> "ImagePlan":
        """Build a plan from the processor's integers and drop their padding.

        Raises:
            ValueError: If an image has no view, or its views are not its tiles with or without an overview.
        """
        boxes = real_view_boxes(view_boxes)
        layout = ViewLayout(tuple(map(len, boxes)), _pairs(tile_grid))
        grids = None
        if patch_grids is not None:
            rows = zip(patch_grids, layout.num_views, strict=True)
            grids = [torch.as_tensor(own)[:count] for own, count in rows]
        return cls(boxes, layout, None if high_res_sizes is None else _pairs(high_res_sizes), grids)

    @property
    def num_views(self) -> tuple[int, ...]:
        """Number of real views of each image."""
        return self.layout.num_views


@dataclass(frozen=True)
class ImagePixels:
    """The pixels of an image batch, as the processor returns them.

    Attributes:
        views: `(I, V, 3, S, S)` float, or one `(V_i, 3, S, S)` per image; with `patch_grids` `(I, V, 3, p, L * p)`.
        high_res: `(I, 3, H, W)` float, or one `(3, H_i, W_i)` per image; None without a high-res canvas.
    """

    views: PerImage
    high_res: PerImage | None = None


def _pairs(found: PerImage) -> tuple[tuple[int, int], ...]:
    """Return the numbers of `(I, 2)` int."""
    return tuple((int(first), int(second)) for first, second in (row.tolist() for row in found))


def real_view_boxes(view_boxes: PerImage) -> list[list[Box]]:
    """Return the boxes of each image's views without the all-zero boxes that pad the batch.

    Args:
        view_boxes: `(I, V, 4)` int, or one `(V_i, 4)` per image: (top, left, bottom, right) in canvas pixels.

    Returns:
        For each image, its boxes in the order of the views.

    Raises:
        ValueError: If an image has no view.
    """
    boxes = [[tuple(box) for box in rows.tolist() if box[2] > box[0] and box[3] > box[1]] for rows in view_boxes]
    for index, found in enumerate(boxes):
        if not found:
            raise ValueError(
                f"Image {index} has no view: all its `view_boxes` are empty. Pass the processor's output unchanged."
            )
    return boxes
