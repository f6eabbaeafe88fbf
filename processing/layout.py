# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Prompt layouts: the order of the tokens of an image's views in the prompt, and the text between them.

A layout is data. `{"type": name, ...}` takes a preset of `LAYOUTS` and replaces fields of it.

    image_start  image_id_start NUMBER image_id_end                                       once per image
    overview_start TOKENS overview_end                                       before or after the tiles, or left out
    tiles_start                                                                            around all tiles
        tile_start TOKENS tile_end  tile_separator  tile_start TOKENS tile_end  row_end    one row of tiles
        row_separator                                                                      between rows of tiles
        ...
    tiles_end
    separator vector
    image_end

With `row_newlines` the tiles are not laid out one by one: their tokens form one map, which is read row by row, with
the learned newline vector after every row of tokens; `unpad` first drops the rows and columns that show padding. With
`overview_newlines` the overview, or the only view, has newline vectors after its rows too; `separator` puts a learned
vector behind all of an image's tokens (DeepSeek-OCR).

An image that is not cut has one view. The layout writes it in the place of the overview.

Sources: MiniCPM-V 2.6 and 2.5, `get_slice_image_placeholder`; LLaVA-UHD v1, `llava_arch.py`; InternVL and LEO, chat
scripts; LLaVA-NeXT, transformers `models/llava_next/modeling_llava_next.py::pack_image_features`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

from .canvas import as_options, find_missing

NEWLINE, PADDING, SEPARATOR = -1, -2, -3
DROPPED = -4  # DROPPED - t stands for token t, which pruning left out
OVERVIEWS = ("first", "last", "none")
UNPADS = ("no", "rounded", "truncated")


@dataclass(frozen=True)
class Layout:
    """A prompt layout: the order of an image's tokens and the text around them.

    Attributes:
        overview: Place of the overview's tokens: "first", "last" or "none", which drops them if there are tiles.
        image_start, image_end: Text around everything of an image.
        image_id_start, image_id_end: Text around the number of the image in its prompt, from 0; no number when both
            are empty.
        overview_start, overview_end: Text around the overview.
        tiles_start, tiles_end: Text around all tiles.
        tile_start, tile_end: Text around each tile.
        tile_separator: Text between the tiles of a row.
        row_separator: Text between rows of tiles.
        row_end: Text after every row of tiles, the last one too.
        row_newlines: Whether the tiles' tokens are read as one map, a newline vector after each of its rows.
        unpad: "no", or how the map's rows and columns of padding are found and dropped, with `row_newlines`:
            "rounded" as transformers does, "truncated" as LLaVA itself.
        overview_newlines: Whether the overview, or the only view, has a newline vector after each of its rows.
        separator: Whether the learned separator vector follows an image's tokens.
        slice_positions: Whether the (row, col) of each view in the tile grid goes to the model.
    """

    overview: str = "first"
    image_start: str = ""
    image_end: str = ""
    image_id_start: str = ""
    image_id_end: str = ""
    overview_start: str = ""
    overview_end: str = ""
    tiles_start: str = ""
    tiles_end: str = ""
    tile_start: str = ""
    tile_end: str = ""
    tile_separator: str = ""
    row_separator: str = ""
    row_end: str = ""
    row_newlines: bool = False
    unpad: str = "no"
    slice_positions: bool = False
    overview_newlines: bool = False
    separator: bool = False

    @property
    def has_newlines(self) -> bool:
        """Whether the layout has newline vectors."""
        return self.row_newlines or self.overview_newlines

    @property
    def has_learned_vectors(self) -> bool:
        """Whether the layout has tokens that are no view's."""
        return self.has_newlines or self.separator

    @property
    def settings(self) -> dict[str, Any]:
        """Return the fields that a model's training is compared by.

        Fields that came later are left out where they are off, so that older checkpoints agree.
        """
        later = ("overview_newlines", "separator")
        return {name: value for name, value in vars(self).items() if value or name not in later}

    @property
    def texts(self) -> dict[str, str]:
        """Return the fields that are text."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.type in ("str", str) and field.name not in ("overview", "unpad")
        }

    @property
    def is_one_run(self) -> bool:
        """Whether an image's placeholders form one run of all its tokens in the order of the views."""
        between = {name for name, text in self.texts.items() if text} - {
            "image_start",
            "image_end",
            "image_id_start",
            "image_id_end",
        }
        return self.overview == "first" and not self.has_learned_vectors and not between


