# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Sizes at which the images of a prompt keep a limit of image tokens, per image and for the prompt.

Water-filling: the image with most tokens gives way first, step by step, until the sum fits. Small images are left
alone while large ones shrink, and equal images end within one step of each other.

A step shrinks both sides of an image by the same factor, `k / STEPS`, to the next size at which the canvas strategy
gives it fewer tokens. Strategies are not monotonic, so sizes that would cost more again are passed over.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from transformers.utils import logging

from .image_input import ImageInputError, image_size, load_images, resized
from .image_pixels import has_fractions

if TYPE_CHECKING:
    from .processing_fila import FilaProcessor


logger = logging.get_logger(__name__)

STEPS = 64

Size = tuple[int, int]


def fit_prompt(
    sizes: Sequence[Size],
    count: Callable[[int, int], int],
    *,
    per_image: int | None = None,
    per_prompt: int | None = None,
) -> list[Size] | None:
    """Shrink the images of one prompt until both limits are kept.

    Args:
        sizes: (height, width) of the images, in pixels.
        count: Image tokens of an image of (height, width).
        per_image: Tokens that one image may have; None: any number.
        per_prompt: Tokens that all of them together may have; None: any number.

    Returns:
        (height, width) of each image, its own where it need not shrink; None where no sizes keep the limits.

    Example:
        >>> fit_prompt([(64, 64), (8, 8)], lambda height, width: height * width, per_prompt=1200)
        [(33, 33), (8, 8)]
    """
    fitted = list(sizes)
    tokens = [count(*size) for size in sizes]
    for index, size in enumerate(sizes):
        while per_image is not None and tokens[index] > per_image:
            smaller = _next_smaller(size, fitted[index], tokens[index], count)
            if smaller is None:
                return None
            fitted[index], tokens[index] = smaller
    can_shrink = set(range(len(sizes)))
    while per_prompt is not None and sum(tokens) > per_prompt:
        if not can_shrink:
            return None
        # Of equal ones the last gives way, so that what comes first in a prompt is kept longest.
        largest = max(can_shrink, key=lambda index: (tokens[index], index))
        smaller = _next_smaller(sizes[largest], fitted[largest], tokens[largest], count)
        if smaller is None:
            can_shrink.discard(largest)
        else:
            fitted[largest], tokens[largest] = smaller
    return fitted


def _next_smaller(size: Size, present: Size, tokens: int, count: Callable[[int, int], int]) -> tuple[Size, int] | None:
    """Return the largest `k / STEPS` of a size that is below the present one and has fewer tokens."""
    for step in range(STEPS - 1, 0, -1):
        smaller = max(1, size[0] * step // STEPS), max(1, size[1] * step // STEPS)
        if (smaller[0] < present[0] or smaller[1] < present[1]) and (fewer := count(*smaller)) < tokens:
            return smaller, fewer
    return None


def fit_batch(
    processor: "FilaProcessor",
    images: Any,
    text: list[str] | None,
    videos: Any,
    settings: dict[str, Any],
    record: list[int] | None,
) -> tuple[Any, Any, Any]:
    """Apply the limits of image tokens to a batch, prompt by prompt.

    Args:
        processor: The `FilaProcessor`.
        images: An image, a list, or a list per prompt.
        text: The prompts; None: there are none.
        videos: Those of all prompts.
        settings: The settings of the call, merged.
        record: Becomes the numbers of the samples that are kept, where some are dropped.

    Returns:
        Images, prompts and videos of the samples that are kept.
    """
    images_kwargs, prompts = settings["images_kwargs"], text
    images = images if isinstance(images, list) else [images]
    is_nested = isinstance(images[0], list)

    def by_prompt(items: list[Any]) -> list[list[Any]]:
        if is_nested or text is None:
            return items if is_nested else [items]
        left = iter(items)
        return [[next(left) for _ in range(prompt.count(str(processor.image_token)))] for prompt in text]

    form, rescales = images_kwargs.get("input_data_format"), images_kwargs.get("do_rescale")
    rescales = processor.image_processor.do_rescale if rescales is None else rescales
    # With a cache, files are not read until here; those that keep their size are handed on as files.
    nested, loaded = by_prompt(images), by_prompt(load_images(images, page_size=processor.image_processor.page_size))
    kept: list[int] = []
    fitted: list[list[Any]] = []
    for sample, (sources, own) in enumerate(zip(nested, loaded, strict=True)):
        given = [image_size(image, sample, number, form) for number, image in enumerate(own)]
        sizes = fitting_sizes(processor, given, sample, images_kwargs, may_drop=True)
        if sizes is None:
            continue
        kept.append(sample)
        fitted.append(sources[:])
        for number, (image, size) in enumerate(zip(own, sizes, strict=True)):
            if size == given[number]:
                continue
            if not rescales and has_fractions(image):
                reason = "has floats within 0..1, which `shrink_images` keeps only with `do_rescale`"
                raise ImageInputError(sample, number, reason, "Leave `do_rescale` on, or convert it to uint8.")
            fitted[-1][number] = resized(image, size, form)
    if not kept:
        raise ValueError("No sample keeps the limits of image tokens, so `drop_sample` would leave none.")
    if len(kept) < len(nested):
        dropped = sorted(set(range(len(nested))) - set(kept))
        logger.warning(f"Samples {dropped} are left out: their images have more tokens than allowed.")
        if record is not None:
            record[:] = kept
        text = None if text is None else [text[sample] for sample in kept]
    if videos is not None and prompts is not None and len(kept) < len(prompts):
        counts = [prompt.count(str(processor.video_token)) for prompt in prompts]
        from .processor_features import feature  # which imports this file

        kept_videos = feature("videos").of_samples
        videos = kept_videos(videos, counts, kept, settings["videos_kwargs"].get("video_metadata"))
    return type(images)(fitted if text is not None or is_nested else fitted[0]), text, videos


def fitting_sizes(
    processor: "FilaProcessor", sizes: list[Size], sample: int, images_kwargs: dict[str, Any], *, may_drop: bool
) -> list[Size] | None:
    """Return the sizes (height, width) at which a prompt's images are planned, or None to drop the prompt."""
    count = processor._counter(processor.image_processor.plans(**images_kwargs))
    tokens = [count(*size) for size in sizes]
    most, in_all = processor.max_image_tokens, processor.max_prompt_image_tokens
    over = [number for number, own in enumerate(tokens) if most is not None and own > most]
    if not over and (in_all is None or sum(tokens) <= in_all):
        return sizes
    if processor.image_token_policy == "drop_sample" and may_drop:
        return None
    shrinks = processor.image_token_policy == "shrink_images"
    if shrinks and (fitted := fit_prompt(sizes, count, per_image=most, per_prompt=in_all)) is not None:
        return fitted
    fix = "Raise the limit" + (
        ", or send fewer images." if shrinks else ', or set `image_token_policy="shrink_images"`.'
    )
    even = ", even at the least" if shrinks else ""
    if over:
        reason = f"has {tokens[over[0]]} image tokens, and `max_image_tokens` is {most}{even}"
        raise ImageInputError(sample, over[0], reason, fix)
    raise ValueError(
        f"The {len(sizes)} images of sample {sample} have {tokens} image tokens, in all {sum(tokens)}, and "
        f"`max_prompt_image_tokens` is {in_all}{even}. {fix}"
    )


class TokenBudget:
    """The functions of this file that a processor with a limit calls."""

    fit = staticmethod(fit_batch)
    sizes = staticmethod(fitting_sizes)
