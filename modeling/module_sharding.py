# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Detect whether a module's weights are spread over processes."""

import torch
from torch import nn


def is_sharded(module: nn.Module) -> bool:
    """Return whether calls of a module's parts make processes wait for each other: FSDP1, FSDP2 or ZeRO-3.

    Data-parallel and tensor-parallel models are not sharded in this sense.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

    return any(isinstance(part, FSDPModule | FullyShardedDataParallel) for part in module.modules()) or any(
        hasattr(parameter, "ds_id") for parameter in module.parameters()
    )
