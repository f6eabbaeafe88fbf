# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Multi-encoder queries: learned queries read the tokens of all towers, put into one sequence.

Paper: Kar et al., "BRAVE: Broadening the visual encoding of vision-language models", arXiv:2404.07204, section 3. No
code was published.

    X = [W_1 tower 1 ; W_2 tower 2 ; ...]                    no code of the tower
    per layer: q <- norm(q + attention(q, q));  every other layer: q <- norm(q + attention(q, X));
    q <- norm(q + W_2 gelu(W_1 q))                           a Q-Former's, norms after the sums

12 layers of width 768, 32 queries per tower, X of width 1408. Training hides each tower from the queries with
probability `encoder_dropout` (0.2 in the paper's pre-training), image by image, but never all towers.

Deviations: the paper's queries also attend to the text prompt; here the image is encoded once, before the prompt is
known. The paper's queries read a whole image; here they read one view at a time. Towers are hidden per view.

Shapes: T views, P patches, D low-res width, E width of a stage, s cells per side, Q queries, W query width.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .configuration_fila import FilaConfig
from .fusion_align import checked_stages, map_shapes
from .fusion_at_end import FusionAtEnd
from .part_attention import CrossAttention, check_heads
from .towers import last_stages
from .view_layout import ViewLayout


class QueryLayer(nn.Module):
    """One layer of the query transformer."""

    def __init__(self, width: int, key_size: int | None, num_heads: int) -> None:
        super().__init__()
        self.self_attention = CrossAttention(width, num_heads)
        self.self_norm = nn.LayerNorm(width, eps=1e-12)
        self.cross_attention = None if key_size is None else CrossAttention(width, num_heads, key_size)
        self.cross_norm = None if key_size is None else nn.LayerNorm(width, eps=1e-12)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, queries: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Map `(T, Q, W), (T, K, C), (T, K) bool -> (T, Q, W)`."""
        queries = self.self_norm(queries + self.self_attention(queries, queries, queries))
        if self.cross_attention is not None and self.cross_norm is not None:
            queries = self.cross_norm(queries + self.cross_attention(queries, tokens, tokens, mask))
        normed: torch.Tensor = self.norm(queries + self.fc2(F.gelu(self.fc1(queries))))
        return normed


class QueryTransformer(nn.Module):
    """The queries and their layers."""

    def __init__(self, num_queries: int, width: int, key_size: int, num_heads: int, num_layers: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.zeros(num_queries, width))
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(
            QueryLayer(width, key_size if index % 2 == 0 else None, num_heads) for index in range(num_layers)
        )

    def set_initial_weights(self, std: float) -> None:
        """Draw small random queries, all different."""
        init.normal_(self.queries, mean=0.0, std=std)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Map `(T, K, C), (T, K) bool -> (T, Q, W)`."""
        queries = self.norm(self.queries).expand(tokens.shape[0], -1, -1)
        for layer in self.layers:
            queries = layer(queries, tokens, mask)
        return queries


class MultiEncoderQueriesFusion(FusionAtEnd):
    """BRAVE's fusion: a fixed number of tokens per view for any towers.

    Args:
        config: The `FilaConfig`.
        stages: Stages of the high-res towers that are read, each as one encoder, counted from 1 through all of
            them; the last of each tower by default.
        num_queries: Q; 32 per encoder by default.
        hidden_size: W.
        key_size: Width to which each encoder's tokens are projected.
        num_layers: Layers; every other one, from the first, reads the encoders.
        num_heads: Heads of the attention.
        encoder_dropout: Probability with which an encoder is hidden in training.

    Raises:
        ValueError: If a stage does not exist or a number does not fit.
    """

    tokens_are_places = False
    _no_split_modules = ("QueryLayer",)

    def __init__(
        self,
        config: FilaConfig,
        *,
        stages: list[int] | None = None,
        num_queries: int | None = None,
        hidden_size: int = 768,
        key_size: int = 1408,
        num_layers: int = 12,
        num_heads: int = 12,
        encoder_dropout: float = 0.0,
    ) -> None:
        chosen = checked_stages(config, "stages", last_stages(config) if stages is None else stages)
        super().__init__(config, *[(stage,) for stage in chosen])
        widths = [self.output_size, *[width for width, _ in map_shapes(config, self.final_stages)]]
        num_queries = 32 * len(widths) if num_queries is None else num_queries
        for name, number in (("num_queries", num_queries), ("num_layers", num_layers), ("key_size", key_size)):
            if number < 1:
                raise ValueError(f"`fusion.{name}` must be at least 1; got {number}.")
        check_heads("fusion.num_heads", num_heads, hidden_size)
        if not 0 <= encoder_dropout < 1:
            raise ValueError(f"`fusion.encoder_dropout` must be in [0, 1); got {encoder_dropout}.")
        self.encoder_dropout = encoder_dropout
        self.project = nn.ModuleList(nn.Linear(width, key_size) for width in widths)
        self.reader = QueryTransformer(num_queries, hidden_size, key_size, num_heads, num_layers)
        self.output_size = hidden_size
        self.output_grid = 1, num_queries

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Map `(low (T, P, D), maps (T, E, s, s)) -> (T, Q, W)`."""
        encoders = [low, *[map_.to(low.dtype).flatten(2).transpose(1, 2) for map_ in maps]]
        tokens = [project(encoder) for project, encoder in zip(self.project, encoders, strict=True)]
        mask = self._mask([encoder.shape[1] for encoder in tokens], low) if self.training else None
        found: torch.Tensor = self.reader(torch.cat(tokens, dim=1), mask)
        return found

    def _mask(self, lengths: list[int], low: torch.Tensor) -> torch.Tensor | None:
        """Return the mask `(T, K)` bool of the tokens of encoders that are not hidden; at least one stays."""
        if self.encoder_dropout == 0:
            return None
        draws = torch.rand(len(low), len(lengths), device=low.device)
        shown = (draws >= self.encoder_dropout) | (draws == draws.amax(dim=1, keepdim=True))
        return shown.repeat_interleave(torch.tensor(lengths, device=low.device), dim=1)
