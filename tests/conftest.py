# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every test: offline, seeded, one thread, and with uninitialised memory made visible."""

import gc
import os
from unittest import mock

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Imports and collection make millions of objects that live to the end: looking for garbage among them, again and
# again, takes a third of a start.
gc.disable()

import hypothesis
import pytest
import torch
import torch._dynamo
from transformers.utils import logging

# bitsandbytes wraps its CPU kernels in `torch.compile`, which imports inductor: over a second in each process. Where
# there is no compiler it falls back to the plain kernels. dynamo has read its own settings by now.
with mock.patch.dict(os.environ, TORCHDYNAMO_DISABLE="1"):
    import bitsandbytes  # noqa: F401

torch.set_num_threads(1)
# A deadline per example measures how busy the machine is; the same examples in every run make a failure repeatable.
hypothesis.settings.register_profile("fila", deadline=None, derandomize=True)
hypothesis.settings.load_profile("fila")
logging.disable_progress_bar()

# Memory that nobody wrote reads as NaN, and no test depends on the order of a sum.
torch.use_deterministic_algorithms(True)
torch.utils.deterministic.fill_uninitialized_memory = True


def pytest_collection_finish() -> None:
    """Switch the garbage collector on again, for what the tests make."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
