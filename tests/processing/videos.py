# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Small encoded videos whose frames tell their number: frame i has the gray level `level(i)`."""

import io
import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image


def level(index: int) -> int:
    return 10 * (index % 25) + 5


def number_of(frame: Any) -> int:
    """Which frame (modulo 25) it is, by its mean level."""
    return round((float(np.asarray(frame)[..., 0].mean()) - 5) / 10)


def video_bytes(
    num_frames: int = 25,
    *,
    rate: int = 10,
    size: tuple[int, int] = (32, 48),
    gop: int = 5,
    times: Sequence[int] | None = None,
    container: str = "mp4",
    codec: str = "mpeg4",
    b_frames: int = 0,
) -> bytes:
    """Encode a video; `times` are in units of 1 / rate and need not be even. The left half is darker by 4 levels."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=rate)
        stream.height, stream.width = size
        stream.bit_rate = 2_000_000
        stream.pix_fmt = "yuv420p" if codec != "gif" else "rgb8"
        if codec == "mpeg4":
            stream.gop_size, stream.max_b_frames = gop, b_frames
        for index in range(num_frames):
            pixels = np.full((*size, 3), level(index), np.uint8)
            pixels[:, : size[1] // 2] -= 4
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = index if times is None else times[index]
            frame.time_base = Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()


def video_of(frames: Sequence[np.ndarray], *, container: str, codec: str, form: str) -> bytes:
    """Encode RGBA frames in a pixel format that has alpha."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], form
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()


def rotated(data: bytes) -> bytes:
    """An MP4 that says that it is shown turned by 90 degrees clockwise, as telephones write it."""
    header = data.index(b"tkhd")
    matrix = header + 8 + (20 if data[header + 4] == 0 else 32) + 16
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    return data[:matrix] + turned + data[matrix + 36 :]


def pictures(num_frames: int, size: tuple[int, int] = (32, 48)) -> list[Image.Image]:
    """The same frames, not encoded."""
    return [Image.new("RGB", size[::-1], (level(index),) * 3) for index in range(num_frames)]
