# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Sharded modules are recognised; what merely runs beside other processes is not."""

from collections.abc import Iterator

import pytest
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from fila.modeling.module_sharding import is_sharded


@pytest.fixture
def process_group() -> Iterator[None]:
    """A group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def pair() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))


def test_alone_nothing_is_sharded() -> None:
    assert not is_sharded(pair())


@pytest.mark.usefixtures("process_group")
def test_whole_and_data_parallel_modules_are_not_sharded() -> None:
    assert not is_sharded(pair())
    assert not is_sharded(DistributedDataParallel(pair()))


@pytest.mark.usefixtures("process_group")
def test_fsdp2_is_seen_in_any_part() -> None:
    model = pair()
    fully_shard(model[0])
    assert is_sharded(model)
    assert not is_sharded(model[1])


@pytest.mark.usefixtures("process_group")
def test_zero3_is_seen_by_the_mark_on_its_parameters() -> None:
    model = pair()
    model[1].weight.ds_id = 7  # what DeepSpeed sets
    assert is_sharded(model)
    assert not is_sharded(model[0])
