# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Write each image as one row of floats and one row of integers, see `FilaProcessor.packed_images`.

    pixel_values        (I, L)  float32  the views, then the canvas, flattened; zeros up to the longest row
    image_position_ids  (I, K)  int64    for each input of the image its number of axes and its sides, -1 if the image
                                         lacks it; then its integers; zeros up to the longest row

The names are those that TRL's GRPO and RLOO trainers split, shuffle and rejoin image by image. Integers have a tensor
of their own, because some trainers cast every float to half precision.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

# Order of the inputs in a row. The model's module `image_carrier` has the same list.
PACKED_FLOATS = ("pixel_values", "high_res_pixel_values")
PACKED_INTEGERS = ("view_boxes", "tile_grid", "high_res_sizes", "patch_grids", "image_token_index", "view_positions")


def pack_images(inputs: Mapping[str, Sequence[Any]]) -> dict[str, torch.Tensor]:
    """Return the two tensors.

    Args:
        inputs: Outputs of the processor as lists with one array or tensor per image, without padding.
    """
    floats, integers = [], []
    for image in range(len(inputs.get("pixel_values", ()))):
        header: list[int] = []
        values: dict[str, torch.Tensor] = {}
        for name in (*PACKED_FLOATS, *PACKED_INTEGERS):
            if name in inputs:
                values[name] = torch.as_tensor(inputs[name][image])
                header += [values[name].ndim, *values[name].shape]
            else:
                header.append(-1)
        rows = [
            [values[name].flatten() for name in names if name in values] for names in (PACKED_FLOATS, PACKED_INTEGERS)
        ]
        floats.append(torch.cat(rows[0]))
        integers.append(torch.cat([torch.tensor(header), *rows[1]]))
    return {"pixel_values": _rows(floats, torch.float32), "image_position_ids": _rows(integers, torch.int64)}


def _rows(rows: list[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """Pad rows with zeros to the longest; no rows give `(0, 1)`."""
    if not rows:
        return torch.zeros(0, 1, dtype=dtype)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(dtype)
