# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The change that a causal language model of transformers makes to its logits after the product with its head.

Granite divides the logits, Cohere multiplies them, Gemma 2 caps them, each in the `forward` of its class. This module
runs that `forward` on a meta-device model without layers and head, and passes the logits in place of hidden states.
When the model is built, the result is compared once with the whole class, on a small head.

Shapes: B samples, L sequence length, M width.
"""

import copy
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, PreTrainedConfig
from transformers.modeling_outputs import MoeModelOutputWithPast

_PROBES = 8  # rows and columns of the small head for the comparison


class CausalHead:
    """Logit changes of the `...ForCausalLM` class that belongs to a text config.

    Args:
        config: The text config; later changes to it take effect.

    Attributes:
        bias: Whether the head has a bias.
        changes_logits: Whether the class changes the logits.

    Raises:
        ValueError: If transformers has no such class, or the class does more than change the logits.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        small = copy.copy(config)
        small.num_hidden_layers = 1
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise ValueError(
                f"`text_config.model_type` {config.model_type!r} is no causal language model of transformers."
            )
        with torch.device("meta"):
            try:
                self.causal: Any = AutoModelForCausalLM.from_config(small)
            except (IndexError, ValueError):  # settings that are lists, one entry per layer
                self.causal = AutoModelForCausalLM.from_config(copy.copy(config))
        head, base = self.causal.get_output_embeddings(), self.causal.base_model
        self.name = type(self.causal).__name__
        if type(head) is not nn.Linear:
            raise self._refusal(f"has no linear head but {type(head).__name__}")
        self.bias = head.bias is not None
        for name, _ in list(base.named_children()):
            delattr(base, name)
        base.forward = _given
        self.causal.config = config
        try:
            self.causal.set_output_embeddings(_ReadyLogits())
            self._try_small_head(config.hidden_size)
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise self._refusal(f"cannot be run without its layers ({error})") from error
        probe = torch.linspace(-99, 99, config.vocab_size, device="cpu", dtype=torch.bfloat16)[None, None]
        found = self(probe)
        self.changes_logits = found.dtype != probe.dtype or not torch.equal(found, probe)

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Turn the product `(B, L, vocabulary)` of hidden states and head into the class's logits."""
        found: torch.Tensor = self.causal(inputs_embeds=logits, use_cache=False, return_dict=True).logits
        return found

    def check_loss(self) -> None:
        """Check that the class computes no loss but next-token cross-entropy.

        Raises:
            ValueError: If the config adds another loss; the message names the setting.
        """
        config = self.causal.config
        for name in ("output_router_logits", "z_loss_coefficient"):
            if getattr(config, name, None):
                raise ValueError(
                    f"`text_config.{name}` is {getattr(config, name)!r}: {config.model_type!r} then adds a term to "
                    "its loss, which a model of fila does not. Unset it, or leave `labels` out."
                )

    def _try_small_head(self, width: int) -> None:
        grid = torch.arange(_PROBES * width, device="cpu", dtype=torch.float64).view(_PROBES, width)
        hidden, weight = grid.sin()[None], grid.cos()
        expected = nn.functional.linear(hidden, weight)
        self.causal.set_output_embeddings(_SmallHead(weight))
        whole = self(hidden)
        self.causal.set_output_embeddings(_ReadyLogits())
        worst = (self(expected) - whole).abs().max() / whole.abs().max()
        if not worst <= 1e-5:  # measured: 0, and 2e-7 where the class goes through float32
            raise self._refusal(f"changes what goes into its head; its logits would be {worst:.0%} off")

    def _refusal(self, reason: str) -> ValueError:
        return ValueError(
            f"`text_config.model_type` {self.causal.config.model_type!r}: {self.name} {reason}, which a model of fila "
            "cannot reproduce. Choose another language model."
        )


def check_takes_embeddings(config: PreTrainedConfig) -> None:
    """Check that a language model gives the same output for embeddings as for their ids. Images have no ids.

    Raises:
        ValueError: If the outputs differ; the message says how the model uses ids.
    """
    if config.model_type == "falcon_h1" and config.embedding_multiplier != 1:
        raise ValueError(
            f"`text_config.embedding_multiplier` is {config.embedding_multiplier}, which 'falcon_h1' applies to the "
            "embeddings of ids and not to embeddings that are given, as those of images are. Choose another language "
            "model."
        )
    per_layer = any(getattr(config, name, None) for name in ("hidden_size_per_layer_input", "ple_layer_ids"))
    if per_layer or "hash_moe" in (getattr(config, "mlp_layer_types", None) or ()):
        what = "embeddings of every layer" if per_layer else "choice of experts"
        raise ValueError(
            f"`text_config.model_type` {config.model_type!r} looks up the {what} by token ids, and image tokens have "
            "none. Choose another language model."
        )


class _SmallHead(nn.Module):
    """A head whose weight is not a parameter."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(hidden, self.weight)


class _ReadyLogits(nn.Module):
    """Replacement for the head that returns logits which are already computed."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits


class _NoLayers(MoeModelOutputWithPast):
    """Output of a model without layers; every field that a class looks up in it is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def _given(*args: object, inputs_embeds: torch.Tensor, **kwargs: object) -> _NoLayers:
    """Return `inputs_embeds` as the output of the missing layers."""
    return _NoLayers(last_hidden_state=inputs_embeds)  # type: ignore[arg-type]
