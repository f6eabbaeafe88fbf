# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Next-scale prediction: predict an image's ids from a class, scale by scale, and decode them to the image.

Paper: Tian et al., "Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction",
arXiv:2404.02905. Code: FoundationVision/VAR @ 78b9539, `models/var.py`; the weights keep its names.

    tokens of scale 0: class + pos_start; of scale k > 0: W area(fhat after k - 1), all + level + position
    a token reads the tokens of its own and of earlier scales
    logits = (1 + t) with class - t without, t = guidance k / (K - 1)

Deviations: labels are dropped in training only; the source drops them in evaluation too. The tokenizer is part of the
model, so that one checkpoint generates images.

Shapes: B samples, L ids of an image over all scales, K scales, M width, V codes, D code size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import ModelOutput
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_var import VarConfig
from .modeling_var_vq import VarPreTrainedModel, VarVQModel
from .var_block import NextScaleBlock
from .var_sampling import filtered_logits


@dataclass
class VarOutput(ModelOutput):
    """Output of [`VarForImageGeneration`].

    Args:
        loss (`torch.Tensor` of shape `(1,)`, *optional*, returned with `labels`):
            Cross-entropy, the mean over all ids of all scales.
        logits (`torch.Tensor` of shape `(B, L, V)`):
            Scores of every id of every scale, given the scales before.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


@dataclass
class VarGenerationOutput(ModelOutput):
    """Output of [`VarForImageGeneration.generate`].

    Args:
        images (`torch.Tensor` of shape `(B, 3, H, W)`):
            Images in 0..1.
        image_ids (`tuple` of `torch.Tensor` of shape `(B, h_k w_k)`):
            Drawn ids, per scale.
        logits (`tuple` of `torch.Tensor` of shape `(B, h_k w_k, V)`, *optional*):
            Guided logits per scale, before the filter, with `output_logits`.
    """

    images: torch.Tensor | None = None
    image_ids: tuple[torch.Tensor, ...] | None = None
    logits: tuple[torch.Tensor, ...] | None = None


class HeadNorm(nn.Module):
    """The last norm, modulated by the class: scale, then shift."""

    def __init__(self, config: VarConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, elementwise_affine=False)
        self.ada_lin = nn.Linear(config.hidden_size, 2 * config.hidden_size)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        scale, shift = self.ada_lin(F.silu(condition)).unflatten(1, (1, 2, -1)).unbind(2)
        normed: torch.Tensor = self.norm(x) * (1 + scale) + shift
        return normed


class VarForImageGeneration(VarPreTrainedModel):
    """Class-conditional next-scale transformer together with the tokenizer whose ids it predicts."""

    config_class = VarConfig
    config: VarConfig
    main_input_name = "class_labels"
    _no_split_modules = ["NextScaleBlock", "ResidualBlock", "MapAttention"]  # noqa: RUF012

    def __init__(self, config: VarConfig) -> None:
        super().__init__(config)
        vq, width = config.vq_config, config.hidden_size
        self.scale_lengths = [num**2 for num in vq.patch_nums]
        self.vq_model = VarVQModel._from_config(vq)
        self.word_embed = nn.Linear(vq.code_size, width)
        self.class_emb = nn.Embedding(config.num_classes + 1, width)
        self.lvl_embed = nn.Embedding(len(vq.patch_nums), width)
        self.pos_start = nn.Parameter(torch.empty(1, self.scale_lengths[0], width))
        self.pos_1LC = nn.Parameter(torch.empty(1, sum(self.scale_lengths), width))
        self.shared_ada_lin = nn.Linear(width, 6 * width) if config.shared_adaln else nn.Identity()
        self.blocks = nn.ModuleList(NextScaleBlock(config, index) for index in range(config.num_hidden_layers))
        self.head_nm = HeadNorm(config)
        self.head = nn.Linear(width, vq.codebook_size)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        depth = self.config.num_hidden_layers
        std = float(self.config.initializer_range or 0.0)
        super()._init_weights(module)
        if isinstance(module, VarForImageGeneration):
            for weight in (module.pos_start, module.pos_1LC, module.class_emb.weight, module.lvl_embed.weight):
                init.trunc_normal_(weight, std=std)
            init.trunc_normal_(module.head.weight, std=0.02 * std)
            if isinstance(module.shared_ada_lin, nn.Linear):
                _init_modulation(module.shared_ada_lin, std, small=2)
        elif isinstance(module, HeadNorm):
            _init_modulation(module.ada_lin, std, small=0)
        elif isinstance(module, NextScaleBlock):
            for linear in (module.attn.proj, module.ffn.fc2):
                init.trunc_normal_(linear.weight, std=std / (2 * depth) ** 0.5)
            if not module.shared:
                _init_modulation(module.ada_lin, std, small=2)

    @can_return_tuple
    def forward(
        self,
        class_labels: torch.Tensor,
        image_ids: Sequence[torch.Tensor] | torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        scale_inputs: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> VarOutput:
        """Score every id given the scales before it.

        Args:
            class_labels: `(B,)`; `num_classes` stands for no class.
            image_ids: Ids per scale, or side by side `(B, L)`.
            pixel_values: `(B, 3, H, W)` in -1..1, in place of `image_ids`.
            labels: `(B, L)` ids to predict; the ids of `image_ids` or `pixel_values` by default.
            scale_inputs: `(B, L - first, D)`, the inputs of the scales after the first, in place of both.
            kwargs: Arguments of transformers.

        Returns:
            [`VarOutput`].

        Raises:
            ValueError: Unless exactly one of `image_ids`, `pixel_values` and `scale_inputs` is given.
        """
        given = [value is not None for value in (image_ids, pixel_values, scale_inputs)]
        if sum(given) != 1:
            raise ValueError(
                "Exactly one of `image_ids`, `pixel_values` and `scale_inputs` must be given; got "
                f"{sum(given)}. To make images, call `generate`."
            )
        if pixel_values is not None:
            image_ids = self.vq_model.encode(pixel_values)
        if image_ids is not None:
            per_scale = image_ids.split(self.scale_lengths, 1) if isinstance(image_ids, torch.Tensor) else image_ids
            labels = torch.cat(list(per_scale), dim=1) if labels is None else labels
            with torch.no_grad():
                scale_inputs = self.vq_model.quantize.next_scale_inputs(per_scale)
        assert scale_inputs is not None
        if self.training and self.config.class_dropout:
            dropped = torch.rand(class_labels.shape, device=class_labels.device) < self.config.class_dropout
            class_labels = class_labels.masked_fill(dropped, self.config.num_classes)
        condition = self.class_emb(class_labels)
        x = torch.cat([condition[:, None] + self.pos_start, self.word_embed(scale_inputs.to(condition.dtype))], dim=1)
        level = self._levels(x.device)
        logits = self._scores(x + self._places(), condition, mask=level[:, None] >= level)
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return VarOutput(loss=loss, logits=logits)

    @torch.no_grad()
    def generate(
        self,
        class_labels: torch.Tensor,
        *,
        guidance_scale: float = 1.5,
        top_k: int = 900,
        top_p: float = 0.96,
        do_sample: bool = True,
        smooth: bool = False,
        generator: torch.Generator | None = None,
        output_logits: bool = False,
    ) -> VarGenerationOutput:
        """Generate images of classes.

        Args:
            class_labels: `(B,)`.
            guidance_scale: Strength of classifier-free guidance; it grows over the scales.
            top_k: See `filtered_logits`.
            top_p: See `filtered_logits`.
            do_sample: Whether ids are drawn; otherwise the likeliest are taken.
            smooth: Whether mixtures of codes (Gumbel softmax) replace the drawn codes as inputs, for nicer images
                rather than for measurements; the ids are still the drawn ones.
            generator: Random generator of the draws.
            output_logits: Whether the guided logits are returned.

        Returns:
            [`VarGenerationOutput`].
        """
        labels = torch.as_tensor(class_labels, device=self.device)
        condition = self.class_emb(torch.cat([labels, torch.full_like(labels, self.config.num_classes)]))
        quantizer, patch_nums = self.vq_model.quantize, self.config.vq_config.patch_nums
        places = self._places().split(self.scale_lengths, dim=1)
        cache, fhat = DynamicCache(), None
        x = condition[:, None] + self.pos_start
        all_ids, all_logits = [], []
        for scale, num in enumerate(patch_nums):
            progress = scale / max(len(patch_nums) - 1, 1)
            logits = self._scores(x + places[scale], condition, cache=cache)
            logits = guided(logits, guidance_scale * progress)
            eligible = filtered_logits(logits, top_k=top_k, top_p=top_p)
            ids = draw(eligible, do_sample, generator)
            if smooth:  # the filtered logits: the source filters in place
                every = quantizer.embedding(torch.arange(quantizer.codebook_size, device=condition.device))
                codes = _mixed(eligible, progress, generator).to(condition.dtype) @ every
            else:
                codes = quantizer.embedding(ids)
            fhat, following = quantizer.next_scale_input(scale, fhat, codes.transpose(1, 2).unflatten(2, (num, num)))
            if scale + 1 < len(patch_nums):
                x = self.word_embed(following.flatten(2).transpose(1, 2)).repeat(2, 1, 1)
            all_ids.append(ids)
            all_logits.append(logits)
        assert fhat is not None
        images = (self.vq_model.draw(fhat).clamp(-1, 1) + 1) / 2
        return VarGenerationOutput(images, tuple(all_ids), tuple(all_logits) if output_logits else None)

    def _levels(self, device: torch.device) -> torch.Tensor:
        """Return the scale of each id, `(L,)`."""
        lengths = torch.tensor(self.scale_lengths, device=device)
        return torch.arange(len(lengths), device=device).repeat_interleave(lengths)

    def _places(self) -> torch.Tensor:
        """Return the sum of level and position embedding of each id, `(1, L, M)`."""
        places: torch.Tensor = self.lvl_embed(self._levels(self.pos_1LC.device))[None] + self.pos_1LC
        return places

    def _modulation(self, condition: torch.Tensor) -> torch.Tensor:
        """Return the blocks' condition: the class `(B, M)`, or `(B, 1, 6, M)` with a shared modulation layer."""
        if not self.config.shared_adaln:
            return condition
        modulation: torch.Tensor = self.shared_ada_lin(F.silu(condition)).unflatten(1, (1, 6, -1))
        return modulation

    def _scores(
        self,
        x: torch.Tensor,
        condition: torch.Tensor,
        mask: torch.Tensor | None = None,
        cache: DynamicCache | None = None,
    ) -> torch.Tensor:
        """Map `(B, L, M)` to logits `(B, L, V)` in float32."""
        modulation = self._modulation(condition)
        for block in self.blocks:
            x = block(x, modulation, mask, cache)
        logits: torch.Tensor = self.head(self.head_nm(x, condition)).float()
        return logits


