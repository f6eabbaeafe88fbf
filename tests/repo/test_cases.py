# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest

from tests.cases import each


def test_each_runs_every_case_and_a_failure_names_it() -> None:
    ran = []

    @each("first, second", [(1, "a"), (2, "b"), (3, "c")])
    def check(first: int, second: str, fixture: str) -> None:
        ran.append((first, second, fixture))
        assert first < 2 or fixture == "good"

    check(fixture="good")
    assert ran == [(1, "a", "good"), (2, "b", "good"), (3, "c", "good")]
    with pytest.raises(AssertionError) as failure:
        check(fixture="bad")
    assert failure.value.__notes__ == ["case: {'first': 2, 'second': 'b'}"]


def test_each_without_a_case_or_an_argument_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold at least one case"):
        each("value", [])
    with pytest.raises(TypeError, match=r"it lacks \['other'\]"):
        each("other", [1])(lambda value: None)
