# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The memory of a batch; what is drawn into it is tested with the image processors."""

from typing import Any

import numpy as np

from fila.processing.image_batch import evened


class _Counted:
    """An array that counts how often it is asked for its shape."""

    asked = 0

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    @property
    def shape(self) -> Any:
        type(self).asked += 1
        return self.array.shape


def test_arrays_have_zeros_up_to_the_largest_of_each_side() -> None:
    even = evened([np.ones((1, 3)), np.ones((2, 1))])
    assert [array.tolist() for array in even] == [[[1, 1, 1], [0, 0, 0]], [[1, 0, 0], [1, 0, 0]]]


def test_the_shapes_of_many_images_are_read_twice_each() -> None:
    evened([_Counted(np.zeros((2, 2))) for _ in range(300)])
    assert _Counted.asked == 600
