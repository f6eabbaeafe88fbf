# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""High-resolution vision-language models for Hugging Face Transformers.

`import fila` registers the classes with transformers' Auto classes and does nothing else.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    PreTrainedConfig,
)
from transformers.models.auto import modeling_auto

# transformers 5.16 exports this name only where torchvision is installed; the class itself does not need it.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from fila.modeling import part_options as options
from fila.modeling.configuration_fila import FilaConfig
from fila.modeling.configuration_var import VarConfig, VarVQConfig
from fila.modeling.modeling_fila import FilaForConditionalGeneration, FilaModel, FilaVisionModel
from fila.modeling.modeling_var import VarForImageGeneration
from fila.modeling.modeling_var_vq import VarVQModel
from fila.modeling.var_quantizer import FilaMultiScaleQuantizer
from fila.pipeline import register as _register_pipeline
from fila.processing import canvas
from fila.processing.image_document import open_page, read_pages
from fila.processing.image_processing_fila import FilaImageProcessor, FilaImageProcessorPil
from fila.processing.image_processing_var import VarImageProcessor, VarImageProcessorPil
from fila.processing.layout import Layout
from fila.processing.processing_fila import FilaProcessor
from fila.processing.video_processing_fila import FilaVideoProcessor
from fila.version import __version__ as __version__


def _recipe_settings(name: str, **changes: dict[str, Any] | PreTrainedConfig | str | None) -> dict[str, Any]:
    from fila.systems.recipes import config_settings, load_recipe  # imported only when a recipe is requested

    return config_settings(load_recipe(name), **changes)


def _write_code(owner: object, settings_file: str | os.PathLike[str]) -> None:
    from fila.conversion.remote_code import write_beside

    write_beside(owner, settings_file)


def _compare_code(config: FilaConfig) -> None:
    from fila.conversion.remote_code import warn_if_newer

    warn_if_newer(config)


def register_part(kind: str, name: str, part: type | Layout) -> None:
    """Register a part of your own, so that configs can name it; see `fila.conversion.own_parts.register_part`."""
    from fila.conversion import own_parts

    own_parts.register_part(kind, name, part)


def load_parts(path: str | os.PathLike[str], *, trust_remote_code: bool = False, **download: Any) -> list[str]:
    """Register the parts that a checkpoint's files define; see `fila.conversion.own_parts.load_parts`."""
    from fila.conversion import own_parts

    return own_parts.load_parts(path, trust_remote_code=trust_remote_code, **download)


def _find_part(kind: str, name: object) -> None:
    from fila.conversion import own_parts

    own_parts.find_part(kind, name)


def _require_parts(parts: Mapping[str, str], folder: object = None) -> None:
    from fila.conversion import own_parts

    own_parts.require_parts(parts, folder)


def _set_lora_default() -> None:
    """Tell PEFT, once it is imported, which layers a `LoraConfig()` without target modules adapts."""
    if "peft" in sys.modules:
        from fila.training.lora_default import set_lora_default  # imports nothing but PEFT

        set_lora_default()


def _register() -> None:
    """Register every class; doing it twice changes nothing."""
    FilaConfig.recipe_settings = staticmethod(_recipe_settings)
    AutoConfig.register("fila", FilaConfig, exist_ok=True)
    AutoModel.register(FilaConfig, FilaModel, exist_ok=True)
    for auto in (AutoModelForImageTextToText, AutoModelForMultimodalLM):
        auto.register(FilaConfig, FilaForConditionalGeneration, exist_ok=True)
    AutoImageProcessor.register(
        FilaConfig,
        image_processor_classes={"torchvision": FilaImageProcessor, "pil": FilaImageProcessorPil},
        exist_ok=True,
    )
    AutoVideoProcessor.register(FilaConfig, FilaVideoProcessor, exist_ok=True)
    AutoProcessor.register(FilaConfig, FilaProcessor, exist_ok=True)
    # Saved and pushed checkpoints contain their code, so that they also load where `fila` is not installed.
    FilaConfig.register_for_auto_class()
    FilaModel.register_for_auto_class("AutoModel")
    FilaForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
    FilaProcessor.register_for_auto_class()
    FilaVideoProcessor.register_for_auto_class()
    for image_processor in (FilaImageProcessor, FilaImageProcessorPil):
        image_processor.register_for_auto_class()
    for model_type, config, model in (("var_vq", VarVQConfig, VarVQModel), ("var", VarConfig, VarForImageGeneration)):
        AutoConfig.register(model_type, config, exist_ok=True)
        AutoModel.register(config, model, exist_ok=True)
        AutoImageProcessor.register(
            config,
            image_processor_classes={"torchvision": VarImageProcessor, "pil": VarImageProcessorPil},
            exist_ok=True,
        )
        config.register_for_auto_class()
        model.register_for_auto_class("AutoModel")
    for of_var in (VarImageProcessor, VarImageProcessorPil):
        of_var.register_for_auto_class()
    FilaConfig.compare_code = staticmethod(_compare_code)
    FilaConfig.before_listing = staticmethod(_set_lora_default)
    for owner in (FilaConfig, FilaImageProcessor, FilaImageProcessorPil):
        owner.require_parts = staticmethod(_require_parts)
    options.load_part = canvas.load_part = _find_part
    for saved in (FilaConfig, FilaProcessor, FilaImageProcessor, FilaImageProcessorPil, FilaVideoProcessor):
        saved.write_code = staticmethod(_write_code)
    # `transformers serve` and pipelines find modalities through these tables of names.
    for table in ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES"):
        getattr(modeling_auto, table)["fila"] = "FilaForConditionalGeneration"
    _register_pipeline()


_register()

__all__ = [
    "FilaConfig",
    "FilaForConditionalGeneration",
    "FilaImageProcessor",
    "FilaImageProcessorPil",
    "FilaModel",
    "FilaMultiScaleQuantizer",
    "FilaProcessor",
    "FilaVideoProcessor",
    "FilaVisionModel",
    "VarConfig",
    "VarForImageGeneration",
    "VarImageProcessor",
    "VarImageProcessorPil",
    "VarVQConfig",
    "VarVQModel",
    "load_parts",
    "open_page",
    "read_pages",
    "register_part",
]
