# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Many cheap cases in one test, because pytest needs milliseconds for each item that it collects."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch


def each(names: str | tuple[str, ...], values: Iterable[Any], ids: Any = None) -> Callable[..., Callable[..., None]]:
    """Run a test for each value; takes what `pytest.mark.parametrize` takes, and a failure names its case.

    Fixtures are made once, for all cases. Use it where a case costs less than pytest's own work for an item.

    Args:
        names: One name of an argument, or several.
        values: One value per case, or as many as there are names.
        ids: Not used; the failure shows the values.
    """
    split = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    cases = [value if len(split) > 1 else (value,) for value in values]
    if not cases:
        raise ValueError(f"`values` of `{names}` must hold at least one case, else the test would check nothing.")

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            for case in cases:
                arguments = dict(zip(split, case, strict=True))
                torch.manual_seed(0)
                try:
                    test(**fixtures, **arguments)
                except BaseException as error:
                    error.add_note(f"case: {arguments}")
                    raise

        signature = inspect.signature(test)
        if unknown := set(split) - set(signature.parameters):
            raise TypeError(f"{test.__name__} must take every argument of `each`; it lacks {sorted(unknown)}.")
        kept = [parameter for name, parameter in signature.parameters.items() if name not in split]
        run.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]  # what pytest reads
        return run

    return decorate
