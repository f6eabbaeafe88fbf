# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import logging

import pytest

from fila.cli.library_messages import leave_out_4bit_kernel


def test_only_the_4bit_kernel_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    leave_out_4bit_kernel()
    logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s.", "no kernels")
    logger.warning("Something %s", "else")
    assert [record.getMessage() for record in caplog.records] == ["Something else"]
