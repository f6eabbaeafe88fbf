# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Two-dimensional sine-cosine positions.

Code: MiniCPM-V 2.6, `resampler.py::get_2d_sincos_pos_embed`, after MAE's function of that name, arXiv:2111.06377.
"""

import torch


def sincos_2d(rows: torch.Tensor, cols: torch.Tensor, width: int) -> torch.Tensor:
    """Return positions as vectors: half of the channels encode the column, half the row.

    Args:
        rows: `(...)`, in patches; may be fractional.
        cols: `(...)`, likewise.
        width: Channels; divisible by 4.

    Returns:
        `(..., width)` float32: `[sin x f, cos x f, sin y f, cos y f]` with x the column, y the row and frequencies
        `f_k = 10000^(-k / (width / 4))`.

    Raises:
        ValueError: If `width` is not divisible by 4.

    Example:
        >>> sincos_2d(torch.tensor([0]), torch.tensor([0]), 4).tolist()
        [[0.0, 1.0, 0.0, 1.0]]
    """
    if width % 4:
        raise ValueError(f"Two-dimensional positions need a width divisible by 4; got {width}.")
    steps = torch.arange(width // 4, device=rows.device, dtype=torch.float32) / (width / 4)
    frequencies = 1.0 / 10000**steps
    angles = [axis.to(torch.float32)[..., None] * frequencies for axis in (cols, rows)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=-1)
