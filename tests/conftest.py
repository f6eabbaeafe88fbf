# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every test: offline, seeded, one thread, and with uninitialised memory made visible."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Iterator  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from transformers.utils import logging  # noqa: E402

torch.set_num_threads(1)
logging.disable_progress_bar()

_empty = torch.empty


def _poisoned_empty(*args: Any, **kwargs: Any) -> torch.Tensor:
    """`torch.empty` whose floats are NaN, so that reading memory nobody wrote shows."""
    tensor = _empty(*args, **kwargs)
    if tensor.is_floating_point() and tensor.device.type == "cpu":
        with torch.no_grad():
            tensor.fill_(float("nan"))
    return tensor


@pytest.fixture(autouse=True)
def _seeded_and_poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.manual_seed(0)
    monkeypatch.setattr(torch, "empty", _poisoned_empty)
    yield
