# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Decode chosen frames of a video, upright, in memory that does not grow with the video's length.

The packets of the file are listed first, without decoding: that gives the number of frames and the time of each, also
where the rate varies. Then only the parts between the key frame before a chosen frame and the frame itself are
decoded, in order, so that no frame is decoded twice.

PyAV decodes (the extra `video`). Formats are a list: ffmpeg also reads playlists, which open further files and
addresses.
"""

import bisect
import importlib
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from .image_decode import MAX_ANIMATION
from .image_pixels import picture_pixels
from .video_error import UnusableVideo
from .video_frame_sampling import Clip

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,apng,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,ivf,mjpeg"
MAX_LISTED_FRAMES = 2_000_000  # 18 hours at 30 frames per second
# Bounds in images at PIL's pixel limit: frames that are held together, and frames that are decoded to get them (1.5
# hours at 1920x1080 and 30 per second). Animations have no key frames and take few bytes for large frames: each is
# decoded in full from the first on, as for an image.
MAX_HELD, MAX_DECODED = 16, 4096
ANIMATIONS = ("gif", "apng")
# FFmpeg's own decoders leave the alpha channel of these out.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
INSTALL = "Install PyAV: pip install av."
BROKEN = "Encode it again, or cut it before the damage."
Progress = Callable[[str, int, int], None]  # what is done, how much of it, of how much


def open_video(source: str | bytes, progress: Progress | None = None) -> "AvVideo":
    """Open an encoded video and list its frames.

    Args:
        source: The path of a file, or its bytes.
        progress: Callback for the progress of listing and decoding.

    Raises:
        UnusableVideo: If it is not a video, is damaged or empty, or its frames are too many or too large.
        ImportError: If PyAV is not installed.
    """
    try:
        return AvVideo(importlib.import_module("av"), source, progress)
    except ImportError as error:
        raise ImportError(f"Decoding a video needs PyAV, which is not installed. {INSTALL}") from error


class AvVideo:
    """A video file opened with PyAV.

    Attributes:
        clip: Number of frames, rate and times.
        size: (height, width) of a displayed frame.
    """

    def __init__(self, av: Any, source: str | bytes, progress: Progress | None = None) -> None:
        self._av = av
        self._progress = progress or (lambda what, done, of: None)
        self._file: BinaryIO = open(source, "rb") if isinstance(source, str) else io.BytesIO(source)  # noqa: SIM115
        self._container = self._opened()
        try:
            self._start()
            check_frame_size(*self.size)
            self._list_frames()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "AvVideo":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._file.close()

    def _start(self) -> None:
        """Choose the stream and its decoder."""
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._decoder = self._stream.codec_context
        name = self._decoder.name
        if self._stream.metadata.get("alpha_mode") == "1" and name in ALPHA_DECODERS:
            try:
                self._decoder = self._av.CodecContext.create(ALPHA_DECODERS[name], "r")
            except (self._av.FFmpegError, ValueError) as error:
                reason = f"has an alpha channel, which needs the decoder {ALPHA_DECODERS[name]!r} of FFmpeg"
                raise UnusableVideo(
                    reason, "Install a build of PyAV that has it, or encode it without alpha."
                ) from error

    def _opened(self) -> Any:
        try:
            container = self._av.open(self._file, options={"format_whitelist": FORMATS})
        except (self._av.FFmpegError, ValueError, OSError) as error:
            self._file.close()
            raise UnusableVideo(
                f"is no video that can be read ({_told(error)})", "Pass an MP4, WebM, Matroska, AVI or GIF file."
            ) from error
        if not container.streams.video:
            container.close()
            self._file.close()
            raise UnusableVideo("has no picture stream", "Pass a file with pictures; sound alone is not read.")
        return container

    def _list_frames(self) -> None:
        """List the times of all frames and of the key frames from the packets."""
        size = self._container.size or 0
        times, keys = [], []
        try:
            for packet in self._container.demux(self._stream):
                if not packet.size or packet.is_discard:
                    continue
                times.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
                if len(times) > MAX_LISTED_FRAMES:
                    raise UnusableVideo(f"has more than {MAX_LISTED_FRAMES} frames", "Cut it into parts.")
                if len(times) % 5000 == 0:
                    self._progress("listing", packet.pos or 0, size)
        except self._av.FFmpegError as error:
            if not times:
                raise UnusableVideo(f"cannot be read ({_told(error)})", BROKEN) from error
        if not times:
            raise UnusableVideo("has no frames", "Pass a file that holds at least one frame.")
        if any(time is None for time in times) or len(set(times)) < len(times):
            times, keys = self._decoded_times(), []
        self._times: list[int] = sorted(times)
        self._keys: list[int] = sorted(keys)
        base = float(self._stream.time_base)
        first = self._times[0]
        seconds = [(time - first) * base for time in self._times]
        rate = self._stream.average_rate or self._stream.guessed_rate
        if rate is None and len(seconds) > 1 and seconds[-1] > 0:
            rate = (len(seconds) - 1) / seconds[-1]
        self.clip = Clip(len(seconds), None if rate is None else float(rate), seconds)

    def _decoded_times(self) -> list[int]:
        """Return the times of all frames by decoding, for packets without times."""
        times: list[int] = []
        for frame in self._from(-1, 0):
            times.append(frame.pts)
            if len(times) > MAX_LISTED_FRAMES:
                raise UnusableVideo(f"has more than {MAX_LISTED_FRAMES} frames", "Cut it into parts.")
            if len(times) % 500 == 0:
                self._progress("counting", len(times), 0)
        if not times:
            raise UnusableVideo("cannot be decoded", BROKEN)
        return times

    def frames(self, indices: Sequence[int]) -> list[Image.Image]:
        """Return the frames with these numbers, upright, in this order; a repeated number returns the same picture.

        Raises:
            UnusableVideo: If one of them cannot be decoded.
        """
        wanted = sorted(set(indices))
        self._check_work(wanted)
        found = dict(zip(wanted, self._in_order(wanted), strict=False))
        if missing := [index for index in wanted if index not in found]:
            raise UnusableVideo(f"is damaged: frame {missing[0]} of {self.clip.num_frames} cannot be decoded", BROKEN)
        return [found[index] for index in indices]

    def _check_work(self, wanted: list[int]) -> None:
        """Reject frames that are too many to hold, or that need too many decoded frames before them."""
        is_animation = self._container.format.name in ANIMATIONS
        decoded, before = 0, -1
        for index in wanted:
            key = bisect.bisect_right(self._keys, self._times[index]) - 1
            start = 0 if key < 0 or is_animation else bisect.bisect_left(self._times, self._keys[key])
            decoded += index - max(start - 1, before)
            before = index
        check_work(len(wanted), "held", self.size, MAX_HELD)
        check_work(decoded, "decoded", self.size, MAX_ANIMATION if is_animation else MAX_DECODED)

    def _in_order(self, wanted: list[int]) -> Iterator[Image.Image]:
        """Yield frames by number; stop early if a frame cannot be decoded."""
        decoded: Iterator[Any] = iter(())
        held: Any = None
        for done, index in enumerate(wanted, start=1):
            target = self._times[index]
            key = bisect.bisect_right(self._keys, target) - 1
            if held is None or (key >= 0 and self._keys[key] > held.pts):
                decoded = self._from(key, target)
                held = next(decoded, None)
            while held is not None and held.pts < target:
                held = next(decoded, None)
            if held is None:
                return
            self._progress("decoding", done, len(wanted))
            yield upright(held)

    def _from(self, key: int, target: int) -> Iterator[Any]:
        """Decode from a key frame on; some formats seek past it, so earlier ones are tried, at last the start."""
        for back in (0, 1, 4, 16):
            if key - back <= 0:
                break
            self._container.seek(self._keys[key - back], stream=self._stream)
            decoded = self._decoded()
            first = next(decoded, None)
            if first is not None and first.pts <= target:
                return itertools.chain([first], decoded)
        self._container.close()
        self._file.seek(0)
        self._container = self._opened()
        self._start()
        return self._decoded()

    def _decoded(self) -> Iterator[Any]:
        """Yield the frames from here on, each with a time."""
        last: int | None = None
        try:
            self._decoder.flush_buffers()
            packets = self._container.demux(self._stream)
            for frame in itertools.chain.from_iterable(self._decoder.decode(packet) for packet in packets):
                following = 0 if last is None else last + 1
                if frame.pts is None or (last is not None and frame.pts <= last):
                    frame.pts = following
                last = frame.pts
                yield frame
        except self._av.FFmpegError:
            return  # the error then names the missing frames

    @property
    def size(self) -> tuple[int, int]:
        """Return (height, width) of the stream."""
        codec = self._stream.codec_context
        return codec.height, codec.width


def upright(frame: Any) -> Image.Image:
    """Convert a decoded frame of PyAV to RGB on white, rotated as the file requests."""
    check_frame_size(frame.height, frame.width)
    has_alpha = any(component.is_alpha for component in frame.format.components) or frame.format.has_palette
    pixels = frame.to_ndarray(format="rgba" if has_alpha else "rgb24")
    if has_alpha:
        pixels = picture_pixels(Image.fromarray(pixels), to_rgb=True).transpose(1, 2, 0)
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels, turns)))


def check_frame_size(height: int, width: int) -> None:
    """Reject frames above PIL's pixel limit, or without pixels, with an `UnusableVideo`."""
    if not height or not width:
        raise UnusableVideo("has frames of no size", BROKEN)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and height * width > limit:
        raise UnusableVideo(f"has frames of {height}x{width} pixels, more than {limit}", "Encode it smaller.")


def check_work(count: int, what: str, size: tuple[int, int], most: int) -> None:
    """Reject frames that together exceed `most` times PIL's pixel limit, with an `UnusableVideo`."""
    (height, width), limit = size, Image.MAX_IMAGE_PIXELS
    if limit is not None and count * height * width > most * limit:
        reason = (
            f"has {count} frames of {height}x{width} pixels to be {what}, more than {most} times the {limit} pixels"
        )
        raise UnusableVideo(f"{reason} that PIL allows", "Sample fewer frames, or encode it smaller.")


def _told(error: BaseException) -> str:
    """Return the first line of a library's message, without the file's path."""
    lines = str(getattr(error, "strerror", None) or error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:120]
