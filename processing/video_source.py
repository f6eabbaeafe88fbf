# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Turn users' input into the chosen frames of each video.

Accepted: a path, an address on an allowed host or bytes of an encoded video; a folder of pictures, 3 per second as in
VideoLLaMA 2; an array or tensor (F, H, W, C) or (F, C, H, W); a list of frames, each anything that is an image.

Frames that are passed one by one were chosen before, so all are used unless a call requests sampling. If their
metadata has equally many `frames_indices`, these are their numbers in the original video.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from PIL import Image

from .image_error import ImageInputError, UnusableImage
from .image_input import load_images
from .image_pixels import as_levels, is_array, is_float
from .image_source import download, is_address, kind_of, read_file_object
from .video_decode import Progress, open_video
from .video_error import UnusableVideo, VideoInputError
from .video_frame_sampling import Clip

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FOLDER_FPS = 3.0
Choose = Callable[[Clip, bool], list[int]]  # frames of a clip; whether these were chosen before


@dataclass(frozen=True)
class Frames:
    """The chosen frames of a video.

    Attributes:
        frames: Images, in order.
        indices: Their numbers in the video.
        clip: The video.
    """

    frames: list[Any]
    indices: list[int]
    clip: Clip

    @property
    def times(self) -> list[float] | None:
        """Return the seconds at which the frames are shown, or None if unknown."""
        if self.clip.times is None and self.clip.fps is None:
            return None
        seconds = self.clip.seconds()
        return [seconds[index] for index in self.indices]


def is_frame(item: object) -> bool:
    """Return whether an item is one decoded image."""
    return isinstance(item, Image.Image) or (is_array(item) and item.ndim <= 3)


def split_videos(videos: object) -> list[Any]:
    """Return one entry per video, from a single video, a list, or a list per sample.

    A list of decoded images is one video; a list of paths is one video per path, but a video of frames where it lies
    two lists deep, as chat templates give it.
    """
    if is_array(videos) and videos.ndim == 5:
        return list(videos)
    return _split(videos, 0)


def _split(item: object, depth: int) -> list[Any]:
    if not isinstance(item, list | tuple):
        return [[item]] if is_frame(item) else [item]
    if item and all(is_frame(entry) for entry in item):
        return [list(item)]
    if depth == 2:
        return [list(item)]
    return [video for entry in item for video in _split(entry, depth + 1)]


def split_samples(videos: object) -> list[list[Any]] | None:
    """Return the videos of each sample if they are given as a list per sample; else None."""
    if not isinstance(videos, list | tuple) or not videos:
        return None
    if any(not isinstance(item, list | tuple) or (item and all(map(is_frame, item))) for item in videos):
        return None
    return [_split(item, 1) for item in videos]


class KeptVideos(list[list[Any]]):
    """The videos of some samples, a list per sample.

    Attributes:
        metadata: The call's metadata of these videos, one entry each; None if it has none.
    """

    metadata: list[Any] | None = None


def of_samples(
    videos: object, counts: Sequence[int], kept: Sequence[int], metadata: object = None
) -> KeptVideos | None:
    """Select the videos of some samples; None if they have none.

    Args:
        videos: The videos of all samples.
        counts: Videos of each sample.
        kept: Numbers of the samples.
        metadata: Metadata of all videos.
    """
    sources = split_videos(videos)
    left = iter(zip(sources, _entries(metadata, len(sources)), strict=True))
    samples = [[next(left) for _ in range(count)] for count in counts]
    chosen = KeptVideos([source for source, _ in samples[sample]] for sample in kept)
    if metadata is not None:
        chosen.metadata = [entry for sample in kept for _, entry in samples[sample]]
    return chosen if any(chosen) else None


def _entries(metadata: object, num_videos: int) -> list[Any]:
    """Return the metadata of each video, from one entry, a list, or a list per sample; None for videos without."""
    if metadata is None:
        return [None] * num_videos
    items = metadata if isinstance(metadata, Sequence) else [metadata]
    entries = [entry for item in items for entry in (item if isinstance(item, Sequence) else [item])]
    if len(entries) != num_videos:
        raise ValueError(f"There are {len(entries)} entries of `video_metadata` for {num_videos} videos.")
    return entries


