# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Round every computed float as some other CPU might: `python -m pytest -p tests.other_cpu`, `make test-rounding`.

A CPU adds numbers up in an order of its own, which depends on shapes, strides and addresses. So here the results of
products, sums, norms and of functions without a closed form are off by up to one unit in the last place, drawn from
just these. The same call has the same result; a weight that a file maps at an odd address, or a row less, has not.
Results with few digits are exact on every CPU and stay. Compiled graphs are left alone.
"""

import functools
import re
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# The fewer digits in which a result is exact, if it fits in them.
FEW_DIGITS = {torch.float32: torch.bfloat16, torch.float64: torch.float32}
ROUNDED = re.compile(
    r"\w*(avg_pool|batch_norm|cdist|convolution|dot_product|euclidean_dist|gelu|group_norm|layer_norm|sigmoid|silu|softmax"
    r"|tanh|upsample|vector_norm)\w*|(add|b|badd|addb)?mm|(add)?mv|addc(div|mul)|cos|cumsum|dot|erf|exp|grid_sampler_2d|lerp"
    r"|linear|log(sumexp)?|mean|nll_loss_forward|pow|r?sqrt|sin|std|sum|var(_mean)?"
)


@functools.lru_cache(1024)
def factors(call: str, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """Return 1 plus or minus one unit in the last place, or 1, for each element of the result of a call."""
    generator = torch.Generator().manual_seed(zlib.crc32(call.encode()))
    return 1 + torch.randint(-1, 2, shape, generator=generator).to(dtype) * torch.finfo(dtype).eps


class OtherCPU(TorchDispatchMode):
    """Round the results of the functions that `ROUNDED` names otherwise."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        given = [x for arg in args for x in (arg if isinstance(arg, list | tuple) else [arg])]
        given = [x for x in given if isinstance(x, torch.Tensor)]
        if not ROUNDED.fullmatch(name) or torch.compiler.is_compiling() or not all(is_plain(x) for x in given):
            return output
        call = " ".join([name, *(f"{[*x.shape]} {x.stride()} {x.data_ptr() % 64}" for x in given)])
        for index, result in enumerate(output if isinstance(output, list | tuple) else [output]):
            if isinstance(result, torch.Tensor) and is_plain(result) and result.dtype in FEW_DIGITS:
                exact = result == result.to(FEW_DIGITS[result.dtype])
                other = result * factors(f"{call} {index}", result.shape, result.dtype)
                result.copy_(torch.where(exact, result, other))
        return output


def is_plain(x: torch.Tensor) -> bool:
    """Return whether there are numbers behind a tensor."""
    return type(x) in (torch.Tensor, torch.nn.Parameter) and x.device.type == "cpu"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    with OtherCPU():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Iterator[Any]:
    with OtherCPU():
        return (yield)
