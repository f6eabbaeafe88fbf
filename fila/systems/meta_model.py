# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The model of a config, without memory for its weights."""

import torch

from fila.modeling.configuration_fila import FilaConfig
from fila.modeling.modeling_fila import FilaForConditionalGeneration


def model_on_meta(config: FilaConfig) -> FilaForConditionalGeneration:
    """Return the whole model of a config on meta, without memory for its weights."""
    with torch.device("meta"):
        return FilaForConditionalGeneration(config)