def load_videos(
    videos: object, choose: Choose, *, metadata: object = None, progress: Progress | None = None
) -> list[Frames]:
    """Load the chosen frames of every video.

    Args:
        videos: The videos.
        choose: Function that chooses the frames of a clip.
        metadata: Of each video, `VideoMetadata` or a dict with its names; it counts where frames are handed in.
        progress: Callback for the progress of long files.

    Raises:
        VideoInputError: For the first video that cannot be used.
    """
    sources = split_videos(videos)
    loaded = []
    for number, (source, known) in enumerate(zip(sources, _entries(metadata, len(sources)), strict=True)):
        try:
            loaded.append(_load(source, choose, known or {}, progress))
        except UnusableVideo as error:
            raise VideoInputError(number, error.reason, error.fix) from error
        except UnusableImage as error:
            raise VideoInputError(number, error.reason, error.fix) from error
        except ImageInputError as error:
            raise VideoInputError(
                number, f"has a frame, number {error.image}, that {error.reason}", error.fix
            ) from error
        except OSError as error:
            raise VideoInputError(number, f"cannot be read ({error})", "Check the file's permissions.") from error
    return loaded


def _load(source: object, choose: Choose, known: Mapping[str, Any], progress: Progress | None) -> Frames:
    is_folder = isinstance(source, str | os.PathLike) and os.path.isdir(source)
    frames = _pictures(os.fsdecode(cast(str, source))) if is_folder else _given_frames(source)
    if frames is not None:
        if not len(frames):
            raise UnusableVideo("has no frames", "Pass at least one frame.")
        rate = known.get("fps")
        rate = (FOLDER_FPS if is_folder else None) if rate is None else float(rate)
        clip, part, numbers = _taken_from(len(frames), rate, known)
        chosen = choose(part, not is_folder)
        images = _on_one_scale(load_images([frames[index] for index in chosen]))
        return Frames(images, [numbers[index] for index in chosen], clip)
    with open_video(_encoded(source), progress) as video:
        indices = choose(video.clip, False)
        return Frames(video.frames(indices), indices, video.clip)


def _on_one_scale(frames: list[Any]) -> list[Any]:
    """Keep dark frames from being read as fractions if the floats of another frame exceed 1."""
    largest = [float(frame.max()) if is_array(frame) and is_float(frame) else None for frame in frames]
    if not any(level is not None and level > 1 for level in largest):
        return frames
    dark = [level is not None and level <= 1 for level in largest]
    return [as_levels(frame) if is_dark else frame for frame, is_dark in zip(frames, dark, strict=True)]


def _taken_from(num_frames: int, rate: float | None, known: Mapping[str, Any]) -> tuple[Clip, Clip, Sequence[int]]:
    """Return the video of given frames, the clip that the frames form, and their numbers in the video."""
    numbers = known.get("frames_indices")
    if numbers is None or len(numbers) != num_frames:
        clip = Clip(num_frames, rate)
        return clip, clip, range(num_frames)
    numbers = [int(number) for number in numbers]
    total = max(int(known.get("total_num_frames") or 0), max(numbers) + 1)
    clip = Clip(total, rate)
    if rate is None or not rate > 0:
        return clip, Clip(num_frames, rate), numbers
    return clip, Clip(num_frames, rate * num_frames / total, [number / rate for number in numbers]), numbers


def _given_frames(source: object) -> Any:
    """Return the frames of a video that is given as frames; None for an encoded one."""
    if isinstance(source, list | tuple):
        return source
    if is_array(source):
        if source.ndim != 4:
            raise UnusableVideo(
                f"is an array of shape {tuple(source.shape)}", "Pass four axes: frames, then the axes of an image."
            )
        return source
    return None


def _pictures(folder: str) -> list[str]:
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith(PICTURES))
    return [os.path.join(folder, name) for name in names]


def _encoded(source: object) -> str | bytes:
    """Return the path or the bytes of an encoded video."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if callable(getattr(source, "read", None)):
        return read_file_object(source, sys.maxsize)
    if not isinstance(source, str | os.PathLike):
        raise UnusableVideo(kind_of(source), "Pass a path, bytes, an array, or a list of frames.")
    if isinstance(source, str) and is_address(source):
        return download(source)
    name = os.fsdecode(source)
    if not os.path.isfile(name):
        raise UnusableVideo(f"{name[:120]!r} is no file", "Pass the path of a video, or of a folder of pictures.")
    return name
