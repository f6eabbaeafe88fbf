# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""vLLM plugin that serves fila checkpoints without remote code and without a flag.

vLLM calls `register` in each of its processes, because it is an entry point of the group `vllm.general_plugins`. The
model then runs through vLLM's Transformers backend: vLLM's own attention, cache and scheduler around our modules.
"""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from fila.modeling.modeling_fila import FilaModel
from fila.modeling.modeling_shared_positions import shared_positions
from fila.processing.canvas import as_options
from fila.processing.layout import build_layout
from fila.processing.processing_fila import FilaProcessor

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig


BACKEND = "vllm.model_executor.models.transformers:TransformersMultiModalForCausalLM"


def register() -> None:
    """Register the classes with transformers and vLLM; a second call changes nothing.

    vLLM finds a class in its own registry, where it looks by default, or as an attribute of `transformers`, where it
    looks when `--model-impl transformers` is given.
    """
    import transformers
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP

    import fila

    # transformers' processing_utils makes the module a second time; who imported it earlier has the first
    for module in (transformers, sys.modules["transformers"]):
        for name in fila.__all__:
            setattr(module, name, getattr(fila, name))
    ModelRegistry.register_model("FilaForConditionalGeneration", BACKEND)
    FilaModel.get_rope_index = rope_index  # type: ignore[attr-defined]  # vLLM asks for it; transformers has no use for it
    MODELS_CONFIG_MAP["FilaForConditionalGeneration"] = FilaVllmConfig


def rope_index(
    model: "FilaModel",
    input_ids: torch.Tensor,
    mm_token_type_ids: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return positions as vLLM asks a model for them that has its own, which it takes for M-RoPE's three axes.

    Args:
        model: With `shared_positions`.
        input_ids: `(B, L)`.
        mm_token_type_ids: `(B, L)`, not 0 for the placeholders of images and videos; by their ids if not given.
        attention_mask: `(B, L)`, 0 for padding.

    Returns:
        The positions, `(3, B, L)` with equal rows; and how much further a later token is than its number, `(B, 1)`.
    """
    if mm_token_type_ids is None:
        positions = model.shared_position_ids(input_ids, attention_mask)
    else:
        positions = shared_positions(mm_token_type_ids.bool(), attention_mask)
    return positions.expand(3, -1, -1), positions.amax(dim=1, keepdim=True) + 1 - input_ids.shape[1]


def _refuse_pruning(model_config: "ModelConfig", settings: Mapping[str, Any]) -> None:
    """Refuse pruning that pixels decide: vLLM counts an image's tokens by its size.

    Raises:
        ValueError: If the processor's settings or those of the engine's requests ask for it.
    """
    of_requests = getattr(model_config.multimodal_config, "mm_processor_kwargs", None) or {}
    for prune in (settings.get("prune"), of_requests.get("prune")):
        if prune is not None and as_options(prune).get("type") != "visionzip":
            raise ValueError(
                f"vLLM counts the tokens of an image by its size, and asks no model for positions with gaps, so it "
                f"cannot serve `prune` {as_options(prune)['type']!r}, where pixels decide. Start the server on a "
                "processor without `prune`, or use transformers' `generate`."
            )


def _numbers_images(settings: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint's prompts hold the number of each image."""
    layout = build_layout(settings.get("layout") or {"type": "fila"})
    return bool(layout.image_id_start or layout.image_id_end)


class FilaVllmConfig:
    """Settings of an engine for a fila checkpoint, with the interface of vLLM's `VerifyAndUpdateConfig`."""

    @staticmethod
    def verify_and_update_model_config(model_config: "ModelConfig") -> None:
        """Let vLLM ask a model with `shared_positions` for its positions, in the config of this engine alone.

        Raises:
            ValueError: If the model has an injection, whose streams vLLM would not pass on; if the language model has
                layers without full or sliding attention; if prompts number their images and the engine would take
                several, whose numbers vLLM's cache of single images does not know; or if pixels decide how many
                tokens an image has.
        """
        config = model_config.hf_config
        if config.has_injection:
            raise ValueError(
                "vLLM asks a model of transformers for its pooled image features alone, so the streams of `injection` "
                "would be lost without a word, and with them most of what the model reads. Use transformers' "
                "`generate`; vLLM serves the original of Granite 4 Vision and of Qwen3-VL by classes of its own."
            )
        kinds = set(getattr(config.get_text_config(), "layer_types", None) or ())
        if states := sorted(kind for kind in kinds if "attention" not in kind or "linear" in kind):
            raise ValueError(
                f"The language model {config.get_text_config().model_type!r} has layers of the kind {states}; vLLM's "
                "Transformers backend, through which fila is served, works for full and sliding attention alone. Use "
                "transformers' `generate`, or vLLM's own class of the original checkpoint."
            )
        images = model_config.multimodal_config
        settings: Mapping[str, Any] = {}
        if images is not None:
            settings, _ = FilaProcessor.get_processor_dict(model_config.model)
            _refuse_pruning(model_config, settings)
        if images is not None and images.get_limit_per_prompt("image") > 1 and _numbers_images(settings):
            raise ValueError(
                "vLLM writes the placeholders of each image without its neighbours, so it cannot serve several images "
                "per prompt of a checkpoint whose layout numbers them, such as MiniCPM-V 2.6: each would be number 0. "
                "Start with `--limit-mm-per-prompt '{\"image\": 1}'`, or use transformers' `generate`."
            )
        if config.shared_positions:
            text = config.get_text_config()
            text.rope_parameters = {**(text.rope_parameters or {}), "mrope_section": [1, 1, 1]}

    @staticmethod
    def verify_and_update_config(vllm_config: "VllmConfig") -> None:
        """Do the same for versions of vLLM that pass only the whole configuration."""
        FilaVllmConfig.verify_and_update_model_config(vllm_config.model_config)
