# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Outputs of the models.

Shapes: B samples, L sequence length, N_i image tokens of image i, M language-model width.
"""

from dataclasses import dataclass

import torch
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    BaseModelOutputWithPooling,
    CausalLMOutputWithPast,
)


@dataclass
class FilaModelOutputWithPast(BaseModelOutputWithPast):
    """Output of [`FilaModel`].

    Args:
        image_hidden_states (`torch.Tensor` of shape `(sum of N_i, M)`, *optional*):
            Image tokens of all images, in the order of the batch.
        image_outputs, video_outputs (`BaseModelOutputWithPooling`, *optional*):
            Results of `get_image_features` and `get_video_features`, if there are images or videos.
    """

    image_hidden_states: torch.Tensor | None = None
    image_outputs: BaseModelOutputWithPooling | None = None
    video_outputs: BaseModelOutputWithPooling | None = None


@dataclass
class FilaCausalLMOutputWithPast(CausalLMOutputWithPast):
    """Output of [`FilaForConditionalGeneration`].

    Args:
        image_hidden_states (`torch.Tensor` of shape `(sum of N_i, M)`, *optional*):
            Image tokens of all images, in the order of the batch.
        image_outputs, video_outputs (`BaseModelOutputWithPooling`, *optional*):
            Results of `get_image_features` and `get_video_features`, if there are images or videos.
    """

    image_hidden_states: torch.Tensor | None = None
    image_outputs: BaseModelOutputWithPooling | None = None
    video_outputs: BaseModelOutputWithPooling | None = None


@dataclass
class FilaVisionOutput(BaseModelOutputWithPooling):
    """Output of [`FilaVisionModel`].

    Args:
        layer_features (`tuple` of `torch.Tensor` of shape `(T, P, D)`, *optional*):
            Hidden states of the low-res tower, one for each of the `feature_layers` that were asked for.
        chosen (`torch.Tensor` of shape `(T, dominant)`, *optional*):
            The patches of each view that VisionZip kept.
    """

    layer_features: tuple[torch.Tensor, ...] | None = None
    chosen: torch.Tensor | None = None


@dataclass
class FilaImageFeatures(BaseModelOutputWithPooling):
    """Image features whose placeholders may form several runs.

    Args:
        in_runs (`bool`, *optional*):
            True if a layout puts text between the placeholders of one image.
        deepstack_features (`list`, *optional*):
            For each stream of the injection a list with one `(N_i, M)` per image, as `pooler_output` is. transformers
            repeats and cuts the field of this name together with `pooler_output`.
        gaps (`list` of `torch.Tensor` of shape `(N_i,)`, *optional*):
            Number of tokens that pruning left out behind each placeholder of each image.
    """

    in_runs: bool | None = None
    deepstack_features: list[list[torch.Tensor]] | None = None
    gaps: list[torch.Tensor] | None = None
