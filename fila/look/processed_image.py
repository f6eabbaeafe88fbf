# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""One processed image: plan, pixels with the normalisation undone, tokens and their places.

The processor's own code counts and orders the tokens, so a picture cannot disagree with a prompt. A token's number is
its index, from 0, among its image's tokens in the order of the prompt.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image
from transformers.image_utils import ImageInput

from fila.look.view_settings import Eyes
from fila.processing.canvas_plan import Box, CanvasPlan, Size
from fila.processing.image_input import image_size, load_images, resized, to_channels_first
from fila.processing.image_processing_fila import FilaImageProcessor, FilaImageProcessorPil
from fila.processing.layout import DROPPED, NEWLINE, Piece, lay_out, token_indices
from fila.processing.token_boxes import TokenPlace, token_box
from fila.processing.token_pruning import prune_image


@dataclass(frozen=True)
class Seen:
    """One image after processing.

    Attributes:
        plan: Places of image and tiles on the canvas.
        source_size: Size of the input image in pixels; larger than the plan's if a limit of tokens shrank it.
        image: The image that the plan is for.
        views: The views as pictures, overview first.
        high_res: The high-res canvas as a picture, or None when the processor draws none.
        token_grids: Image tokens per axis of each view, or None where they lie on no grid.
        token_counts: Image tokens of each view.
        pieces: Text and tokens in the order of the prompt, as the processor's layout gives them.
        left_out: Indices among the tokens of the views of those that the processor's `prune` leaves out.
    """

    plan: CanvasPlan
    source_size: Size
    image: Image.Image
    views: tuple[Image.Image, ...]
    high_res: Image.Image | None
    token_grids: tuple[tuple[int, int] | None, ...]
    token_counts: tuple[int, ...]
    pieces: tuple[Piece, ...]
    left_out: tuple[int, ...] = ()

    @cached_property
    def starts(self) -> list[int]:
        """Index of each view's first token among the tokens of the views, and the total."""
        return [0, *accumulate(self.token_counts)]

    @cached_property
    def tokens(self) -> list[int]:
        """Index among the tokens of the views for each image token of the prompt, or `NEWLINE` or `SEPARATOR`."""
        return token_indices(self.pieces)

    @property
    def num_tokens(self) -> int:
        """Number of image tokens of the whole image."""
        return len(self.tokens)

    @property
    def first_tile(self) -> int:
        """Index of the first tile among the views: 1 with an overview, else 0."""
        return self.plan.num_views - self.plan.num_tiles

    @cached_property
    def view_order(self) -> list[int]:
        """Views with tokens, in the order of their first tokens in the prompt."""
        return list(dict.fromkeys(self.place(token)[0] for token in self.tokens if token >= 0))

    @property
    def real_share(self) -> float:
        """Share of the views' pixels that show the image rather than padding."""
        content, real = self.plan.content_box, 0
        if self.plan.content_in_overview is not None:
            real += self.plan.content_in_overview.size.height * self.plan.content_in_overview.size.width
        for box in self.plan.tile_boxes:
            height = min(box.bottom, content.bottom) - max(box.top, content.top)
            width = min(box.right, content.right) - max(box.left, content.left)
            real += max(0, height) * max(0, width)
        return real / sum(height * width for height, width in self.plan.view_sizes)

    def view_name(self, view: int) -> str:
        """Return the name of a view, for instance `tile row 1, col 2`."""
        if view < self.first_tile:
            return "overview"
        row, col = divmod(view - self.first_tile, self.plan.tile_grid[1])
        return "whole image" if self.plan.num_views == 1 else f"tile row {row + 1}, col {col + 1}"

    def place(self, token: int) -> TokenPlace:
        """Return view, row and column of a token; without a token grid, row 0 and its index in the view."""
        view = bisect_right(self.starts, token) - 1
        grid = self.token_grids[view]
        row, col = divmod(token - self.starts[view], grid[1] if grid else self.token_counts[view])
        return TokenPlace(view, row, col)

    def shown_by(self, number: int) -> tuple[TokenPlace | None, Box | None]:
        """Return the place of a token of the prompt and the box that it shows.

        Args:
            number: Of the image token, from 0.

        Returns:
            The place, None for a learned vector; and the box in pixels of the image as it came, None for a learned
            vector and for a token that shows padding only. A token without a place shows its whole view.

        Raises:
            ValueError: If the image has no such token.
        """
        if not 0 <= number < self.num_tokens:
            raise ValueError(f"The image has tokens 0 to {self.num_tokens - 1}; got {number}.")
        if self.tokens[number] < 0:
            return None, None
        place = self.place(self.tokens[number])
        grid = self.token_grids[place.view]
        return place, self.box_of(place if grid else TokenPlace(place.view, 0, 0), grid or (1, 1))

    def tell(self, number: int) -> str:
        """Return one line about a token: its view, its place in the view, its pixels."""
        place, box = self.shown_by(number)
        if place is None:
            return f"token {number}: {'newline' if self.tokens[number] == NEWLINE else 'separator'}"
        on_grid = self.token_grids[place.view] is not None
        inside = f"row {place.row + 1}, col {place.col + 1}" if on_grid else f"no. {place.col + 1}"
        pixels = "padding only" if box is None else f"pixels {box.top}, {box.left} to {box.bottom}, {box.right}"
        return f"token {number}: {self.view_name(place.view)}; in it {inside}; {pixels}"

    def box_of(self, place: TokenPlace, grid: tuple[int, int]) -> Box | None:
        """Return the box of input-image pixels that a cell of a view shows; None for padding."""
        box = token_box(self.plan, place, grid)
        if box is None:
            return None
        (height, width), (rows, cols) = self.source_size, self.plan.image_size
        top, left = box.top * height // rows, box.left * width // cols
        return Box(top, left, -(-box.bottom * height // rows), -(-box.right * width // cols))


def look(eyes: Eyes, image: ImageInput) -> Seen:
    """Process one image with the given eyes.

    Args:
        eyes: The processor and its token settings.
        image: An image: of PIL, an array or a tensor.

    Raises:
        ImageInputError: If the processor refuses the image.
        ValueError: If a view is not whole tokens, or the layout does not fit.
    """
    image = load_images(image, page_size=eyes.image_processor.page_size)  # upright, as the processor will have it
    source = Size(*image_size(image, None, 0))
    size = eyes.fitted(source)
    if size != source:
        image = resized(image, size)
    plan = eyes.plan(size)
    geometry = eyes.geometry(plan)
    pieces = lay_out(eyes.processor._layout, geometry)
    batch = eyes.image_processor(images=cast(ImageInput, [image]), return_tensors="pt")
    left_out: list[int] = []
    if eyes.at_most:
        pieces, tokens = prune_image(eyes.processor, batch, 0, geometry, pieces, {})
        left_out = [DROPPED - token for token in tokens if token <= DROPPED]
    views, high_res = _pictures(eyes.image_processor, batch, plan)
    pixels = to_channels_first(image, None, 0, to_rgb=True, to_uint8=True, data_format=None)
    shown = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    grids = eyes.token_grids(plan)
    counts = geometry.token_counts
    return Seen(plan, source, shown, views, high_res, tuple(grids), counts, tuple(pieces), tuple(left_out))


def _pictures(
    image_processor: FilaImageProcessor | FilaImageProcessorPil, batch: Mapping[str, Any], plan: CanvasPlan
) -> tuple[tuple[Image.Image, ...], Image.Image | None]:
    """Return the views and the high-res canvas from the image processor's tensors."""
    arrays = {name: np.asarray(values[0]) for name, values in batch.items()}
    pixels = list(arrays["pixel_values"][: plan.num_views])
    if "patch_grids" in arrays:
        pixels = [joined(*pair) for pair in zip(pixels, arrays["patch_grids"].tolist(), strict=False)]
    mean, std = image_processor.image_mean, image_processor.image_std
    views = tuple(_picture(image_processor, view, mean, std) for view in pixels)
    if "high_res_pixel_values" not in arrays:
        return views, None
    rows, cols = arrays["high_res_sizes"].tolist()
    mean, std = image_processor.high_res_image_mean, image_processor.high_res_image_std
    return views, _picture(image_processor, arrays["high_res_pixel_values"][:, :rows, :cols], mean, std)


def joined(patches: npt.NDArray[Any], grid: Sequence[int]) -> npt.NDArray[Any]:
    """`(3, p, L * p)`, patches side by side, to the view `(3, rows * p, cols * p)` that they are of."""
    (channels, patch, _), (rows, cols) = patches.shape, grid
    cut = patches[:, :, : rows * cols * patch].reshape(channels, patch, rows, cols * patch)
    return cut.transpose(0, 2, 1, 3).reshape(channels, rows * patch, cols * patch)


def _picture(
    image_processor: FilaImageProcessor | FilaImageProcessorPil,
    pixels: npt.NDArray[Any],
    mean: float | Sequence[float],
    std: float | Sequence[float],
) -> Image.Image:
    """Turn normalised `(3, H, W)` floats back into an 8-bit picture."""
    shown = pixels.astype(np.float64)
    if image_processor.do_normalize:
        scale, shift = (np.broadcast_to(value, 3).reshape(3, 1, 1) for value in (std, mean))  # one number or three
        shown = shown * scale + shift
    if image_processor.do_rescale:
        shown = shown / image_processor.rescale_factor
    return Image.fromarray(np.clip(np.rint(shown), 0, 255).astype(np.uint8).transpose(1, 2, 0), "RGB")
