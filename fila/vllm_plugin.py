# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Lets vLLM serve a fila checkpoint, without remote code and without a flag.

vLLM calls `register` in each of its processes, because it is an entry point of the group `vllm.general_plugins`. The
model then runs through vLLM's Transformers backend: vLLM's own attention, cache and scheduler around our modules.
"""

import sys

BACKEND = "vllm.model_executor.models.transformers:TransformersMultiModalForCausalLM"


def register() -> None:
    """Make the classes known to transformers and to vLLM; doing it twice changes nothing.

    vLLM finds a class in its own registry, where it looks by default, or as an attribute of `transformers`, where it
    looks when `--model-impl transformers` is given.
    """
    import transformers
    from vllm import ModelRegistry

    import fila

    # transformers' processing_utils makes the module a second time; who imported it earlier has the first
    for module in (transformers, sys.modules["transformers"]):
        for name in fila.__all__:
            setattr(module, name, getattr(fila, name))
    ModelRegistry.register_model("FilaForConditionalGeneration", BACKEND)