LAYOUTS: dict[str, Layout] = {
    "deepseek_ocr": Layout(overview="last", row_newlines=True, overview_newlines=True, separator=True),
    "fila": Layout(),
    "internvl": Layout(overview="last", image_start="<img>", image_end="</img>"),
    "leo": Layout(overview="last", image_start="<img>", image_end="</img>"),
    "llava_next": Layout(row_newlines=True, unpad="rounded"),
    "llava_uhd": Layout(overview="last", tile_separator=",", row_end="\n"),
    "minicpm_v_2_5": Layout(
        overview_start="<image>",
        overview_end="</image>",
        tiles_start="<slice>",
        tiles_end="</slice>",
        tile_start="<image>",
        tile_end="</image>",
        row_separator="\n",
    ),
    "minicpm_v_2_6": Layout(
        image_id_start="<image_id>",
        image_id_end="</image_id>",
        overview_start="<image>",
        overview_end="</image>",
        tile_start="<slice>",
        tile_end="</slice>",
        row_separator="\n",
    ),
}


# `as_saved` writes out the fields of every other layout, so that loading does not need the package that registers it.
OWN = frozenset(LAYOUTS)


def as_saved(options: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """Return the options of a layout in names that every checkpoint knows."""
    if options["type"] in OWN:
        return dict(options)
    plain = Layout()
    changed = {name: value for name, value in vars(layout).items() if value != getattr(plain, name)}
    return {"type": "fila", **changed}


def check_layout(name: str, layout: object) -> None:
    """Check that a layout is a `Layout` whose fields go together.

    What a layout asks of a model is in its fields: `row_newlines` and `slice_positions` need settings of the same
    sense, `unpad` a canvas that centres images.

    Raises:
        ValueError: If it is not; the message names the field.
    """
    if not isinstance(layout, Layout):
        raise ValueError(f"Layout {name!r} must be a `Layout`, with a value for each field; got {layout!r}.")
    if layout.overview not in OVERVIEWS:
        raise ValueError(f"`layout.overview` must be one of {list(OVERVIEWS)}; got {layout.overview!r}.")
    if layout.unpad not in UNPADS:
        raise ValueError(f"`layout.unpad` must be one of {list(UNPADS)}; got {layout.unpad!r}.")
    if layout.unpad != "no" and not layout.row_newlines:
        raise ValueError("`layout.unpad` drops rows of the map that `row_newlines` makes; set both or neither.")
    if layout.row_newlines and any(
        layout.texts[name] for name in ("tile_start", "tile_end", "tile_separator", "row_separator", "row_end")
    ):
        raise ValueError("`layout.row_newlines` reads all tiles as one map; text around tiles or rows does not fit.")


def build_layout(options: Mapping[str, Any] | str) -> Layout:
    """Build the layout that `options["type"]` names, with the fields that `options` replaces.

    Raises:
        ValueError: If the type, a field or a value is not accepted.
    """
    options = as_options(options)
    if not isinstance(options, Mapping):
        raise ValueError(f"`layout` must be a name or a dict such as {{'type': 'fila'}}; got {options!r}.")
    given = dict(options)
    name = given.pop("type", None)
    find_missing("layout", name, LAYOUTS)
    if not isinstance(name, str) or name not in LAYOUTS:
        raise ValueError(f"`layout.type` must be one of {sorted(LAYOUTS)}; got {name!r}.")
    accepted = {field.name: type(getattr(LAYOUTS[name], field.name)) for field in fields(Layout)}
    if unknown := sorted(set(given) - set(accepted)):
        raise ValueError(f"A layout has no field {unknown}; it has {list(accepted)}.")
    for field, value in given.items():
        if not isinstance(value, accepted[field]):
            kind = "true or false" if accepted[field] is bool else "a string"
            raise ValueError(f"`layout.{field}` must be {kind}; got {value!r}.")
    layout = replace(LAYOUTS[name], **given)
    check_layout(name, layout)
    return layout


@dataclass(frozen=True)
class Geometry:
    """The geometry of an image that a layout needs.

    Attributes:
        tile_grid: (rows, cols).
        token_counts: Image tokens of each view, overview first.
        image_size: Pixels, (height, width); for `unpad`.
        tile_token_grid: Tokens per axis of a tile, (rows, cols); for `row_newlines`.
        overview_token_grid: Tokens per axis of the overview, or of the only view; for `overview_newlines`.
    """

    tile_grid: tuple[int, int]
    token_counts: tuple[int, ...]
    image_size: tuple[int, int] | None = None
    tile_token_grid: tuple[int, int] | None = None
    overview_token_grid: tuple[int, int] | None = None

    @property
    def has_overview(self) -> bool:
        """Whether the first view is an overview next to tiles."""
        return len(self.token_counts) > self.tile_grid[0] * self.tile_grid[1]


Piece = str | Sequence[int]


def lay_out(layout: Layout, geometry: Geometry, number: int = 0) -> list[Piece]:
    """Return text and tokens of an image, in the order of the prompt.

    Args:
        layout: The layout.
        geometry: Geometry of the image.
        number: Number of the image in its prompt, from 0.

    Returns:
        Strings, and sequences of token indices: a token of view v has the index of its place among all tokens of the
        views; `NEWLINE` is the newline vector, `SEPARATOR` the separator vector.

    Raises:
        ValueError: If the layout needs what the geometry lacks.
    """
    starts = [0]
    for count in geometry.token_counts:
        starts.append(starts[-1] + count)
    views = [range(first, last) for first, last in pairwise(starts)]
    first_tile = int(geometry.has_overview)
    tiles: list[Piece] = []
    overview: list[Piece] = []
    if len(views) > 1:
        tiles = (
            [_token_map().rows(layout, geometry, starts)] if layout.row_newlines else _tiles(layout, geometry, views)
        )
        tiles = [layout.tiles_start, *tiles, layout.tiles_end]
    if len(views) == 1 or (first_tile and layout.overview != "none"):
        newline = [NEWLINE] if layout.row_newlines and len(views) == 1 and not layout.overview_newlines else []
        shown = _token_map().overview(geometry) if layout.overview_newlines else views[0]
        overview = [layout.overview_start, shown, newline, layout.overview_end]
    image_id = [layout.image_id_start, str(number), layout.image_id_end]
    pieces: list[Piece] = [layout.image_start]
    pieces += image_id if layout.image_id_start or layout.image_id_end else []
    pieces += tiles + overview if layout.overview == "last" else overview + tiles
    pieces += [[SEPARATOR] if layout.separator else "", layout.image_end]
    return [piece for piece in pieces if piece]


def token_indices(pieces: Sequence[Piece]) -> list[int]:
    """Return the tokens of `lay_out`'s pieces, one per placeholder."""
    return [index for piece in pieces if not isinstance(piece, str) for index in piece]


def as_text(pieces: Sequence[Piece], placeholder: str) -> str:
    """Return the prompt text of `lay_out`'s pieces."""
    return "".join(piece if isinstance(piece, str) else placeholder * len(piece) for piece in pieces)


def count_tokens(layout: Layout, geometry: Geometry, image_size: tuple[int, int] | None = None) -> int:
    """Count an image's tokens in the prompt without listing them.

    Args:
        layout: The layout.
        geometry: The image's.
        image_size: Pixels (height, width) of the image, instead of the geometry's.

    Raises:
        ValueError: If the layout needs what the geometry lacks.
    """
    counts = geometry.token_counts
    newlines = _token_map().overview_rows(geometry) if layout.overview_newlines else 0
    if len(counts) == 1:
        return counts[0] + (newlines or layout.row_newlines) + layout.separator
    overview = counts[0] if geometry.has_overview else 0
    total = overview + newlines * bool(overview) if layout.overview != "none" else 0
    total += layout.separator
    if not layout.row_newlines:
        return total + sum(counts) - overview
    top, left, bottom, right = _token_map().kept(layout, geometry, image_size)
    return total + (bottom - top) * (right - left + 1)


def slice_positions(geometry: Geometry) -> list[tuple[int, int]]:
    """Return (row, col) of each view in the tile grid, overview first; (-1, -1) for the overview or a single view."""
    if len(geometry.token_counts) == 1:
        return [(-1, -1)]
    rows, cols = geometry.tile_grid
    return [(-1, -1)] * geometry.has_overview + [(row, col) for row in range(rows) for col in range(cols)]


def _tiles(layout: Layout, geometry: Geometry, views: list[range]) -> list[Piece]:
    rows, cols = geometry.tile_grid
    tiles = views[int(geometry.has_overview) :]
    pieces: list[Piece] = []
    for row in range(rows):
        pieces += [layout.row_separator] if row else []
        for col in range(cols):
            pieces += [layout.tile_separator] if col else []
            pieces += [layout.tile_start, tiles[row * cols + col], layout.tile_end]
        pieces.append(layout.row_end)
    return pieces


def _token_map() -> Any:
    from .processor_features import feature  # which imports this file

    return feature("token_map")
