# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Frame sheets: the video processor's own pixels of a video's sampled frames, with number and time."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from fila.look.drawing import GREY, INK, SHEET, font
from fila.processing.video_processing_fila import FilaVideoProcessor

MARGIN, GAP, HEADER, CAPTION = 30, 14, 86, 30
WIDTH = 1240


def see_frames(video_processor: FilaVideoProcessor, video: object) -> tuple[list[Image.Image], list[str]]:
    """Run a video processor on one video and undo its normalisation.

    Args:
        video_processor: A `FilaVideoProcessor`.
        video: One video, in any form that the processor accepts.

    Returns:
        The first view of every frame (the whole frame where it is cut into tiles), and its caption.
    """
    # the first view of a canvas of equal views; slices are patches side by side, which nobody can look at
    canvas = video_processor.canvas if video_processor.plans().equal_views else {"type": "single"}
    batch = video_processor(video, return_tensors="np", return_metadata=True, do_normalize=False, canvas=canvas)
    numbers, times = batch["video_metadata"][0].frames_indices, batch["video_times"][0]
    pictures = []
    for frame in batch["pixel_values_videos"][0]:
        levels = frame[0] / video_processor.rescale_factor if video_processor.do_rescale else frame[0]
        pictures.append(Image.fromarray(np.rint(levels).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)))
    seconds = ["" if times is None else f", {time:.1f} s" for time in times or numbers]
    return pictures, [f"frame {number}{second}" for number, second in zip(numbers, seconds, strict=True)]


def draw_frame_sheet(
    pictures: Sequence[Image.Image], captions: Sequence[str], *, title: str, note: str
) -> Image.Image:
    """Draw pictures in rows, each above its caption."""
    cols = min(len(pictures), 4 if len(pictures) <= 16 else 6)
    side = (WIDTH - 2 * MARGIN - (cols - 1) * GAP) // cols
    shown = [picture.resize((side, max(1, side * picture.height // picture.width))) for picture in pictures]
    height = max(picture.height for picture in shown) + CAPTION
    rows = math.ceil(len(shown) / cols)
    sheet = Image.new("RGB", (WIDTH, HEADER + rows * (height + GAP) + MARGIN), SHEET)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 50), title, font=font(28), fill=INK, anchor="ls")
    draw.text((WIDTH - MARGIN, 50), note, font=font(17), fill=GREY, anchor="rs")
    for place, (picture, caption) in enumerate(zip(shown, captions, strict=True)):
        x, y = MARGIN + place % cols * (side + GAP), HEADER + place // cols * (height + GAP)
        sheet.paste(picture, (x, y))
        draw.text((x, y + picture.height + 20), caption, font=font(15), fill=GREY, anchor="ls")
    return sheet
