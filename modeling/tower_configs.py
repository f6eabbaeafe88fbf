# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tables of what only some towers need: config classes that transformers does not have, and features."""

from typing import Any

from transformers import PreTrainedConfig

from .configuration_eva02 import Eva02Config
from .configuration_eva2_clip import Eva2ClipConfig
from .tower_merger import VitMerger

TOWER_CONFIGS: dict[str, type[PreTrainedConfig]] = {
    "eva02": Eva02Config,
    "eva2_clip": Eva2ClipConfig,
}
# features that only some ViTs have
TOWER_FEATURES: dict[str, Any] = {
    "vit_merger": VitMerger,
}
