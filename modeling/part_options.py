# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Build the part that an option dict `{"type": name, ...}` names, for every table of parts."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

Part = TypeVar("Part")


# Registers parts of other packages. The `fila` package sets it when it is imported.
load_part: Callable[[str, Any], None] | None = None


def find_missing(kind: str, name: object, table: Mapping[str, object]) -> None:
    """Look for a part that is missing in a table among those of other packages."""
    if load_part is not None and isinstance(name, str) and name not in table:
        load_part(kind, name)


def as_options(options: object) -> Any:
    """Return an option dict; a bare name, as on the command line, becomes `{"type": name}`.

    Example:
        >>> as_options("film")
        {'type': 'film'}
    """
    return {"type": options} if isinstance(options, str) else options


def find_part(family: str, table: Mapping[str, Part], options: object) -> tuple[str, Part]:
    """Return the name in an option dict, and the part that a table has under it.

    Args:
        family: Name of the config field, for messages.
        table: Parts by name.
        options: `{"type": name, option: value, ...}`, or a name.

    Raises:
        ValueError: If the name is not a string or unknown.
    """
    options = as_options(options)
    if not isinstance(options, Mapping):
        raise ValueError(f"`{family}` must be a name or a dict such as {{'type': {min(table)!r}}}; got {options!r}.")
    name = options.get("type")
    find_missing(family, name, table)
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"`{family}.type` must be one of {sorted(table)}; got {name!r}.")
    return name, table[name]


def build_part(
    family: str, table: Mapping[str, Callable[..., Part]], options: object, *args: object, **shared: object
) -> Part:
    """Build the part that an option dict names, with its options.

    Args:
        family: Name of the config field, for messages.
        table: Part classes by name. `args` and `shared` hold the arguments that all parts of a table take; every
            other parameter of the constructor is an option.
        options: `{"type": name, option: value, ...}`, or a name.
        args: Positional arguments for the constructor.
        shared: Keyword arguments for the constructor that are not options.

    Raises:
        ValueError: If the name is not a string or unknown, an option is unknown, or the part rejects a value.
    """
    name, part = find_part(family, table, options)
    chosen = {key: value for key, value in as_options(options).items() if key != "type"}
    parameters = list(inspect.signature(part).parameters)[len(args) :]
    accepted = [parameter for parameter in parameters if parameter not in shared]
    if unknown := sorted(set(chosen) - set(accepted)):
        raise ValueError(f"{family.capitalize()} {name!r} has no option {unknown}; it accepts {accepted}.")
    return part(*args, **shared, **chosen)


def missing_answers(part: type, protocol: type) -> list[str]:
    """List the members of a protocol that a class does not declare.

    A class declares a member if it or a base class defines it, or annotates it for the constructor to set. Bodies of
    dots that are inherited from the protocol do not count.

    Args:
        part: The class.
        protocol: The protocol; its public members and `__call__` are required.
    """
    protocols = [each for each in protocol.__mro__ if Protocol in each.__bases__]

    def members(owner: type) -> set[str]:
        return {*vars(owner), *inspect.get_annotations(owner)}

    declared = set().union(*(members(each) for each in part.__mro__ if each not in protocols))
    asked = set().union(*map(members, protocols))
    return sorted(name for name in asked - declared if not name.startswith("_") or name == "__call__")


def check_answers(family: str, name: str, part: type, *protocols: type) -> None:
    """Check that a class declares all members that its family requires.

    Args:
        family: "fusion", "connector", ..., for the message.
        name: The name under which the class is registered.
        part: The class.
        protocols: Protocols whose members the class must declare.

    Raises:
        ValueError: If `part` is not a class or lacks members; the message lists them.
    """
    if not isinstance(part, type):
        raise ValueError(f"{family.capitalize()} {name!r} must be a class; got {part!r}.")
    if missing := sorted({answer for protocol in protocols for answer in missing_answers(part, protocol)}):
        page = "injection" if family == "injection" else f"add_a_{family.split()[-1]}"
        raise ValueError(
            f"{family.capitalize()} {name!r}, class {part.__name__}, does not declare {missing}. Give the class an "
            f"attribute or a method of each name, as docs/{page}.md says; annotate an attribute "
            "that the constructor sets."
        )


def one_of(field: str, value: object, choices: tuple[str, ...]) -> None:
    """Check that `value` is one of `choices`; raise a `ValueError` otherwise."""
    if value not in choices:
        raise ValueError(f"`{field}` must be one of {list(choices)}; got {value!r}.")
