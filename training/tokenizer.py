# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Training of [`VarVQModel`] with Trainer: the loss, and the restart of unused codes.

VAR's released code trains no tokenizer; its paper names the terms of the loss (section 3.2, after VQGAN):

    loss = |image - reconstruction| + quantisation loss + perceptual weight * perceptual loss

Deviations: there is no discriminator. The perceptual loss reads any vision model of transformers in place of LPIPS,
whose weights no package ships. Codes start as vectors of the data and unused ones are set anew: without that a small
codebook collapses, as users who trained this quantiser again report.

Shapes: B images, N vectors, C channels.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import ModelOutput

from fila.modeling.modeling_var_vq import VarVQModel


class PerceptualLoss(nn.Module):
    """Distance of two images in a frozen vision model's hidden states: LPIPS without learned weights.

    Args:
        model: A vision model of transformers whose output has `hidden_states`.
        mean: Of the images it reads, which are in 0..1.
        std: Likewise.
        layers: Which hidden states; all by default.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, model: nn.Module, mean: Sequence[float], std: Sequence[float], layers: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.layers = layers
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(list(std)).view(1, -1, 1, 1))

    def train(self, mode: bool = True) -> "PerceptualLoss":
        """Keep the model in eval mode."""
        return self

    def forward(self, images: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        """Return the scalar distance of two batches `(B, 3, H, W)` in -1..1."""
        both = ((torch.cat([images, reconstruction]) + 1) / 2 - self.mean) / self.std
        states = self.model(both, output_hidden_states=True).hidden_states
        chosen = states if self.layers is None else [states[layer] for layer in self.layers]
        # channels come second in maps and last in tokens
        units = [F.normalize(state, dim=1 if state.ndim == 4 else -1).chunk(2) for state in chosen]
        return torch.stack([(ours - theirs).square().mean() for ours, theirs in units]).mean()


@torch.no_grad()
def residual_vectors(model: VarVQModel, pixel_values: torch.Tensor) -> torch.Tensor:
    """Return the `(N, C)` vectors that are quantised, over all images and scales."""
    features = model.features(pixel_values)
    maps = model.quantize.encode(features)[1]
    vectors = []
    for scale, grid in enumerate(model.quantize.patch_nums):
        rest = features if scale == 0 else features - maps[scale - 1]
        pooled = F.interpolate(rest, size=grid, mode="area") if grid != tuple(rest.shape[-2:]) else rest
        vectors.append(pooled.permute(0, 2, 3, 1).flatten(0, 2))
    return torch.cat(vectors)


@torch.no_grad()
def restart_codes(model: VarVQModel, pixel_values: torch.Tensor, dead: torch.Tensor) -> int:
    """Set codes to vectors of the images.

    Args:
        model: The tokenizer.
        pixel_values: `(B, 3, H, W)`.
        dead: `(V,)` bool, the codes to set.

    Returns:
        The number of codes that were set.
    """
    count = int(dead.sum())
    if count:
        vectors = residual_vectors(model, pixel_values)
        chosen = torch.randint(len(vectors), (count,), device=vectors.device)
        model.quantize.embedding.weight[dead] = vectors[chosen].to(model.quantize.embedding.weight.dtype)
    return count


class _Restarts(TrainerCallback):
    """Callback that restarts unused codes at an interval of steps, in the first part of the training."""

    def __init__(self, trainer: "TokenizerTrainer") -> None:
        self.trainer = trainer

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        every, until = self.trainer.restart_steps, self.trainer.restart_until * state.max_steps
        batch = self.trainer.last_batch
        if not every or state.global_step % every or state.global_step > until or batch is None:
            return
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        dead = model.quantize.code_hits.sum(dim=0) < self.trainer.restart_hits
        self.trainer.restarted += restart_codes(model, batch, dead)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(model.quantize.embedding.weight.data, 0)


class TokenizerTrainer(Trainer):
    """Trainer for [`VarVQModel`]; samples are `{"pixel_values": (3, H, W)}`.

    Args:
        args: `TrainingArguments`.
        perceptual: Adds `perceptual_weight` times this loss of images and reconstructions.
        perceptual_weight: Its weight.
        quantisation_weight: Weight of the codebook and commitment loss.
        restart_steps: Look for unused codes every so many steps; 0 never does.
        restart_until: Share of the training after which none is set anew.
        restart_hits: A code with fewer decayed hits over all scales is unused.
        kwargs: Of `Trainer`.
    """

    def __init__(
        self,
        model: VarVQModel,
        args: TrainingArguments | None,
        *,
        perceptual: nn.Module | None = None,
        perceptual_weight: float = 1.0,
        quantisation_weight: float = 1.0,
        restart_steps: int = 0,
        restart_until: float = 0.7,
        restart_hits: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(model=model, args=args, **kwargs)
        self.perceptual = None if perceptual is None else perceptual.to(self.args.device)
        self.perceptual_weight = perceptual_weight
        self.quantisation_weight = quantisation_weight
        self.restart_steps, self.restart_until, self.restart_hits = restart_steps, restart_until, restart_hits
        self.last_batch: torch.Tensor | None = None
        self.restarted = 0
        self._terms: dict[str, torch.Tensor] = {}
        self.add_callback(_Restarts(self))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, ModelOutput]:
        """Return the sum of the terms, and keep each term for the log."""
        images = inputs["pixel_values"]
        outputs = model(pixel_values=images)
        terms = {"reconstruction": F.l1_loss(outputs.reconstruction, images), "quantisation": outputs.loss}
        loss = terms["reconstruction"] + self.quantisation_weight * terms["quantisation"]
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(images, outputs.reconstruction)
            loss = loss + self.perceptual_weight * terms["perceptual"]
        self.last_batch = images
        self._terms = {name: value.detach() for name, value in terms.items()}
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: float | None, **kwargs: float | None) -> None:
        """Log as Trainer does, with the last step's terms and the number of restarted codes."""
        if "loss" in logs:
            logs |= {f"{name}_loss": float(value) for name, value in self._terms.items()}
            logs["restarted_codes"] = self.restarted
        super().log(logs, *args, **kwargs)
