# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rows of tokens that newline vectors end: of all tiles as one map, and of the overview; see `layout.py`."""

from .layout import NEWLINE, Geometry, Layout


def unpadded_box(
    image_size: tuple[int, int], map_size: tuple[int, int], *, rounded: bool = True
) -> tuple[int, int, int, int]:
    """Return the (top, left, bottom, right) box of tokens that show image rather than padding.

    The image is taken to lie in the middle of the canvas that the map covers. Very long images keep no row or no
    column.

    Args:
        image_size: Pixels, (height, width).
        map_size: Tokens, (rows, cols).
        rounded: Round to seven digits before truncating, as transformers does; LLaVA itself does not.

    Example:
        >>> unpadded_box((100, 200), (24, 24))
        (6, 0, 18, 24)

    Source: transformers `models/llava_next/modeling_llava_next.py::unpad_image`, in doubles as there.
    """
    (height, width), (rows, cols) = image_size, map_size
    if width / height > cols / rows:
        margin = (rows - drawn_length(height, cols / width, rounded=rounded)) // 2
        return margin, 0, rows - margin, cols
    margin = (cols - drawn_length(width, rows / height, rounded=rounded)) // 2
    return 0, margin, rows, cols - margin


def drawn_length(length: int, scale: float, *, rounded: bool) -> int:
    """Return the number of tokens that `length` pixels cover at `scale` tokens per pixel, rounded down.

    Example:
        >>> [drawn_length(55, 48 / 176, rounded=rounded) for rounded in (True, False)]
        [15, 14]
    """
    return int(round(length * scale, 7)) if rounded else int(length * scale)


def known_grid(grid: tuple[int, int] | None) -> tuple[int, int]:
    """Return a grid of tokens.

    Raises:
        ValueError: If it is None.
    """
    if grid is None:
        raise ValueError(
            "`layout.row_newlines` needs the rows and columns of a tile's tokens, and `overview_newlines` those of "
            "the overview's; set the processor's `token_size`, the pixels that one image token covers."
        )
    return grid


def overview_rows(geometry: Geometry) -> int:
    """Return the number of rows of tokens of the overview, or of the only view."""
    return known_grid(geometry.overview_token_grid)[0]


def overview_map(geometry: Geometry) -> list[int]:
    """Return the tokens of the overview, or of the only view, a newline vector after each row."""
    rows, cols = known_grid(geometry.overview_token_grid)
    return [token for row in range(rows) for token in (*range(row * cols, (row + 1) * cols), NEWLINE)]


def kept_box(
    layout: Layout, geometry: Geometry, image_size: tuple[int, int] | None = None
) -> tuple[int, int, int, int]:
    """Return the (top, left, bottom, right) box of the map's tokens that the prompt keeps."""
    (rows, cols), (token_rows, token_cols) = geometry.tile_grid, known_grid(geometry.tile_token_grid)
    map_size = rows * token_rows, cols * token_cols
    if layout.unpad == "no":
        return 0, 0, *map_size
    size = image_size or geometry.image_size
    if size is None:
        raise ValueError("`layout.unpad` needs the size of the image.")
    return unpadded_box(size, map_size, rounded=layout.unpad == "rounded")


def map_rows(layout: Layout, geometry: Geometry, starts: list[int]) -> list[int]:
    """Return the tokens of all tiles, row by row of one map, a newline vector after each row."""
    top, left, bottom, right = kept_box(layout, geometry)
    assert geometry.tile_token_grid is not None
    token_rows, token_cols = geometry.tile_token_grid
    tokens: list[int] = []
    for row in range(top, bottom):
        for col in range(left, right):
            tile = row // token_rows * geometry.tile_grid[1] + col // token_cols
            start = starts[int(geometry.has_overview) + tile]
            tokens.append(start + row % token_rows * token_cols + col % token_cols)
        tokens.append(NEWLINE)
    return tokens


class TokenMap:
    """The functions of this file that a layout calls."""

    kept = staticmethod(kept_box)
    overview = staticmethod(overview_map)
    overview_rows = staticmethod(overview_rows)
    rows = staticmethod(map_rows)
