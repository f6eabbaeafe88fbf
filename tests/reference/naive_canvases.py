# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""How the canvas strategies choose, as their sources write it: every candidate in order, by one key."""

from math import ceil, log

Grid = tuple[int, int]
Size = tuple[int, int]


def naive_best_fit(height: int, width: int, canvas_sizes: dict[Grid, Size]) -> Grid:
    """LLaVA-NeXT: most pixels kept, then fewest wasted, then the order of the list."""

    def key(grid: Grid) -> tuple[int, int]:
        canvas_height, canvas_width = canvas_sizes[grid]
        scale = min(canvas_width / width, canvas_height / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, -(canvas_height * canvas_width - kept)

    return max(canvas_sizes, key=key)


def naive_enclosing(height: int, width: int, canvas_sizes: dict[Grid, Size]) -> Grid:
    """FILA: the smallest canvas that encloses the image, then the one in which it is drawn largest."""
    enclosing = [grid for grid, (high, wide) in canvas_sizes.items() if high >= height and wide >= width]
    if not enclosing:
        return naive_best_fit(height, width, canvas_sizes)

    def key(grid: Grid) -> tuple[int, int]:
        high, wide = canvas_sizes[grid]
        return high * wide, -min(high * width, wide * height)

    return min(enclosing, key=key)


def naive_nearest_ratio(height: int, width: int, grids: list[Grid], tile: int) -> Grid:
    """InternVL: `find_closest_aspect_ratio` over grids (cols, rows); the answer is (rows, cols)."""
    best, least = (1, 1), float("inf")
    for cols, rows in grids:
        difference = abs(width / height - cols / rows)
        if difference < least or (difference == least and width * height > 0.5 * tile * tile * cols * rows):
            best, least = (rows, cols), min(least, difference)
    return best


def naive_slice_grid(height: int, width: int, resolution: int, max_slices: int) -> Grid | None:
    """LLaVA-UHD and MiniCPM-V: counts around pixels / resolution^2, the nearest logarithm of the ratio."""
    count = min(ceil(width * height / (resolution * resolution)), max_slices)
    if count <= 1:
        return None
    best, least = (1, 1), float("inf")
    for slices in (count - 1, count, count + 1):
        if slices == 1 or slices > max_slices:
            continue
        for cols in range(1, slices + 1):
            if slices % cols == 0:
                error = abs(log(width / height) - log(cols / (slices // cols)))
                if error < least:
                    best, least = (slices // cols, cols), error
    return best
