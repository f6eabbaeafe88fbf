# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Multi-scale residual quantiser: turn a feature map into code ids of growing grids, with one codebook for all scales.

Paper: Tian et al., "Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction",
arXiv:2404.02905, section 3.2. Code: FoundationVision/VAR @ 78b9539, `models/quant.py`.

    rest = f, fhat = 0
    for scale k = 0 .. K - 1:
        ids_k = nearest codes to area(rest, h_k x w_k)          the last scale takes `rest` as it is
        h = phi_k(bicubic(codes[ids_k], H x W))
        fhat = fhat + h,  rest = rest - h
    phi(x) = (1 - r) x + r conv(x)                              3 x 3, r = |phi_ratio|

    loss = mean over k of [beta |sg(fhat_k) - f|^2 + |fhat_k - sg(f)|^2]

Scale k takes the phi whose tick is nearest to k / (K - 1), in double precision: two of the released ten scales are
ties that the last bit decides.

Deviations: hits are counted whenever the module trains, not only in a process group, and are summed over the
processes where there is one. Half-precision vectors are compared with the codes in float32. One scale alone is
allowed (the source divides by zero).

Shapes: B images, C channels, (H, W) of the map, V codes, K scales, (h_k, w_k) grid of scale k.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

Grid = tuple[int, int]
PatchNums = Sequence[int | Sequence[int]]

MAX_SCORES = 2**20  # scores of vectors against codes in memory at once: 4 MiB in float32, which fits into caches
IDENTITY_RATIO = 1e-6  # the source leaves phi out up to this ratio
USED_SHARE = 0.08  # a code counts as used above this fraction of its even share of hits


def scale_grids(patch_nums: PatchNums) -> list[Grid]:
    """Return (rows, cols) of each scale.

    Raises:
        ValueError: If there is no scale or a side is not positive.

    Example:
        >>> scale_grids([1, 2, (3, 5)])
        [(1, 1), (2, 2), (3, 5)]
    """
    grids = [(num, num) if isinstance(num, int) else (int(num[0]), int(num[1])) for num in patch_nums]
    if not grids or min(min(grid) for grid in grids) < 1:
        raise ValueError(f"`patch_nums` must name at least one scale, with positive sides; got {list(patch_nums)}.")
    return grids


def phi_index(scale: int, num_scales: int, num_phis: int) -> int:
    """Return the index of the phi that a scale uses.

    Example:
        >>> [phi_index(scale, 10, 4) for scale in range(10)]
        [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    """
    margin = 1 / 3 / num_phis if num_phis == 4 else 1 / 2 / num_phis
    ticks = np.linspace(margin, 1 - margin, num_phis)
    place = scale / (num_scales - 1) if num_scales > 1 else 0.0
    return int(np.argmin(np.abs(ticks - place)))


