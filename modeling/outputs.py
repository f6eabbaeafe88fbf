# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What the models return.

Shapes: B samples, L sequence length, N_i image tokens of image i, M language-model width.
"""

from dataclasses import dataclass

import torch
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, ModelOutput


@dataclass
class FilaModelOutputWithPast(BaseModelOutputWithPast):
    """Output of [`FilaModel`].

    Args:
        image_hidden_states (`torch.Tensor` of shape `(sum of N_i, M)`, *optional*):
            Image tokens of all images, in the order of the batch.
    """

    image_hidden_states: torch.Tensor | None = None


@dataclass
class FilaCausalLMOutputWithPast(ModelOutput):
    """Output of [`FilaForConditionalGeneration`].

    Args:
        loss (`torch.Tensor` of shape `(1,)`, *optional*, returned with `labels`):
            Next-token loss.
        logits (`torch.Tensor` of shape `(B, L, vocabulary)`):
            Scores of the next token; fewer positions with `logits_to_keep`.
        past_key_values (`Cache`, *optional*):
            Keys and values of the language model.
        hidden_states, attentions (`tuple`, *optional*):
            Of the language model.
        image_hidden_states (`torch.Tensor` of shape `(sum of N_i, M)`, *optional*):
            Image tokens of all images, in the order of the batch.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    image_hidden_states: torch.Tensor | None = None


@dataclass
class FilaImageFeatures(BaseModelOutputWithPooling):
    """Image features whose placeholders may stand in several runs.

    Args:
        in_runs (`bool`, *optional*):
            Set where a layout puts text between the placeholders of one image.
    """

    in_runs: bool | None = None