def guided(logits: torch.Tensor, weight: float) -> torch.Tensor:
    """Guide `(2 B, n, V) -> (B, n, V)`: push the logits away from the second half, which has no class."""
    known, unknown = logits.chunk(2)
    return (1 + weight) * known - weight * unknown


def draw(logits: torch.Tensor, do_sample: bool, generator: torch.Generator | None) -> torch.Tensor:
    """Choose ids: `(B, n, V) -> (B, n)`."""
    if not do_sample:
        return logits.argmax(dim=-1)
    shares = logits.softmax(dim=-1).flatten(0, 1)
    return torch.multinomial(shares, 1, generator=generator).view(logits.shape[:-1])


def _mixed(logits: torch.Tensor, progress: float, generator: torch.Generator | None) -> torch.Tensor:
    """Return shares of the codes `(B, n, V)` by Gumbel softmax, sharper from scale to scale."""
    noise = torch.empty_like(logits).exponential_(generator=generator).log().neg()
    temperature = max(0.27 * (1 - 0.95 * progress), 0.005)
    return ((logits * (1 + progress) + noise) / temperature).softmax(dim=-1)


def _init_modulation(linear: nn.Linear, std: float, *, small: int) -> None:
    """Scale the first `small` vectors, the gains, to nearly zero and the others to half."""
    weight = nn.init.trunc_normal_(torch.empty_like(linear.weight), std=std)
    gains = small * linear.in_features
    init.copy_(linear.weight, torch.cat([weight[:gains] * 1e-5, weight[gains:] * 0.5]))
    init.zeros_(linear.bias)


__all__ = ["VarForImageGeneration", "VarGenerationOutput", "VarOutput"]
