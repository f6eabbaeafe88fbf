# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila.modeling.view_patch_grid import one_grid


def test_one_grid_is_the_grid_that_all_views_share() -> None:
    assert one_grid("pool", (4, 6)) == (4, 6)
    assert one_grid("pool", torch.tensor([[4, 6]] * 3)) == (4, 6)
    with pytest.raises(
        ValueError, match=r"Connector 'pool' needs views of one patch grid; got \[\(2, 4\), \(4, 2\)\]"
    ):
        one_grid("pool", torch.tensor([[4, 2], [2, 4]]))
