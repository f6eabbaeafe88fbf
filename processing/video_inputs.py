# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Video part of `FilaProcessor`: check videos, write their placeholders, and change their settings."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import BatchFeature, PreTrainedTokenizerBase
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoInput

from .chat_control_tokens import added_token_id
from .chat_messages import check_samples
from .layout import Geometry, as_text, token_indices
from .token_rows import token_rows
from .video_frame_sampling import Clip, sample
from .video_processing_fila import FilaVideoProcessor
from .video_prompt import build_video_layout, check_clip_tokens, lay_out_video
from .video_source import KeptVideos, of_samples, split_samples, split_videos

if TYPE_CHECKING:
    from .processing_fila import FilaProcessor


def set_up(
    processor: "FilaProcessor",
    video_processor: BaseVideoProcessor | dict[str, Any] | None,
    video_token: str | None,
    tokenizer: PreTrainedTokenizerBase | None,
) -> None:
    """Set a processor's video processor and video token, and check its settings of videos.

    Args:
        processor: The `FilaProcessor`.
        video_processor: A `FilaVideoProcessor`, its settings, or None.
        video_token: Placeholder of a video, if the tokenizer names none.
        tokenizer: Its added tokens must hold the video token.

    Raises:
        ValueError: If a setting is not accepted, or the tokenizer lacks the token.
    """
    processor.built_video_layout = build_video_layout(processor.video_layout)
    check_clip_tokens(processor.clip_tokens)
    if video_processor is None:
        return
    if isinstance(video_processor, dict):
        video_processor = FilaVideoProcessor(**video_processor)
    processor.video_processor = video_processor
    processor.video_token = getattr(tokenizer, "video_token", None) or video_token or "<video>"
    if tokenizer is not None:
        processor.video_token_id = added_token_id(tokenizer, processor.video_token, "video")


def change(processor: "FilaProcessor", changes: dict[str, Any], is_named: bool) -> set[str]:
    """Change settings of the video processor.

    Args:
        processor: The `FilaProcessor`.
        changes: New values of settings.
        is_named: Whether the whole video processor was named in the call.

    Returns:
        The names, in the processor's `preprocessing`, of the settings that the call named.
    """
    if changes:
        videos = processor.video_processor
        processor.video_processor = type(videos)(**{**videos.to_dict(), **changes})
    names = processor.video_processor.preprocessing() if is_named else changes
    return {f"video_{name}" for name in names}


def check(processor: "FilaProcessor", videos: VideoInput | None, prompts: list[str] | None) -> None:
    """Check that the prompts have as many video tokens as there are videos.

    Raises:
        ValueError: If they differ; the message names the sample and both counts.
    """
    if prompts is None:
        return
    in_text = [prompt.count(str(processor.video_token)) for prompt in prompts]
    num_videos = 0 if videos is None else len(split_videos(videos))
    rule = f"The number of {processor.video_token} tokens in the prompts should be the same as the number of videos"
    if num_videos != sum(in_text):
        raise ValueError(
            f"{rule} passed: the prompts hold {in_text} (in all {sum(in_text)}), and {num_videos} were passed."
        )
    if (samples := split_samples(videos)) is not None:
        check_samples(f"{rule} passed", in_text, samples, str(processor.video_token), "videos")


def process(processor: "FilaProcessor", videos: VideoInput | None, **kwargs: Any) -> tuple[Any, list[str]]:
    """Return the tensors of the videos of a call, and the placeholders of each video."""
    if isinstance(videos, KeptVideos):
        kwargs["video_metadata"] = videos.metadata
    processed = processor.video_processor(videos, **{**kwargs, "return_metadata": True})
    texts, indices = [], []
    for number, times in enumerate(processed.pop("video_times")):
        frames = _frame_geometries(processor, processed, number)
        pieces = lay_out_video(processor.built_video_layout, processor._layout, frames, times, processor.clip_tokens)
        texts.append(as_text(pieces, str(processor.video_token)))
        indices.append(token_indices(pieces))
    if processor.clip_tokens is None and not processor._layout.is_one_run and indices:
        like = processed["video_tile_grid"]
        processed["video_token_index"] = token_rows(indices, kwargs.get("return_tensors"), like)
    return processed, texts


def count(processor: "FilaProcessor", sizes: Sequence[Sequence[int]]) -> list[int]:
    """Count the placeholders of videos of (frames, height, width); those that are sampled have a frame per second."""
    counts = []
    for num_frames, height, width in sizes:
        # a server asks about one frame before it knows a video; one that is too short is refused when it comes
        chosen = list(range(max(num_frames, (processor.clip_tokens or {}).get("size", 1))))
        if getattr(processor.video_processor, "do_sample_frames", None):  # else a server's frames are all shown
            chosen = sample(processor.video_processor.sampling, Clip(num_frames, fps=1.0))
        plan = processor.video_processor.plan(height, width)
        geometry = processor._geometry_of(plan.tile_grid, plan.view_sizes, plan.image_size)
        pieces = lay_out_video(
            processor.built_video_layout,
            processor._layout,
            [geometry] * len(chosen),
            [float(index) for index in chosen],
            processor.clip_tokens,
        )
        counts.append(as_text(pieces, str(processor.video_token)).count(str(processor.video_token)))
    return counts


def _frame_geometries(processor: "FilaProcessor", processed: BatchFeature, number: int) -> list[Geometry]:
    """Return the geometry of each frame of a video that is not padding."""
    names = {
        "view_boxes": "video_view_boxes",
        "tile_grid": "video_tile_grid",
        "pixel_values": "pixel_values_videos",
    }
    frames = {name: processed[key][number] for name, key in names.items()}
    if "video_patch_grids" in processed:
        frames["patch_grids"] = processed["video_patch_grids"][number]
    used = np.asarray(frames["view_boxes"]).any(axis=(1, 2))
    return [processor._geometry(frames, int(index)) for index in np.flatnonzero(used)]


class VideoInputs:
    """The functions of this file that a processor calls."""

    change = staticmethod(change)
    check = staticmethod(check)
    count = staticmethod(count)
    of_samples = staticmethod(of_samples)
    process = staticmethod(process)
    set_up = staticmethod(set_up)
