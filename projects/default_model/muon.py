# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Muon for the matrices inside layers and AdamW for everything else, as one optimizer.

Muon turns the momentum of a matrix into the nearest orthogonal one, so that all its directions learn at one speed
(Jordan et al., 2024; Liu et al., "Muon is Scalable for LLM Training", arXiv:2502.16982, whose scaling is used here, so
that one learning rate fits both). It is torch's own; what is here only joins the two, as Trainer takes one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class MuonWithAdamW(torch.optim.Optimizer):
    """Two optimizers that step as one.

    Args:
        matrices: Parameters for Muon, each of two dimensions.
        others: Parameters for AdamW.
        lr: Learning rate of Muon.
        adamw_lr: Learning rate of AdamW.
        weight_decay: Of both.
    """

    def __init__(
        self,
        matrices: list[nn.Parameter],
        others: list[nn.Parameter],
        *,
        lr: float,
        adamw_lr: float,
        weight_decay: float,
    ) -> None:
        muon = torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        adamw = torch.optim.AdamW(others, lr=adamw_lr, weight_decay=weight_decay, betas=(0.9, 0.98))
        self.parts = (muon, adamw)
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        self._tie()

    def _tie(self) -> None:
        """Let the parts read this optimizer's groups and state, so that schedules and checkpoints reach them."""
        muon, adamw = self.parts
        muon.param_groups, adamw.param_groups = self.param_groups[:1], self.param_groups[1:]
        muon.state = adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step both."""
        loss = closure() if closure is not None else None
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state that `state_dict` returned."""
        super().load_state_dict(state_dict)
        self._tie()


def make_optimizer(model: nn.Module, lr: float, adamw_lr: float, weight_decay: float) -> MuonWithAdamW:
    """Make an optimizer with Muon for the layers' matrices and AdamW for heads, embeddings and the rest.

    Args:
        model: Its parameters that train are taken.
        lr: Learning rate of Muon.
        adamw_lr: Learning rate of AdamW.
        weight_decay: Of both.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    inside = {name for name, parameter in named if parameter.ndim == 2 and ".layers." in name}
    return MuonWithAdamW(
        [parameter for name, parameter in named if name in inside],
        [parameter for name, parameter in named if name not in inside],
        lr=lr,
        adamw_lr=adamw_lr,
        weight_decay=weight_decay,
    )
