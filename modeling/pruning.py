# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pruned image tokens inside the model: positions with gaps, and VisionZip's choice behind the encoder.

Gaps. A processor with `prune={"type": "pixelprune"}` leaves tokens out and says which: -4 - t in `image_token_index`
stands for token t, which has no placeholder. Every token of the prompt gets the position that it has without pruning,
so that positions have gaps at the tokens that are left out, and text behind an image is not moved. Tokens that are
left out at the end of a view are skipped right behind its last placeholder; where a prompt ends there, the answer's
positions begin there.

VisionZip, per view, from the attention of the low-res tower's last layer that is kept:

    score of patch p     sum over heads of attention(CLS -> p); without CLS the mean over heads and queries
    dominant tokens      the `dominant` largest scores, in the order of the patches; CLS before them
    targets              of the R other patches, every max(1, R // contextual)-th from the first one on
    contextual tokens    target + mean of the other patches whose keys are closest to its keys (cosine, mean of heads)

The scores take a product of their own, queries times keys of one layer, so that attention can run in any
implementation. Scores and keys choose, and get no gradient.

Paper: Yang et al., "VisionZip: Longer is Better but Not Necessary in Vision Language Models", arXiv:2412.04467.
Code: dvlab-research/VisionZip, `clip_encoder.py`, `utils.py`, `llava_arch.py`.

Deviations: a fusion's features are chosen by the scores of the low-res tower; they have no CLS token (`cls` false).
The form without CLS is that of ports.

Shapes: B samples, L sequence length, T views, N prefix tokens (CLS), P patches, D width, h heads, d width of a head.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from .image_tokens import DROPPED, PADDING
from .modeling_packed_rows import is_packed
from .part_options import as_options

if TYPE_CHECKING:
    from .connector import Connector
    from .fusion import Fusion
    from .image_plan import ImagePlan


class PruningError(ValueError):
    """A model cannot prune its image tokens as it was told."""


def gaps_of(rows: Sequence[torch.Tensor]) -> list[torch.Tensor] | None:
    """Return how many tokens are left out behind each placeholder of each image.

    Args:
        rows: One row of `image_token_index` per image.

    Returns:
        One `(N_i,)` int64 per image, or None if no token is left out.
    """
    rows = [torch.as_tensor(row) for row in rows]
    if not any(bool((row <= DROPPED).any()) for row in rows):
        return None
    found = []
    for row in rows:
        row = row[row != PADDING]
        kept = row > DROPPED
        place = kept.long().cumsum(0) - 1
        if not bool(kept[:1].all()):
            raise PruningError("The first token of an image must be kept; pass the processor's output unchanged.")
        found.append(torch.zeros(int(kept.sum()), dtype=torch.int64, device=row.device))
        found[-1].index_add_(0, place[~kept], torch.ones_like(place[~kept]))
    return found


def shifts(placeholders: torch.Tensor, gaps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return how far each token's position lies behind the number of its place, `(B, L)` int64.

    Args:
        placeholders: `(B, L)` bool, true at the placeholders of images.
        gaps: Of each image, see `gaps_of`.

    Raises:
        PruningError: If there are not as many placeholders as image tokens.
    """
    skipped = torch.cat([own.to(placeholders.device) for own in gaps])
    if int(placeholders.sum()) != len(skipped):
        raise PruningError(
            f"The batch has {int(placeholders.sum())} placeholders but {len(skipped)} image tokens that are kept. "
            "Pass the processor's output unchanged."
        )
    behind = torch.zeros(placeholders.shape, dtype=torch.int64, device=placeholders.device)
    behind[placeholders] = skipped
    return behind.cumsum(dim=1) - behind


def positions_and_mask(
    language_model: Any,
    placeholders: torch.Tensor,
    gaps: Sequence[torch.Tensor] | None,
    position_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    cache: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return positions with gaps, and a mask beside which transformers does not take gaps for borders of samples.

    Args:
        language_model: The language model, for its kind of attention.
        placeholders: `(B, L)` bool.
        gaps: Of each image, or None.
        position_ids: Those of the call, which are kept as they are; None: they are counted.
        attention_mask: That of the call.
        cache: Keys and values of earlier tokens, or None.
    """
    if position_ids is None:
        past = 0 if cache is None else cache.get_seq_length()
        numbers = past + torch.arange(placeholders.shape[1], device=placeholders.device)
        position_ids = numbers + getattr(cache, "position_offset", placeholders.new_zeros(len(placeholders), 1).long())
        position_ids = position_ids if gaps is None else position_ids + shifts(placeholders, gaps)
    elif gaps is not None and is_packed(position_ids, attention_mask, language_model.config._attn_implementation):
        return position_ids, _mask_of_rows(language_model, position_ids)
    if attention_mask is None and cache is None:
        attention_mask = torch.ones(placeholders.shape, dtype=torch.long, device=placeholders.device)
    return position_ids, attention_mask


def _mask_of_rows(language_model: Any, position_ids: torch.Tensor) -> torch.Tensor | None:
    """Return the mask of rows of several samples, `(B, 1, L, L)`, 0 where a token reads another and -inf elsewhere.

    transformers finds the samples of a row by steps of positions other than 1, which are gaps here; flash attention
    finds them by their position 0.
    """
    config = language_model.config
    kind = config._attn_implementation
    if "flash" in kind:
        return None
    if kind not in ("sdpa", "eager") or set(getattr(config, "layer_types", None) or ()) - {"full_attention"}:
        raise PruningError(
            "Rows of several samples with pruned images need a language model of full attention, by 'sdpa', 'eager' "
            f"or flash attention; here it is {kind!r} and {getattr(config, 'layer_types', None)}. Train without "
            "packing, or without `prune`."
        )
    starts = torch.nn.functional.pad(position_ids[:, 1:] <= position_ids[:, :-1], (1, 0))
    sample = starts.long().cumsum(dim=1)
    length = position_ids.shape[1]
    reads = (sample[:, :, None] == sample[:, None]) & torch.ones(
        length, length, dtype=torch.bool, device=position_ids.device
    ).tril()
    dtype = language_model.get_input_embeddings().weight.dtype
    mask = torch.zeros(reads.shape, dtype=dtype, device=position_ids.device)
    return mask.masked_fill(~reads, torch.finfo(dtype).min)[:, None]


def keep_offset(cache: Any, position_ids: torch.Tensor) -> None:
    """Note at a cache how far the next token's position lies behind its number, for calls without positions."""
    if cache is not None:
        cache.position_offset = position_ids[:, -1:] + 1 - cache.get_seq_length()


def of_prompt(
    positions: torch.Tensor, placeholders: torch.Tensor, gaps: Sequence[torch.Tensor] | None, cache: Any
) -> torch.Tensor:
    """Return positions with gaps of a prompt for `generate`, `(B, S)`.

    Args:
        positions: Without gaps, `(B, S)` or `(1, S)`, S at least L if a cache precedes.
        placeholders: `(B, L)` bool, of the prompt, or of its new tokens alone.
        gaps: Of each image of these tokens, or None.
        cache: Keys and values of earlier tokens, or None.
    """
    length = placeholders.shape[1]
    positions = positions.expand(len(placeholders), -1)
    shift = torch.zeros_like(positions[:, :length]) if gaps is None else shifts(placeholders, gaps)
    past = positions.shape[1] - length
    if past == 0:
        return positions + shift
    numbers = past + torch.arange(length, device=positions.device)
    return torch.cat([positions[:, :past], numbers + getattr(cache, "position_offset", 0) + shift], dim=1)


def check_cells(config: Any, fusion: "Fusion", connector: "Connector") -> None:
    """Check that a model's image tokens are cells of a view, of which single ones can be left out.

    Raises:
        PruningError: If they are not; names the part.
    """
    if config.shared_positions:
        raise PruningError(
            "`prune` 'pixelprune' keeps the positions of tokens, and a model with `shared_positions` has one for all "
            "patches of an image. Load it without `prune`."
        )
    grid = connector.token_grid(fusion.output_grid) if fusion.tokens_are_places else None
    if grid is None or connector.patch_block is None or connector.over_time == "clip":
        why = "joins frames" if connector.over_time == "clip" else "makes tokens that are no cells of a view"
        part = f"Connector {config.connector['type']!r}"
        if not fusion.tokens_are_places:
            part, why = f"Fusion {config.fusion['type']!r}", "makes tokens that are no cells of a view"
        raise PruningError(
            f"{part} {why}, so `prune` 'pixelprune' cannot leave single ones out: it needs one token per cell, as of "
            "'mlp' or 'pixel_shuffle'. Load the processor without `prune`."
        )


class VisionZip:
    """Choice of `dominant` patches and merging of the others into `contextual` tokens, of every view alone.

    Args:
        config: The `FilaConfig`.
        fusion: The model's fusion. Its `output_grid` becomes that of the tokens that are left.
        tower: The low-res tower; its layers must be CLIP's or SigLIP's.

    Raises:
        PruningError: If the model's parts or settings do not go with it.
    """

    def __init__(self, config: Any, fusion: "Fusion", tower: Any) -> None:
        options = check_options(config.prune)
        self.dominant, self.contextual = options["dominant"], options["contextual"]
        self.cls: bool = options["cls"]
        self.prefix = int(tower.num_prefix_tokens)
        self.grid = config.patch_grid
        rows, cols = self.grid
        layer = tower.layers[-1]
        if not (hasattr(layer, "layer_norm1") and hasattr(getattr(layer, "self_attn", None), "k_proj")):
            raise PruningError(
                f"`prune` 'visionzip' reads queries and keys as the layers of CLIP and SigLIP make them; those of "
                f"tower {tower.config.model_type!r} differ."
            )
        if config.vision_feature_select != "patch":
            raise PruningError("`prune` 'visionzip' adds CLS by itself: `vision_feature_select` must be 'patch'.")
        if config.has_injection or config.has_serial_towers or hasattr(tower, "vit_merger"):
            raise PruningError(
                "`prune` 'visionzip' chooses among the patches of a ViT that reads pixels, keeps their number and "
                "gives one stream of features; this model has an injection, serial towers or `merge_after`. Load it "
                "without `prune`."
            )
        if config.video_token_id is not None:
            raise PruningError(
                "`prune` 'visionzip' prunes images, and this model takes videos too, whose frames it does not prune. "
                "Load it without `prune`, or set `video_token_id=None`."
            )
        if self.cls and (self.prefix != 1 or not fusion.takes_cls):
            who = f"tower {tower.config.model_type!r}" if self.prefix != 1 else f"fusion {config.fusion['type']!r}"
            raise PruningError(
                f"`prune` 'visionzip' keeps CLS, which {who} does not have in its features. Set `cls` to false, for "
                "the model and for the processor."
            )
        if fusion.output_grid != self.grid or not fusion.tokens_are_places:
            raise PruningError(
                f"`prune` 'visionzip' chooses patches, and fusion {config.fusion['type']!r} gives other tokens than "
                "one per patch."
            )
        if self.dominant + self.contextual > rows * cols:
            raise PruningError(
                f"`prune` 'visionzip' must keep at most the {rows * cols} patches of a view; got {self.dominant} "
                f"dominant and {self.contextual} contextual tokens."
            )
        fusion.output_grid, fusion.tokens_are_places = (1, self.num_tokens), False

    @property
    def num_tokens(self) -> int:
        """Tokens of a view."""
        return int(self.cls + self.dominant + self.contextual)

    def check_connector(self, config: Any, connector: "Connector") -> None:
        """Reject a connector that reads the patches' places, with a `PruningError`."""
        if connector.patch_block != 1 or connector.over_time == "clip":
            raise PruningError(
                f"Connector {config.connector['type']!r} needs the grid of a view's patches, of which `prune` "
                "'visionzip' leaves some out. It goes with a connector that takes patch by patch, such as 'mlp'."
            )

    def refuse_unequal_views(self) -> None:
        """Reject views that differ in size, with a `PruningError`."""
        raise PruningError(
            "`prune` 'visionzip' gives every view one number of tokens, and `patch_grids` says that the views differ "
            "in size. Choose a canvas of equal views."
        )

    @torch.no_grad()
    def received(self, layer: Any, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores `(T, P)` and keys `(T, P, d)` of the patches, from the input `(T, N + P, D)` of a layer."""
        attention = layer.self_attn
        normed = layer.layer_norm1(hidden_states)
        heads = attention.num_heads
        query, key = (
            project(normed).unflatten(-1, (heads, -1)).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj)
        )  # (T, h, N + P, d)
        if self.prefix:
            query = query[:, :, :1]
        weights = (query @ key.transpose(2, 3) * key.shape[-1] ** -0.5).softmax(dim=-1, dtype=torch.float32)
        scores = weights[:, :, 0].sum(dim=1) if self.prefix else weights.mean(dim=(1, 2))
        return scores[:, self.prefix :], key.mean(dim=1)[:, self.prefix :]

    def __call__(
        self, features: torch.Tensor, cls: torch.Tensor, scores: torch.Tensor, keys: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Choose and merge.

        Args:
            features: `(T, P, D)`.
            cls: `(T, N, D)`; N is not read without `cls`.
            scores, keys: Of `received`.

        Returns:
            Tokens `(T, CLS + dominant + contextual, D)`, and the dominant patches `(T, dominant)`, in their order.
        """
        chosen = scores.topk(self.dominant, dim=1).indices.sort(dim=1).values
        is_chosen = torch.zeros_like(scores, dtype=torch.long).scatter_(1, chosen, 1)
        rest = is_chosen.argsort(dim=1, stable=True)[:, : scores.shape[1] - self.dominant]  # (T, R), in order
        targets, members, nearest = assign(_rows(keys, rest), self.contextual)
        others = _rows(features, rest)
        merged = torch.zeros_like(others[:, : self.contextual])
        merged = merged.scatter_add(1, nearest[..., None].expand(-1, -1, others.shape[2]), others[:, members])
        counts = torch.zeros_like(nearest[:, :1].expand(-1, self.contextual).contiguous())
        counts = counts.scatter_add(1, nearest, torch.ones_like(nearest)).clamp(min=1)
        contextual = others[:, targets] + merged / counts[..., None].to(merged.dtype)
        parts = [cls[:, :1]] if self.cls else []
        return torch.cat([*parts, _rows(features, chosen), contextual], dim=1), chosen

    def in_map_order(
        self, tokens: Sequence[torch.Tensor], chosen: torch.Tensor, plan: "ImagePlan"
    ) -> list[torch.Tensor]:
        """Sort the tokens of images with several tiles as LLaVA-NeXT's VisionZip does.

        Behind those of the overview come the dominant tokens of all tiles, row by row of the map that the tiles form
        together, then CLS of each tile, then all contextual tokens.

        Args:
            tokens: One `(V_i * n, M)` per image, view by view.
            chosen: `(T, dominant)`.
            plan: The images' views.
        """
        cls, count = int(self.cls), self.num_tokens
        sorted_tokens, first = [], 0
        for own, num_views, (rows, cols) in zip(tokens, plan.num_views, plan.layout.tile_grids, strict=True):
            overview = num_views - rows * cols
            places = chosen[first + overview : first + num_views].cpu()
            first += num_views
            if num_views == 1:
                sorted_tokens.append(own)
                continue
            tile = torch.arange(rows * cols)[:, None]
            row = tile // cols * self.grid[0] + places // self.grid[1]
            col = tile % cols * self.grid[1] + places % self.grid[1]
            order = (row * cols * self.grid[1] + col).flatten().argsort().to(own.device)
            tiles = own[overview * count :].unflatten(0, (rows * cols, count))
            parts = [
                own[: overview * count],
                tiles[:, cls : cls + self.dominant].flatten(0, 1)[order],
                tiles[:, :cls].flatten(0, 1),
                tiles[:, cls + self.dominant :].flatten(0, 1),
            ]
            sorted_tokens.append(torch.cat(parts))
        return sorted_tokens


def assign(keys: torch.Tensor, contextual: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Assign every token to the target of the closest keys.

    Args:
        keys: `(T, R, d)`, of the patches that are not dominant.
        contextual: Number of targets.

    Returns:
        Numbers of the targets `(contextual,)` and of the others `(R - contextual,)` among the R; the place of each
        other token's target among the targets, `(T, R - contextual)`.
    """
    count = keys.shape[1]
    chosen = range(0, count, max(1, count // contextual))[:contextual]
    targets = torch.tensor(chosen, device=keys.device)
    members = torch.tensor([each for each in range(count) if each not in chosen], device=keys.device, dtype=torch.long)
    normed = keys / keys.norm(dim=-1, keepdim=True)
    nearest = (normed[:, members] @ normed[:, targets].transpose(1, 2)).argmax(dim=2)
    return targets, members, nearest


def check_options(options: object) -> dict[str, Any]:
    """Return the options of `FilaConfig.prune` with defaults.

    Raises:
        PruningError: If they are not accepted.
    """
    given = as_options(options)
    name = given.get("type") if isinstance(given, Mapping) else None
    if name not in ("pixelprune", "visionzip"):
        raise PruningError(f"`prune.type` must be 'pixelprune' or 'visionzip'; got {options!r}.")
    own = {key: value for key, value in given.items() if key != "type"}
    accepted = ("tau", "level") if name == "pixelprune" else ("dominant", "contextual", "cls")
    if unknown := sorted(set(own) - set(accepted)):
        raise PruningError(f"Pruning {name!r} has no option {unknown}; it accepts {list(accepted)}.")
    if name == "pixelprune":
        if own.get("tau", 0) != 0 or own.get("level", "a") != "a":
            raise PruningError(f"`prune` 'pixelprune' has `tau` 0 and `level` 'a' alone; got {own}.")
        return {"type": name}
    for option in ("dominant", "contextual"):
        value = own.get(option)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise PruningError(f"`prune.{option}` must be a positive number of tokens; got {value!r}.")
    if not isinstance(own.setdefault("cls", True), bool):
        raise PruningError(f"`prune.cls` must be true or false; got {own['cls']!r}.")
    return {"type": name, **own}


def _rows(tensor: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return rows `index` `(T, K)` of each view of `(T, P, D)`."""
    return tensor.gather(1, index[..., None].expand(-1, -1, tensor.shape[2]))


class Pruning:
    """The functions of this file that a model calls."""

    VisionZip = VisionZip
    check_cells = staticmethod(check_cells)
    check_options = staticmethod(check_options)
    gaps_of = staticmethod(gaps_of)
    keep_offset = staticmethod(keep_offset)
    of_prompt = staticmethod(of_prompt)
    positions_and_mask = staticmethod(positions_and_mask)
    shifts = staticmethod(shifts)
