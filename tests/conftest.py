# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every test: offline, seeded, one thread, and with uninitialised memory made visible."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hypothesis
import pytest
import torch
from transformers.utils import logging

torch.set_num_threads(1)
# A deadline per example measures how busy the machine is; the same examples in every run make a failure repeatable.
hypothesis.settings.register_profile("fila", deadline=None, derandomize=True)
hypothesis.settings.load_profile("fila")
logging.disable_progress_bar()

# Memory that nobody wrote reads as NaN, and no test depends on the order of a sum.
torch.use_deterministic_algorithms(True)
torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
