# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Table of the canvas strategies; an options dict selects one.

A strategy is a pure function `(height, width) -> CanvasPlan`; its method `views` returns the part of the plan that
token counts need. To add a strategy, write a file `canvas_<name>.py` with a class whose constructor takes the tile
size and keyword-only options, and add one line to `CANVASES`.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .canvas_deepseek_ocr import DeepseekOcrCanvas
from .canvas_fila import FilaCanvas
from .canvas_internvl import InternvlCanvas
from .canvas_llava_next import LlavaNextCanvas
from .canvas_long_edge_tiers import LongEdgeTiersCanvas
from .canvas_minicpm import MinicpmCanvas
from .canvas_native import NativeCanvas
from .canvas_plan import CanvasPlan, Size, Views
from .canvas_redrawn_square import RedrawnSquareCanvas
from .canvas_single import SingleCanvas
from .canvas_square_pad import SquarePadCanvas
from .canvas_uhd import UhdCanvas


class Canvas(Protocol):
    """Stateless function from an image's `(height, width)` in pixels to its `CanvasPlan`.

    Attributes:
        equal_views: Whether every view of every image has the tile's size; if not, see `UnequalCanvas`.
        centred: Whether the image is centred on its tiles with its aspect ratio kept, as layouts with `unpad` need.
        tiles_overlap: Whether tiles may overlap, so that the tiles' tokens do not form a map of the image.
    """

    equal_views: bool
    centred: bool
    tiles_overlap: bool

    def __call__(self, height: int, width: int) -> CanvasPlan:
        """Plan the canvas of an image of this size."""
        ...

    def views(self, height: int, width: int) -> Views:
        """Return only tile grid, tile and overview of the plan, for fast token counts over millions of images."""
        ...


class UnequalCanvas(Canvas, Protocol):
    """A canvas whose views differ in size.

    Attributes:
        patch_size: Pixels per side of a patch; views are whole patches.
        patch_block: Patches per side of a block; views are whole blocks.
    """

    patch_size: int
    patch_block: int


CANVASES: dict[str, Callable[..., Canvas]] = {
    "deepseek_ocr": DeepseekOcrCanvas,
    "fila": FilaCanvas,
    "internvl": InternvlCanvas,
    "llava_next": LlavaNextCanvas,
    "long_edge_tiers": LongEdgeTiersCanvas,
    "minicpm": MinicpmCanvas,
    "native": NativeCanvas,
    "redrawn_square": RedrawnSquareCanvas,
    "single": SingleCanvas,
    "square_pad": SquarePadCanvas,
    "uhd": UhdCanvas,
}


def check_canvas(name: str, part: type) -> None:
    """Check that a canvas's class declares all members of `Canvas`, or of `UnequalCanvas` if its views differ.

    A member is an attribute or a method of the class, or an annotated attribute that its constructor sets.

    Raises:
        ValueError: If members are missing; the message names them.
    """
    if not isinstance(part, type):
        raise ValueError(f"Canvas {name!r} must be a class; got {part!r}.")
    protocols = [Canvas] if getattr(part, "equal_views", None) is not False else [Canvas, UnequalCanvas]
    own = [each for each in part.__mro__ if each not in (Canvas, UnequalCanvas)]
    asked, declared = (
        {answer for each in classes for answer in (*vars(each), *inspect.get_annotations(each))}
        for classes in (protocols, own)
    )
    missing = [answer for answer in asked - declared if not answer.startswith("_") or answer == "__call__"]
    if missing:
        raise ValueError(
            f"Canvas {name!r}, class {part.__name__}, does not declare {sorted(missing)}. Give the class an attribute "
            "or a method of each name, as docs/add_a_canvas.md says; annotate an attribute that the constructor sets."
        )


# Registers parts of other packages. The `fila` package sets it when it is imported.
load_part: Callable[[str, Any], None] | None = None


def find_missing(kind: str, name: object, table: Mapping[str, object]) -> None:
    """Look for a part that is missing in a table among those of other packages."""
    if load_part is not None and isinstance(name, str) and name not in table:
        load_part(kind, name)


def as_options(options: object) -> Any:
    """Return an option dict; a bare name, as on the command line, becomes `{"type": name}`.

    Example:
        >>> as_options("internvl")
        {'type': 'internvl'}
    """
    return {"type": options} if isinstance(options, str) else options


def build_canvas(options: Mapping[str, Any] | str, tile_size: Size | tuple[int, int]) -> Canvas:
    """Build the canvas strategy that `options["type"]` names.

    Args:
        options: `{"type": name, ...}` with the options of that strategy, or its name.
        tile_size: Pixels of one tile.

    Returns:
        The strategy.

    Raises:
        ValueError: If the type or an option is unknown, or the strategy rejects an option's value.
    """
    options = as_options(options)
    if not isinstance(options, Mapping):
        raise ValueError(f"`canvas` must be a name or a dict such as {{'type': 'fila'}}; got {options!r}.")
    given = dict(options)
    name = given.pop("type", None)
    find_missing("canvas", name, CANVASES)
    if not isinstance(name, str) or name not in CANVASES:
        raise ValueError(f"`canvas.type` must be one of {sorted(CANVASES)}; got {name!r}.")
    accepted = [parameter for parameter in inspect.signature(CANVASES[name]).parameters if parameter != "tile_size"]
    if unknown := sorted(set(given) - set(accepted)):
        raise ValueError(f"Canvas {name!r} has no option {unknown}; it accepts {accepted}.")
    return CANVASES[name](Size(*tile_size), **given)


def deciding_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options, without those at their defaults that came after the strategy.

    `later_options` of a strategy's class names them. Checkpoints that are older than an option do not have it among
    their settings, and still have the same fingerprint.

    Example:
        >>> "score" in deciding_options({"type": "internvl"})
        False
    """
    every = all_options(options)
    later = getattr(CANVASES[options["type"]], "later_options", ())
    defaults = all_options({"type": options["type"]})
    return {name: value for name, value in every.items() if name not in later or value != defaults[name]}


def all_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a strategy, with defaults for those that are not given.

    Example:
        >>> all_options({"type": "square_pad", "grid": 2})["fit"]
        'center'
    """
    find_missing("canvas", options["type"], CANVASES)
    parameters = inspect.signature(CANVASES[options["type"]]).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    return {**defaults, **options}
