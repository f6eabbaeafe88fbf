# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Read images that came as one row of floats and one row of integers each, for trainers that know just two tensors.

TRL's GRPO and RLOO trainers split, shuffle and rejoin `pixel_values` and `image_position_ids` image by image, and drop
all other image inputs. The processor writes the rows (its `packed_images`); here they become its usual outputs again.
"""

from itertools import accumulate
from math import prod

import torch

# Order of the inputs in a row. The processor's module `image_packing` has the same list.
PACKED_FLOATS = ("pixel_values", "high_res_pixel_values")
PACKED_INTEGERS = ("view_boxes", "tile_grid", "high_res_sizes", "patch_grids", "image_token_index", "view_positions")


def unpack_images(pixel_values: torch.Tensor, image_position_ids: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """Return the images' inputs as lists with one tensor per image.

    Args:
        pixel_values: `(I, L)` float: the views of each image, then its canvas, flattened; zeros behind them.
        image_position_ids: `(I, K)` int: for each input of an image its number of axes and its sides, -1 if the image
            lacks it; then its integers; zeros behind them.

    Raises:
        ValueError: If the rows are not those of the processor.
    """
    if pixel_values.ndim != 2 or image_position_ids.ndim != 2 or len(pixel_values) != len(image_position_ids):
        raise ValueError(
            "`image_position_ids` belong to images of a processor with `packed_images`: both must have one row per "
            f"image; they have the shapes {list(image_position_ids.shape)} and {list(pixel_values.shape)}."
        )
    unpacked: dict[str, list[torch.Tensor]] = {}
    for image, (floats, integers) in enumerate(zip(pixel_values, image_position_ids.cpu(), strict=True)):
        header, shapes = iter(integers.tolist()), {}
        for name in (*PACKED_FLOATS, *PACKED_INTEGERS):
            if (axes := next(header, 0)) >= 0:
                shapes[name] = [next(header, 0) for _ in range(axes)]
        first = len(PACKED_FLOATS) + len(PACKED_INTEGERS) + sum(map(len, shapes.values()))
        for names, row in ((PACKED_FLOATS, floats), (PACKED_INTEGERS, integers[first:])):
            held = [name for name in names if name in shapes]
            ends = [*accumulate(prod(shapes[name]) for name in held)]
            if not held or min(map(min, (shapes[name] or [0] for name in held))) < 1 or ends[-1] > len(row):
                raise ValueError(f"Row {image} of `image_position_ids` does not describe its row of `pixel_values`.")
            for name, start, end in zip(held, [0, *ends], ends, strict=False):
                unpacked.setdefault(name, []).append(row[start:end].reshape(shapes[name]))
    return unpacked