def nearest_codes(
    vectors: torch.Tensor, codes: torch.Tensor, *, cosine: bool = False, max_scores: int = MAX_SCORES
) -> torch.Tensor:
    """Return the id of the nearest code for each vector, by matrix products in bounded memory.

    Args:
        vectors: `(N, C)`.
        codes: `(V, C)`.
        cosine: Whether directions are compared in place of Euclidean distances.
        max_scores: Most scores in memory at once; never fewer than those of one vector.

    Returns:
        `(N,)` int64; the first of equally near codes.
    """
    dtype = torch.promote_types(vectors.dtype, torch.float32)
    vectors, codes = vectors.detach().to(dtype), codes.detach().to(dtype)
    if cosine:
        vectors, codes = F.normalize(vectors, dim=-1), F.normalize(codes, dim=-1)
    lengths, squares = vectors.square().sum(dim=1, keepdim=True), codes.square().sum(dim=1)
    rows = max(1, max_scores // len(codes))
    ids = torch.empty(len(vectors), dtype=torch.int64, device=vectors.device)
    scores = vectors.new_empty(min(rows, len(vectors)), len(codes))  # one for all chunks: freed ones fragment memory
    for start in range(0, len(vectors), rows):
        part = vectors[start : start + rows]
        found = scores[: len(part)]
        if cosine:
            ids[start : start + rows] = found.addmm_(part, codes.T, beta=0).argmax(dim=1)
        else:
            found.copy_(squares).add_(lengths[start : start + rows]).addmm_(part, codes.T, alpha=-2)
            ids[start : start + rows] = found.argmin(dim=1)
    return ids


class Phi(nn.Conv2d):
    """The convolution after upsampling, mixed with its input."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__(channels, channels, kernel_size=3, padding=1)
        self.ratio = ratio

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix `(B, C, H, W)` with its convolution."""
        return x * (1 - self.ratio) + super().forward(x) * self.ratio


class Quantized(NamedTuple):
    """Result of the quantiser in training.

    Attributes:
        features: `(B, C, H, W)`, the last fhat; its gradient passes unchanged to the input.
        loss: Scalar, codebook and commitment loss.
        ids: One `(B, h_k w_k)` int64 per scale.
    """

    features: torch.Tensor
    loss: torch.Tensor
    ids: list[torch.Tensor]


class FilaMultiScaleQuantizer(nn.Module):
    """Quantises a feature map scale by scale with one codebook.

    Args:
        codebook_size: V.
        code_size: C.
        patch_nums: Patches per side of each scale, or (rows, cols); the last is the map's grid.
        num_phis: Convolutions that the scales share: 1 for all, or one per scale.
        phi_ratio: Share of the convolution in phi; up to 1e-6 phi is the identity.
        normalize_codes: Whether codes are looked up by direction; the code that is added is not normalised.
        commitment: beta.
        count_hits: Whether training counts the hits of each code.

    Raises:
        ValueError: If a size is not positive.
    """

    code_hits: torch.Tensor | None
    hit_updates: torch.Tensor | None

    def __init__(
        self,
        codebook_size: int,
        code_size: int,
        patch_nums: PatchNums,
        *,
        num_phis: int = 4,
        phi_ratio: float = 0.5,
        normalize_codes: bool = False,
        commitment: float = 0.25,
        count_hits: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("codebook_size", codebook_size), ("code_size", code_size), ("num_phis", num_phis)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1; got {value}.")
        self.patch_nums = scale_grids(patch_nums)
        self.normalize_codes = normalize_codes
        self.commitment = commitment
        self.embedding = nn.Embedding(codebook_size, code_size)
        ratio = abs(phi_ratio)
        self.phis = nn.ModuleList(Phi(code_size, ratio) for _ in range(num_phis if ratio > IDENTITY_RATIO else 0))
        # statistics, not weights: a decaying count of each code's hits per scale, and the number of counted scales
        hits = torch.zeros(len(self.patch_nums), codebook_size) if count_hits else None
        self.register_buffer("code_hits", hits)
        self.register_buffer("hit_updates", torch.zeros((), dtype=torch.int64) if count_hits else None)

    @property
    def codebook_size(self) -> int:
        """V, the number of codes."""
        return self.embedding.num_embeddings

    def set_initial_weights(self, std: float) -> None:
        """Draw codes uniformly within 1 / V, as VQGAN does; the phis start as any convolution."""
        bound = 1 / self.codebook_size
        init.uniform_(self.embedding.weight, -bound, bound)
        for statistic in (self.code_hits, self.hit_updates):
            if statistic is not None:
                init.zeros_(statistic)

    def encode(
        self, features: torch.Tensor, *, patch_nums: PatchNums | None = None, num_scales: int | None = None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Quantise without gradients.

        Args:
            features: `(B, C, H, W)`.
            patch_nums: Scales in place of the module's; the last must be (H, W).
            num_scales: Number of scales to encode; all by default.

        Returns:
            Per scale the ids `(B, h_k w_k)`, and fhat `(B, C, H, W)` after it.

        Raises:
            ValueError: If the last scale is not the map's grid.
        """
        grids = self._grids(patch_nums)
        with torch.no_grad(), _without_autocast(features):
            steps = []
            for step, _ in zip(self._scales(features, grids), range(num_scales or len(grids)), strict=False):
                steps.append(step)
        ids, parts = zip(*steps, strict=True)
        return list(ids), _running_sums(parts)

    def decode(
        self, ids: Sequence[torch.Tensor], *, patch_nums: PatchNums | None = None, full_size: bool = True
    ) -> list[torch.Tensor]:
        """Decode ids to the map fhat after each scale.

        Args:
            ids: `(B, h_k w_k)` of the first scales, or of all.
            patch_nums: Scales of the ids, if not the module's.
            full_size: Draw each scale at the last scale's grid, as in encoding. Otherwise draw it at its own grid; the
                result differs and is cheaper.

        Returns:
            One `(B, C, H, W)` per scale given; `(B, C, h_k, w_k)` without `full_size`.

        Raises:
            ValueError: If the scales or the numbers of ids do not match `patch_nums`.
        """
        grids = self._grids(patch_nums)
        self._check_ids(ids, grids)
        if full_size:
            return _running_sums([self._drawn(scale, grids, scale_ids) for scale, scale_ids in enumerate(ids)])
        maps: list[torch.Tensor] = []
        for scale, (scale_ids, grid) in enumerate(zip(ids, grids, strict=False)):
            part = self._phi(scale, len(grids), self._codes(scale_ids, grid))
            maps.append(part + F.interpolate(maps[-1], size=grid, mode="bicubic") if maps else part)
        return maps

    def next_scale_inputs(self, ids: Sequence[torch.Tensor], *, patch_nums: PatchNums | None = None) -> torch.Tensor:
        """Return the inputs of a next-scale predictor from the ids of all scales but the last, side by side.

        Returns:
            `(B, sum of h_k w_k over k > 0, C)`: fhat after scale k - 1, area-averaged to the grid of scale k.
        """
        grids = self._grids(patch_nums)
        maps = self.decode(ids[: len(grids) - 1], patch_nums=patch_nums) if len(grids) > 1 else []
        inputs = [
            F.interpolate(fhat, size=grid, mode="area").flatten(2) for fhat, grid in zip(maps, grids[1:], strict=True)
        ]
        return torch.cat(inputs, dim=2).transpose(1, 2) if inputs else self.embedding(ids[0][:, :0])

    def next_scale_input(
        self, scale: int, fhat: torch.Tensor | None, codes: torch.Tensor, *, patch_nums: PatchNums | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Do one step of generation: add a scale's codes and return the next input.

        Args:
            scale: k, from 0.
            fhat: `(B, C, H, W)` after scale k - 1; None at scale 0.
            codes: `(B, C, h_k, w_k)`, the chosen codes.
            patch_nums: Scales in place of the module's.

        Returns:
            fhat after scale k, and the predictor's next input: fhat averaged to the grid of scale k + 1, or fhat
            itself after the last scale.
        """
        grids = self._grids(patch_nums)
        part = self._lifted(scale, grids, codes)
        fhat = part if fhat is None else fhat + part
        following = grids[min(scale + 1, len(grids) - 1)]
        return fhat, F.interpolate(fhat, size=following, mode="area") if scale + 1 < len(grids) else fhat

    def forward(self, features: torch.Tensor) -> Quantized:
        """Quantise `(B, C, H, W)` with gradients, and count the codes' hits in training mode."""
        with _without_autocast(features):
            wanted = features.to(self.embedding.weight.dtype)
            fixed = wanted.detach()
            fhat = torch.zeros_like(fixed)
            loss = fixed.new_zeros(())
            all_ids = []
            for ids, part in self._scales(fixed, self.patch_nums):
                fhat = fhat + part
                loss = loss + self.commitment * F.mse_loss(fhat.detach(), wanted) + F.mse_loss(fhat, fixed)
                all_ids.append(ids)
            passed = (fhat.detach() - fixed) + wanted
        if self.training and self.code_hits is not None:
            self._count_hits(all_ids)
        return Quantized(passed.to(features.dtype), loss / len(self.patch_nums), all_ids)

    def usage(self, num_vectors: int) -> torch.Tensor:
        """Return the share of the codes in use, per scale, by VAR's rule.

        Its threshold is the same for all scales, so small scales always look unused; to measure their real usage,
        count the ids of `encode`.

        Args:
            num_vectors: B H W of a step, of one process.

        Returns:
            `(K,)` between 0 and 1: codes with at least 0.08 of the hits that an even use would give them.

        Raises:
            ValueError: If the module does not count hits.
        """
        if self.code_hits is None:
            raise ValueError("Usage needs the statistics of hits; this quantiser was built with `count_hits=False`.")
        processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        threshold = processes * num_vectors / self.codebook_size * USED_SHARE
        return (self.code_hits >= threshold).float().mean(dim=1)

    def _grids(self, patch_nums: PatchNums | None) -> list[Grid]:
        return self.patch_nums if patch_nums is None else scale_grids(patch_nums)

    def _check_ids(self, ids: Sequence[torch.Tensor], grids: list[Grid]) -> None:
        if not 1 <= len(ids) <= len(grids):
            raise ValueError(f"There must be ids of 1 to {len(grids)} scales; got {len(ids)}.")
        for scale, (found, (rows, cols)) in enumerate(zip(ids, grids, strict=False)):
            if found.shape[1:] != (rows * cols,):
                raise ValueError(
                    f"Scale {scale} has {rows}x{cols} patches, so its ids must be (images, {rows * cols}); got "
                    f"{tuple(found.shape)}. Pass the `patch_nums` that the ids were made with."
                )

    def _scales(self, features: torch.Tensor, grids: list[Grid]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield per scale the ids `(B, h_k w_k)` and their update of fhat, `(B, C, H, W)`."""
        if tuple(features.shape[-2:]) != grids[-1]:
            raise ValueError(
                f"The last scale must be the map's grid; the map is {tuple(features.shape[-2:])} and `patch_nums` "
                f"ends in {grids[-1]}. Resize the images, or pass `patch_nums`."
            )
        # by a call: offloaded weights are loaded only inside calls
        codes = self.embedding(torch.arange(self.codebook_size, device=features.device)).detach()
        rest = features.detach().to(codes.dtype)
        for scale, grid in enumerate(grids):
            pooled = rest if scale == len(grids) - 1 else F.interpolate(rest, size=grid, mode="area")
            vectors = pooled.permute(0, 2, 3, 1).flatten(0, 2)
            ids = nearest_codes(vectors, codes, cosine=self.normalize_codes).view(len(rest), -1)
            part = self._drawn(scale, grids, ids)
            rest = rest - part.detach()
            yield ids, part

    def _codes(self, ids: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Look up the codes of ids: `(B, h w) -> (B, C, h, w)`."""
        codes: torch.Tensor = self.embedding(ids)
        return codes.transpose(1, 2).unflatten(2, grid)

    def _drawn(self, scale: int, grids: list[Grid], ids: torch.Tensor) -> torch.Tensor:
        return self._lifted(scale, grids, self._codes(ids, grids[scale]))

    def _lifted(self, scale: int, grids: list[Grid], codes: torch.Tensor) -> torch.Tensor:
        """Upsample `(B, C, h_k, w_k) -> (B, C, H, W)` and apply phi."""
        if scale < len(grids) - 1:
            codes = F.interpolate(codes, size=grids[-1], mode="bicubic")
        return self._phi(scale, len(grids), codes)

    def _phi(self, scale: int, num_scales: int, x: torch.Tensor) -> torch.Tensor:
        if not len(self.phis):
            return x
        mixed: torch.Tensor = self.phis[phi_index(scale, num_scales, len(self.phis))](x)
        return mixed

    @torch.no_grad()
    def _count_hits(self, ids: list[torch.Tensor]) -> None:
        """Update VAR's decaying mean, which counts updates per scale: 0.9 for the first hundred, then 0.99."""
        assert self.code_hits is not None
        assert self.hit_updates is not None
        hits = torch.stack([found.flatten().bincount(minlength=self.codebook_size) for found in ids])
        hits = hits.to(self.code_hits.dtype)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(hits)
        updates = self.hit_updates + torch.arange(len(ids), device=hits.device)
        decay, gain = torch.where(updates < 100, 0.9, 0.99), torch.where(updates < 100, 0.1, 0.01)
        decay, gain = decay.where(updates > 0, 0.0).to(hits), gain.where(updates > 0, 1.0).to(hits)
        self.code_hits.mul_(decay[:, None]).add_(hits * gain[:, None])
        self.hit_updates.add_(len(ids))


def _without_autocast(features: torch.Tensor) -> AbstractContextManager[Any]:
    """Turn autocast off, so that distances have the weights' dtype; the meta device, which counts costs, has none."""
    kind = features.device.type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


def _running_sums(parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    sums = [parts[0]]
    for part in parts[1:]:
        sums.append(sums[-1] + part)
    return sums
