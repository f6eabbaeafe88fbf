# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Dual-path video connector: one path reads each frame, the other each position over time; a gate mixes them.

Source: the Open-AutoGLM article on multi-resolution processing, section 4.4: "3-D convolutions (1,7,7) and (3,1,1), 64
filters, same padding" on two paths and "an attention gate". It gives the kernels and nothing else.

    s = act(conv_(1,7,7)(frames))                  every frame by itself: detail
    m = act(conv_(3,1,1)(frames))                  every place by itself: motion
    g = sigmoid(W_g [s; m])                        per place and channel
    image token = W (mean over pool x pool places of  g * s + (1 - g) * m)

With `causal` a frame's tokens do not depend on later frames: the window is the frame and the two before it.

Deviations: gate, activation (SiLU), pooling and projection are ours; the article's low-res path has no resolution.

Shapes: T views, F frames, P patches, (r, c) patch grid, D vision width, H filters, M language-model width.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_fila import FilaConfig
from .video_clips import Read, TimeWindow
from .view_patch_grid import Grid, blocks_of, one_grid


class DualPathConnector(nn.Module):
    """Dual-path connector with `(r / pool) (c / pool)` tokens per frame.

    Args:
        config: The `FilaConfig`.
        input_size: Channels of the features.
        filters: H, filters of each path.
        pool: Patches per side that become one token.
        causal: Whether a frame sees earlier frames only.

    Raises:
        ValueError: If a number is not positive.
    """

    takes_unequal_views = False
    patch_block: int | None
    over_time = "clip"
    window: TimeWindow

    def __init__(
        self, config: FilaConfig, *, input_size: int, filters: int = 64, pool: int = 2, causal: bool = False
    ) -> None:
        super().__init__()
        for option, value in (("filters", filters), ("pool", pool)):
            if value < 1:
                raise ValueError(f"`connector.{option}` must be at least 1; got {value}.")
        self.pool = self.patch_block = pool
        self.window = TimeWindow(3, 1, 2 if causal else 1, 0 if causal else 1)
        self.spatial = nn.Conv3d(input_size, filters, (1, 7, 7), padding=(0, 3, 3))
        self.temporal = nn.Conv3d(input_size, filters, (3, 1, 1))  # `TimeWindow` pads time
        self.gate = nn.Linear(2 * filters, filters)
        self.linear = nn.Linear(filters, config.text_config.hidden_size)

    def tokens_per_clip(self, num_frames: int, patch_grid: tuple[int, int]) -> int:
        """Return the number of tokens of a clip."""
        return num_frames * self.tokens_per_tile(patch_grid)

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Return the number of tokens of an image, which is a clip of one frame.

        Raises:
            ValueError: If the grid is smaller than the pooling.
        """
        rows, cols = (side // self.pool for side in patch_grid)
        if not rows * cols:
            raise ValueError(
                f"Connector 'dual_path' pools {self.pool}x{self.pool} patches; got a grid of {patch_grid}."
            )
        return rows * cols

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int] | None:
        """Return the grid of the pooled patches; None if some are left over."""
        return blocks_of(patch_grid, self.pool)

    def clip(self, read: Read, num_frames: int, grid: Grid, frames_per_chunk: int | None = None) -> torch.Tensor:
        """Return the tokens `(N, M)` of one video; frames next to a piece are read again for its windows."""
        shape = one_grid("dual_path", grid)
        tokens = []
        for piece in self.window.pieces(num_frames, frames_per_chunk):
            frames_FDrc = read(piece.first, piece.last).transpose(1, 2).unflatten(2, shape)
            maps_DFrc = F.pad(frames_FDrc.transpose(0, 1), (0, 0, 0, 0, piece.before, piece.after))
            tokens.append(self._tokens(maps_DFrc[None])[0])
        return torch.cat(tokens)

    def forward(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Map `(T, P, D)` to `(T, N, M)`; each view is an image, that is a clip of one frame."""
        maps_TDrc = features.transpose(1, 2).unflatten(2, one_grid("dual_path", grid))
        return self._tokens(F.pad(maps_TDrc[:, :, None], (0, 0, 0, 0, self.window.before, self.window.after)))

    def _tokens(self, maps: torch.Tensor) -> torch.Tensor:
        """Turn padded maps `(T, D, F + 2, r, c)` into tokens `(T, N, M)`."""
        motion = F.silu(self.temporal(maps))
        own = maps[:, :, self.window.before : maps.shape[2] - self.window.after]
        detail = F.silu(self.spatial(own))
        joined = torch.cat([detail, motion], dim=1).movedim(1, -1)
        gate = self.gate(joined).sigmoid().movedim(-1, 1)
        mixed_THFrc = gate * detail + (1 - gate) * motion
        pooled = F.avg_pool2d(mixed_THFrc.flatten(1, 2), self.pool).unflatten(1, mixed_THFrc.shape[1:3])
        tokens: torch.Tensor = self.linear(pooled.flatten(2).transpose(1, 2))
        return tokens
