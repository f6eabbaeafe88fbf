# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Table of the config classes of towers that transformers does not have."""

from transformers import PreTrainedConfig

from .configuration_eva02 import Eva02Config
from .configuration_eva2_clip import Eva2ClipConfig

TOWER_CONFIGS: dict[str, type[PreTrainedConfig]] = {
    "eva02": Eva02Config,
    "eva2_clip": Eva2ClipConfig,
}
