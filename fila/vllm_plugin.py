# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""vLLM plugin that serves fila checkpoints without remote code and without a flag.

vLLM calls `register` in each of its processes, because it is an entry point of the group `vllm.general_plugins`. The
model then runs through vLLM's Transformers backend: vLLM's own attention, cache and scheduler around our modules. A
model that vLLM would serve wrongly is rejected when the engine starts.
"""

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig


BACKEND = "vllm.model_executor.models.transformers:TransformersMultiModalForCausalLM"

logger = logging.getLogger(__name__)


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
    MODELS_CONFIG_MAP["FilaForConditionalGeneration"] = FilaVllmConfig


class FilaVllmConfig:
    """Checks of a fila checkpoint before an engine starts, with the interface of vLLM's `VerifyAndUpdateConfig`."""

    @staticmethod
    def verify_and_update_model_config(model_config: "ModelConfig") -> None:
        """Reject a checkpoint that vLLM would serve wrongly, and warn of inputs that vLLM does not serve.

        Raises:
            ValueError: If the model has `shared_positions`.
        """
        config = model_config.hf_config
        if config.shared_positions:
            raise ValueError(
                "vLLM cannot serve a fila checkpoint with `shared_positions`, such as CogVLM2-Video: it counts the "
                "position of every image token by itself, and answers would be wrong. Use transformers' `generate`, "
                "`pipeline` or `transformers serve`."
            )
        if config.video_token_id is not None:
            logger.warning(
                "fila serves images through vLLM, no videos yet: vLLM refuses a video with the words 'at most 0'. Use "
                "transformers' `generate` for videos."
            )

    @staticmethod
    def verify_and_update_config(vllm_config: "VllmConfig") -> None:
        """Do the same for versions of vLLM that pass only the whole configuration."""
        FilaVllmConfig.verify_and_update_model_config(vllm_config.model_config)
