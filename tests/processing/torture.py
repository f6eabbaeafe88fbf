# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The torture set: inputs made here, each with the exact pixels or the refusal that must come of it.

`python -m tests.processing.torture FOLDER` loads every input and prints one JSON line for each: what came, seconds
of work, and the peak of memory above that before it. `benchmarks/robustness.py` gives the same inputs to the image
processors of transformers.
"""

import base64
import ctypes
import io
import json
import os
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms

from fila.processing.image_input import ImageInputError, load_images, to_channels_first
from fila.processing.video_error import VideoInputError
from fila.processing.video_source import load_videos
from tests.processing.videos import video_of

PR_SET_THP_DISABLE = 41
CAP = 4_000_000  # pixels; the limit is set to this while the set runs, so that bombs are cheap to make
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (29, 41, 3), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(40) * 3, np.arange(56) * 2)[..., None].repeat(3, 2).astype(np.uint8)
RGB = Image.fromarray(PIXELS)
GRAY = PIXELS[..., 0]


@dataclass(frozen=True)
class Input:
    """One input.

    Attributes:
        group: What it is about.
        name: What it is.
        source: What is handed in; a function of the folder makes a file there and returns its path.
        expected: The `(H, W, 3)` uint8 pixels that must come, or a part of the refusal that must.
        local: Whether only our loader gets it, because others would use the network or mean something else by it.
    """

    group: str
    name: str
    source: Any
    expected: np.ndarray | str
    local: bool = False


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """An image as a file's bytes."""
    buffer = io.BytesIO()
    image.copy().save(buffer, form, **options)  # saving leaves an encoder's settings behind
    return buffer.getvalue()


def reference(data: bytes) -> np.ndarray:
    """What PIL decodes, for lossy formats."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def rgb(gray: np.ndarray) -> np.ndarray:
    """Gray levels as RGB."""
    return np.stack([gray.astype(np.uint8)] * 3, axis=-1)


def file(name: str, data: bytes, kind: type = str) -> Callable[[Path], Any]:
    """A source that is the path of a file with these bytes."""

    def make(folder: Path) -> Any:
        (folder / name).write_bytes(data)
        return kind(folder / name)

    return make


def chunk(kind: bytes, data: bytes) -> bytes:
    """A block of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *, depth: int = 8, color: int = 2, extra: bytes = b"") -> bytes:
    """A PNG out of filtered rows, whatever its header says."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def filtered(rows: np.ndarray) -> bytes:
    """Rows of a PNG, each after the byte that says "not filtered"."""
    flat = rows.reshape(len(rows), -1)
    return np.concatenate([np.zeros((len(flat), 1), np.uint8), flat.view(np.uint8)], axis=1).tobytes()


def tiff(entries: dict[int, tuple[int, ...]], data: bytes) -> bytes:
    """A TIFF of one directory, {tag: (type, value)} or {tag: (type, number, place)}, with the image data at byte 8."""
    start = 8 + len(data)
    several = {tag: entry if len(entry) == 3 else (entry[0], 1, entry[1]) for tag, entry in entries.items()}
    rows = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(several.items()))
    return b"II*\0" + struct.pack("<I", start) + data + struct.pack("<H", len(entries)) + rows + bytes(4)


def gray_tiff(data: bytes, bits: int, meaning: int, **changes: tuple[int, ...]) -> bytes:
    """A TIFF of 28x40 gray levels; `meaning` 0 is "0 is white", and `tag_270=...` adds or changes a tag."""
    tags = {256: (4, 40), 257: (4, 28), 258: (3, bits), 259: (3, 1), 262: (3, meaning), 273: (4, 8), 277: (3, 1)}
    own = {int(name.removeprefix("tag_")): entry for name, entry in changes.items()}
    return tiff({**tags, 278: (4, 28), 279: (4, len(data)), **own}, data)


def interlaced(pixels: np.ndarray, passes: int) -> bytes:
    """A PNG of RGB pixels with the first passes of its seven."""
    places = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [pixels[y::down, x::right].copy() for y, x, down, right in places[:passes]]
    rows = b"".join(filtered(part) for part in parts if part.size)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def dots(side: int, count: int) -> bytes:
    """A GIF of many frames, each a dot of one pixel on a canvas that may be large."""
    frame = b"\x21\xf9\4\4\1\0\0\0" + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(3) + b"\xff" * 3 + frame * count + b";"


def with_height(jpeg: bytes, marker: bytes, height: int) -> bytes:
    """A JPEG whose header says another height."""
    place = jpeg.index(marker) + 5
    return jpeg[:place] + struct.pack(">H", height) + jpeg[place + 2 :]


def icon(side: int, inner: bytes) -> bytes:
    """An ICO whose directory says `side` pixels, whatever the file inside it says."""
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", side, side, 0, 0, 1, 32, len(inner), 22) + inner


def frames(form: str, **options: Any) -> bytes:
    """Two frames: black, then `RGB`."""
    return encoded(Image.new("RGB", RGB.size), form, save_all=True, append_images=[RGB.copy()], **options)


def chosen(form: str, data: bytes, frame: int) -> Callable[[Path], str]:
    """A source that is the path of a file and a frame of it."""
    return lambda folder: f"{file(f'two.{form.lower()}', data)(folder)}#frame={frame}"


def geometry() -> Iterator[Input]:
    """Sizes at the edges of everything."""
    sizes = [(1, 1), (1, 2), (2, 1), (3, 3), (4, 4), (1, 200), (1, 201), (201, 1), (1, 2000), (2000, 1), (20, 10_000)]
    sizes += [(10_000, 1), (1, 10_000), (97, 53), (335, 336), (336, 336), (337, 336), (671, 673), (672, 1008)]
    for height, width in sizes:
        pixels = np.add.outer(np.arange(height), np.arange(width))[..., None].repeat(3, 2).astype(np.uint8)
        yield Input("geometry", f"{height}x{width} PIL", Image.fromarray(pixels), pixels)
    long = np.arange(65_535).astype(np.uint8)[None]
    yield Input("geometry", "1x65535 PNG", encoded(Image.fromarray(long)), rgb(long))
    for height, width in [(3, 3), (4, 4), (1, 4), (4, 3), (1, 1)]:
        array = np.zeros((height, width, 3), np.uint8)
        refused = "has either end for a channel axis"
        yield Input("geometry", f"{height}x{width}x3 array", array, refused if height in (1, 3, 4) else rgb(array))


def bombs() -> Iterator[Input]:
    """Small files that say they are large, or are large and say they are small."""
    large, side = "has more than the", 2 * int(CAP**0.5)
    rows = bytes(200)
    yield Input("bomb", "30000x30000 in a header", png(30_000, 30_000, rows), large)
    one_bit = png(13_000, 13_000, bytes((13_000 // 8 + 1) * 13_000), depth=1, color=0)
    yield Input("bomb", "13000x13000 PNG of 1 bit", one_bit, large)
    yield Input("bomb", "base64 of it", base64.b64encode(one_bit).decode(), large)
    over, edge = int(CAP**0.5) + 1, int(CAP**0.5)
    flat = png(over, over, bytes((over * 3 + 1) * over))
    yield Input("bomb", "just over the limit", flat, large, local=True)
    flat = png(edge, edge, bytes((edge * 3 + 1) * edge))
    yield Input("bomb", "at the limit, RGB", flat, np.zeros((edge, edge, 3), np.uint8), local=True)
    flat = png(edge, edge, bytes((edge * 4 + 1) * edge), color=6)
    yield Input("bomb", "at the limit, RGBA", flat, np.full((edge, edge, 3), 255, np.uint8), local=True)
    yield Input(
        "bomb", "at the limit, floats", np.zeros((edge, edge, 3)), np.zeros((edge, edge, 3), np.uint8), local=True
    )
    half, black = int((CAP / 2) ** 0.5), Image.new("RGB", (edge, edge))
    small = black.resize((half, half))
    for form, options in [("JPEG", {}), ("TIFF", {"compression": "tiff_deflate"})]:
        data = encoded(black, form, **options)
        yield Input("bomb", f"at the limit, {form}", data, reference(data), local=True)
    for form, options in [("WEBP", {"lossless": True}), ("JPEG2000", {}), ("AVIF", {"speed": 10})]:
        pixels = np.zeros((half, half, 3), np.uint8)
        yield Input("bomb", f"at the limit, {form}", encoded(small, form, **options), pixels, local=True)
        yield Input("bomb", f"over half the limit, {form}", encoded(black, form, **options), large, local=True)
    inner = png(side, side, bytes((side * 3 + 1) * side))
    yield Input("bomb", "ICO of 16 pixels with a large PNG inside", icon(16, inner), large, local=True)
    inner = png(13_000, 13_000, bytes((13_000 // 8 + 1) * 13_000), depth=1, color=0)
    yield Input("bomb", "ICO of 16 pixels with a huge PNG inside", icon(16, inner), "")
    gif = bytearray(encoded(Image.new("P", (8, 8)), "GIF"))
    start = gif.index(b",", 13)
    gif[start + 5 : start + 9] = struct.pack("<HH", 60_000, 60_000)
    yield Input("bomb", "GIF of 8 pixels with a huge frame", bytes(gif), "")
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield Input("bomb", "GIF of a huge screen", bytes(gif), "")
    tags = {256: (4, 16), 257: (4, 16), 258: (3, 8), 259: (3, 8), 262: (3, 1), 277: (3, 1)}
    data = zlib.compress(bytes(side * side))
    tiled = tags | {322: (4, side), 323: (4, side), 324: (4, 8), 325: (4, len(data))}
    yield Input("bomb", "TIFF of 16 pixels with a large tile", tiff(tiled, data), large, local=True)
    strip = tags | {256: (4, 60_000), 257: (4, 60_000), 273: (4, 8), 278: (4, 60_000), 279: (4, len(data))}
    yield Input("bomb", "TIFF of 60000x60000", tiff(strip, data), large)
    data = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 50_000, -50_000, 1, 24, 0, 0, 0, 0, 0, 0)
    yield Input("bomb", "BMP of 50000x50000", data + bytes(100), large)
    yield Input("bomb", "PPM of 60000x60000", b"P6 60000 60000 255\n" + bytes(100), large)
    yield Input("bomb", "PPM of 1900x1900, no body", b"P6 1900 1900 255\n", "cannot be decoded")
    jp2 = bytearray(encoded(Image.fromarray(SMOOTH), "JPEG2000", num_resolutions=1))
    start = jp2.index(b"\xff\x51") + 6
    jp2[start : start + 8] = struct.pack(">II", 60_000, 60_000)
    yield Input("bomb", "JPEG 2000 with a small header and a huge stream", bytes(jp2), "")
    webp = bytearray(encoded(RGB, "WEBP", lossless=True, exif=Image.Exif().tobytes()))
    start = webp.index(b"VP8X") + 12
    webp[start : start + 6] = (16_000).to_bytes(3, "little") * 2
    yield Input("bomb", "WebP whose canvas is larger than its frame", bytes(webp), "")
    yield Input("bomb", "array that is one number", np.broadcast_to(np.uint8(7), (10**5, 10**5, 3)), large)
    yield Input("bomb", "tensor that is one number", torch.tensor(0.5).expand(3, 10**5, 10**5), large)
    picture = encoded(RGB)
    texts = chunk(b"tEXt", b"a\0b") * 10**6
    yield Input("bomb", "PNG of a million text blocks", picture[:33] + texts + picture[33:], "more than 65536 blocks")
    jpeg = encoded(RGB, "JPEG")
    yield Input(
        "bomb", "JPEG of a million comments", jpeg[:2] + b"\xff\xfe\0\2" * 10**6 + jpeg[2:], "more than 65536 blocks"
    )
    yield Input("bomb", "JPEG of 10 MB of fill bytes", jpeg[:2] + b"\xff" * 10**7 + jpeg[2:], "more than 65536 blocks")
    progressive = encoded(Image.fromarray(np.zeros((1900, 1900), np.uint8)), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    scans = progressive[:-2] + progressive[last:-2] * 2000 + b"\xff\xd9"
    yield Input("bomb", "JPEG of 2000 passes", scans, "more than 30 passes")
    scans = progressive[:-2] + progressive[last:-2] * 100 + b"\xff\xd9"
    yield Input("bomb", "JPEG of 100 passes", scans, "more than 30 passes")
    scans = progressive[:-2] + progressive[last:-2] * 20 + b"\xff\xd9"
    yield Input("bomb", "JPEG of 26 passes", scans, np.zeros((1900, 1900, 3), np.uint8))
    many = dots(8, 30_000)
    yield Input(
        "bomb", "GIF of 30000 frames, #frame=29999", chosen("GIF", many, 29_999), "2000 is the last", local=True
    )
    yield Input(
        "bomb", "GIF of 30000 frames, #frame=2000", chosen("GIF", many, 2000), rgb(np.zeros((8, 8))), local=True
    )
    many = dots(1900, 3000)
    yield Input(
        "bomb", "GIF of 1900x1900x3000, #frame=1999", chosen("GIF", many, 1999), "more than 8 times", local=True
    )
    yield Input(
        "bomb",
        "GIF of 1500x1500x3000, #frame=8",
        chosen("GIF", dots(1500, 3000), 8),
        rgb(np.zeros((1500, 1500))),
        local=True,
    )
    entry = struct.pack("<HHII", 270, 2, 1, 0)
    looped = b"II*\0" + struct.pack("<IH", 8, 65_535) + entry * 65_535 + struct.pack("<I", 8)
    yield Input(
        "bomb", "TIFF of 65535 entries, again and again", chosen("TIFF", looped, 1999), "65536 entries", local=True
    )
    comment = b"\x21\xfe" + (b"\xff" + b"x" * 255) * 20_000 + b"\0"
    still = encoded(Image.fromarray(np.full((8, 8), 7, np.uint8)), "GIF")
    start = still.index(b",", 13)
    yield Input("bomb", "GIF of 5 MB of comment", still[:start] + comment + still[start:], np.full((8, 8, 3), 7))
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))
    yield Input("bomb", "PNG with a text of 50 MB, compressed", picture[:33] + text + picture[33:], "too large")
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000)))
    yield Input("bomb", "PNG with a profile of 50 MB, compressed", picture[:33] + profile + picture[33:], "too large")


def modes() -> Iterator[Input]:
    """PIL modes and what transparency, palettes and depths become."""
    gray, ramp = Image.fromarray(GRAY), np.arange(256, dtype=np.uint8).reshape(16, 16)
    yield Input("mode", "1", Image.fromarray(GRAY > 99), rgb((GRAY > 99) * 255))
    yield Input("mode", "L", gray, rgb(GRAY))
    yield Input("mode", "RGB", RGB, PIXELS)
    yield Input("mode", "RGBX", RGB.convert("RGBX"), PIXELS)
    alpha = RNG.integers(0, 256, GRAY.shape, dtype=np.uint8)
    wide = alpha[..., None].astype(int)
    white = ((2 * (PIXELS * wide + 255 * (255 - wide)) + 255) // 510).astype(np.uint8)
    rgba = Image.fromarray(np.dstack([PIXELS, alpha]))
    yield Input("mode", "RGBA", rgba, white)
    yield Input(
        "mode", "LA", Image.merge("LA", [Image.fromarray(PIXELS[..., 1]), rgba.getchannel("A")]), rgb(white[..., 1])
    )
    full = np.where(wide > 127, PIXELS, 255).astype(np.uint8)
    hard = Image.fromarray(np.dstack([PIXELS, np.where(alpha > 127, 255, 0).astype(np.uint8)]))
    yield Input("mode", "RGBa", hard.convert("RGBa"), full)
    yield Input("mode", "La", hard.convert("LA").convert("La"), np.asarray(Image.fromarray(rgb(np.where(
        alpha > 127, np.asarray(RGB.convert("L")), 255)))))  # fmt: skip
    clear = np.zeros((9, 7, 4), np.uint8)
    clear[3:6, 2:5, 3] = 255
    text = np.full((9, 7, 3), 255, np.uint8)
    text[3:6, 2:5] = 0
    yield Input("mode", "black text on transparent", Image.fromarray(clear), text)
    yield Input(
        "mode",
        "white text on transparent",
        Image.fromarray(np.maximum(clear, [255, 255, 255, 0]).astype(np.uint8)),
        np.full((9, 7, 3), 255, np.uint8),
    )
    yield Input("mode", "black text on transparent, PNG", encoded(Image.fromarray(clear)), text)
    yield Input(
        "mode", "black text on transparent, WebP", encoded(Image.fromarray(clear), "WEBP", lossless=True), text
    )
    palette = Image.fromarray(ramp).convert("P")
    colors = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    palette.putpalette(colors.tobytes())
    yield Input("mode", "P", palette, colors[ramp])
    yield Input("mode", "P, PNG", encoded(palette), colors[ramp])
    key = colors[ramp].copy()
    key[ramp == 5] = 255
    yield Input("mode", "P with a transparent entry, PNG", encoded(palette, transparency=5), key)
    yield Input("mode", "P with a transparent entry, GIF", encoded(palette, "GIF", transparency=5), key)
    table = bytes([0] * 128 + [255] * 128)
    half = np.where((ramp < 128)[..., None], 255, colors[ramp]).astype(np.uint8)
    yield Input("mode", "P with a transparency table, PNG", encoded(palette, transparency=table), half)
    pa = Image.fromarray(np.dstack([colors[ramp], np.where(ramp < 128, 0, 255).astype(np.uint8)])).convert("PA")
    drawn = np.asarray(pa.convert("RGBA"))
    yield Input("mode", "PA", pa, np.where(drawn[..., 3:] > 127, drawn[..., :3], 255).astype(np.uint8))
    few = RGB.quantize(5)
    yield Input("mode", "P of 5 colors, PNG of 4 bits", encoded(few), np.asarray(few.convert("RGB")))
    keyed = np.where((GRAY[0, 0] == GRAY)[..., None], 255, rgb(GRAY)).astype(np.uint8)
    yield Input("mode", "L with a transparent level, PNG", encoded(gray, transparency=int(GRAY[0, 0])), keyed)
    keyed = np.where((PIXELS[0, 0] == PIXELS).all(-1)[..., None], 255, PIXELS).astype(np.uint8)
    yield Input(
        "mode", "RGB with a transparent color, PNG", encoded(RGB, transparency=tuple(map(int, PIXELS[0, 0]))), keyed
    )
    cmyk = Image.fromarray(np.dstack([255 - PIXELS, np.zeros_like(GRAY)]), "CMYK")
    yield Input("mode", "CMYK", cmyk, PIXELS)
    yield Input("mode", "CMYK, TIFF", encoded(cmyk, "TIFF"), PIXELS)
    clear = np.dstack(
        [np.full((8, 9, 3), (200, 10, 30)), np.repeat([[0] * 9, [128] * 9, [255] * 9, [64] * 9], 2, axis=0)]
    )
    clear = clear.astype(np.uint8)
    soft = clear[..., 3:].astype(int)
    drawn = ((2 * (clear[..., :3] * soft + 255 * (255 - soft)) + 255) // 510).astype(np.uint8)
    yield Input("mode", "P with a palette of RGBA", Image.fromarray(clear).quantize(8), drawn)
    yield Input("mode", "P with a palette of RGBA, PNG", encoded(Image.fromarray(clear).quantize(8)), drawn)
    jpeg = encoded(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=95)
    yield Input("mode", "CMYK, JPEG of Adobe", jpeg, reference(jpeg))
    for mode in ("YCbCr", "HSV"):
        other = RGB.convert(mode)
        yield Input("mode", mode, other, np.asarray(other.convert("RGB")))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    other = ImageCms.profileToProfile(RGB, srgb, lab, outputMode="LAB")
    yield Input("mode", "LAB", other, np.asarray(ImageCms.profileToProfile(other, lab, srgb, outputMode="RGB")))
    deep = RNG.integers(0, 65_536, (29, 41), dtype=np.uint16)
    yield Input("mode", "I;16", Image.fromarray(deep), rgb(deep >> 8))
    big = Image.frombytes("I;16B", (41, 29), deep.astype(">u2").tobytes())
    yield Input("mode", "I;16B", big, rgb(deep >> 8))
    yield Input("mode", "16-bit gray PNG", encoded(Image.fromarray(deep)), rgb(deep >> 8))
    yield Input("mode", "16-bit gray TIFF", encoded(Image.fromarray(deep), "TIFF"), rgb(deep >> 8))
    yield Input("mode", "16-bit gray PGM", encoded(Image.fromarray(deep.astype(np.int32)), "PPM"), rgb(deep >> 8))
    color = RNG.integers(0, 65_536, (29, 41, 3), dtype=np.uint16)
    data = png(41, 29, filtered(color.astype(">u2")), depth=16)
    yield Input("mode", "16-bit RGB PNG", data, (color >> 8).astype(np.uint8))
    two = np.dstack([deep, np.full_like(deep, 65_535)])
    yield Input(
        "mode",
        "16-bit gray and alpha PNG",
        png(41, 29, filtered(two.astype(">u2")), depth=16, color=4),
        rgb(deep >> 8),
    )
    transparent = chunk(b"tRNS", struct.pack(">H", int(deep[0, 0])))
    data = png(41, 29, filtered(deep.astype(">u2")[..., None]), depth=16, color=0, extra=transparent)
    yield Input(
        "mode", "16-bit gray PNG with a transparent level", data, rgb(np.where(deep == deep[0, 0], 255, deep >> 8))
    )
    same = color.copy()
    same[3, 5], same[4, 6] = same[0, 0], same[0, 0] ^ 1  # the color, and one that differs in a low byte alone
    transparent = chunk(b"tRNS", struct.pack(">HHH", *map(int, same[0, 0])))
    data = png(41, 29, filtered(same.astype(">u2")), depth=16, extra=transparent)
    keyed = np.where((same == same[0, 0]).all(-1)[..., None], 255, same >> 8).astype(np.uint8)
    yield Input("mode", "16-bit RGB PNG with a transparent color", data, keyed)
    pil = Image.open(io.BytesIO(data))
    yield Input("mode", "16-bit RGB PNG with a transparent color, PIL", pil, "a transparent color of 16")
    for depth in (1, 2, 4):
        levels, each = RNG.integers(0, 2**depth, (16, 16)), 8 // depth
        shifts = 8 - depth * (1 + np.arange(each))
        packed = (levels.reshape(16, -1, each) << shifts).sum(-1).astype(np.uint8)
        transparent = chunk(b"tRNS", struct.pack(">H", 1))
        data = png(16, 16, filtered(packed), depth=depth, color=0, extra=transparent)
        keyed = rgb(np.where(levels == 1, 255, levels * 255 // (2**depth - 1)))
        yield Input("mode", f"{depth}-bit gray PNG with a transparent level", data, keyed)
        yield Input("mode", f"{depth}-bit gray PNG with a transparent level, PIL", Image.open(io.BytesIO(data)), keyed)
    gray16 = deep[:28, :40]
    yield Input("mode", "16-bit TIFF, 0 is white", gray_tiff(gray16.tobytes(), 16, 0), rgb((65_535 - gray16) >> 8))
    yield Input("mode", "16-bit TIFF, 0 is white, PIL", Image.open(io.BytesIO(gray_tiff(gray16.tobytes(), 16, 0))),
                rgb((65_535 - gray16) >> 8))  # fmt: skip
    first, second = gray16[:, ::2] >> 4, gray16[:, 1::2] >> 4
    twelve = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8).tobytes()
    yield Input("mode", "12-bit TIFF", gray_tiff(twelve, 12, 1), rgb(gray16 >> 8))
    yield Input("mode", "12-bit TIFF, 0 is white", gray_tiff(twelve, 12, 0), "no image PIL can open")
    gray8 = GRAY[:28, :40].copy()
    yield Input("mode", "8-bit TIFF, 0 is white", gray_tiff(gray8.tobytes(), 8, 0), rgb(255 - gray8))
    floats = (gray8 / np.float32(255)).astype("<f4").tobytes()
    yield Input("mode", "float TIFF", gray_tiff(floats, 32, 1, tag_339=(3, 3)), rgb(gray8))
    yield Input("mode", "float TIFF, 0 is white", gray_tiff(floats, 32, 0, tag_339=(3, 3)), "the least is white")
    four = np.dstack(
        [np.where(alpha[:28, :40, None] > 127, PIXELS[:28, :40], 0), np.where(alpha > 127, 255, 0)[:28, :40]]
    )
    four = four.astype(np.uint8)
    block = four.tobytes() + struct.pack("<4H", 8, 8, 8, 8)
    changes = {"tag_258": (3, 4, 8 + four.size), "tag_277": (3, 4), "tag_338": (3, 1), "tag_279": (4, four.size)}
    yield Input("mode", "TIFF of premultiplied alpha", gray_tiff(block, 8, 2, **changes),
                np.where(four[..., 3:] == 255, four[..., :3], 255).astype(np.uint8))  # fmt: skip
    changes["tag_338"] = (3, 0)
    yield Input("mode", "TIFF with an extra channel", gray_tiff(block, 8, 2, **changes), four[..., :3].copy())
    yield Input("mode", "I of 16 bits", Image.fromarray(deep.astype(np.int32)), rgb(deep >> 8))
    yield Input("mode", "I beyond 16 bits", Image.fromarray(np.full((5, 7), 70_000, np.int32)), "outside of 16 bits")
    yield Input("mode", "I below 0", Image.fromarray(np.full((5, 7), -1, np.int32)), "outside of 16 bits")
    yield Input("mode", "I;16 of 8-bit values", Image.fromarray(GRAY.astype(np.uint16)), "as 16 bits are black")
    yield Input("mode", "F of fractions", Image.fromarray(GRAY / np.float32(255)), rgb(GRAY))
    yield Input("mode", "F within 0..255", Image.fromarray(GRAY.astype(np.float32)), rgb(GRAY))
    yield Input("mode", "F with NaN", Image.fromarray(np.full((5, 7), np.nan, np.float32)), "NaN or infinite")
    yield Input("mode", "F of high dynamic range", Image.fromarray(GRAY / np.float32(30)), "fractions or dark pixels")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield Input("mode", "with a color profile, PNG", encoded(RGB, icc_profile=profile), PIXELS)
    yield Input("mode", "with a broken color profile, PNG", encoded(RGB, icc_profile=b"nothing"), PIXELS)


def files() -> Iterator[Input]:
    """File formats, whole and damaged, and what is no image."""
    lossless = {"PNG": {}, "BMP": {}, "TIFF": {}, "PPM": {}, "WEBP": {"lossless": True}, "JPEG2000": {}, "ICO": {}}
    for form, options in lossless.items():
        side = Image.fromarray(PIXELS[:16, :16]) if form == "ICO" else RGB
        yield Input("file", form, encoded(side, form, **options), np.asarray(side))
    for name in ("tiff_lzw", "tiff_deflate", "packbits"):
        yield Input("file", f"TIFF, {name}", encoded(RGB, "TIFF", compression=name), PIXELS)
    for name, form, options in [
        ("JPEG", "JPEG", {}), ("progressive JPEG", "JPEG", {"progressive": True}), ("lossy WebP", "WEBP", {}),
        ("AVIF", "AVIF", {}), ("JPEG without subsampling", "JPEG", {"subsampling": 0}),
    ]:  # fmt: skip
        data = encoded(RGB, form, **options)
        yield Input("file", name, data, reference(data))
    jpeg = encoded(RGB, "JPEG")
    yield Input("file", "JPEG with bytes after its end", jpeg + b"PK\3\4 and a zip", reference(jpeg))
    yield Input("file", "PNG with bytes after its end", encoded(RGB) + b"<script>", PIXELS)
    yield Input("file", "PNG called .jpg", file("wrong.jpg", encoded(RGB)), PIXELS)
    yield Input("file", "path", file("a.png", encoded(RGB), Path), PIXELS)

    def link(folder: Path) -> str:
        (folder / "target.png").write_bytes(encoded(RGB))
        (folder / "link.png").symlink_to(folder / "target.png")
        return str(folder / "link.png")

    def pipe(folder: Path) -> str:
        os.mkfifo(folder / "pipe.png")
        return str(folder / "pipe.png")

    yield Input("file", "symbolic link", link, PIXELS)
    yield Input("file", "link to nothing", lambda folder: str(folder / "none.png"), "does not exist")
    yield Input("file", "pipe", pipe, "is no regular file")
    yield Input("file", "device", "/dev/zero", "is no regular file")
    yield Input("file", "directory", lambda folder: str(folder), "is a directory")
    yield Input("file", "path with a zero byte", "a\0b.png", "does not exist")
    yield Input("file", "path of 100000 characters", "a./" * 40_000, "does not exist")
    yield Input("file", "empty", file("empty.png", b""), "has no bytes")
    yield Input("file", "HTML called .jpg", file("page.jpg", b"<!DOCTYPE html><html></html>"), "no image PIL can open")
    yield Input("file", "SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no image PIL can open")
    yield Input("file", "HEIC without its plugin", b"\0\0\0\x18ftypheic" + bytes(99), "no image PIL can open")
    yield Input("file", "PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image PIL can open")
    yield Input("file", "pickle", b"\x80\4K\1.", "no image PIL can open")
    yield Input("file", "random bytes", RNG.bytes(5000), "no image PIL can open")
    whole = {form: encoded(Image.fromarray(SMOOTH), form) for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")}
    whole |= {form: encoded(Image.fromarray(PIXELS), form) for form in ("JPEG2000", "AVIF")}
    whole["progressive JPEG"] = encoded(RGB, "JPEG", progressive=True)
    for form, data in whole.items():
        for part in (10, 50, 99):
            cut = data[: len(data) * part // 100 if part < 99 else min(len(data) * 99 // 100, len(data) - 40)]
            yield Input("file", f"{form} cut at {part} %", cut, "")
    data = encoded(RGB)
    middle = data.index(b"IDAT") + 500
    broken = data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]
    yield Input("file", "PNG with a flipped byte", broken, "cannot be decoded")
    yield Input("file", "PNG with too few rows", png(41, 29, filtered(PIXELS)[:1000]), "cannot be decoded")
    whole_png = filtered(PIXELS)
    for rows in (1, 14, 28):
        cut = png(41, 29, whole_png[: rows * 124])
        yield Input("file", f"PNG with {rows} of 29 rows", cut, f"{rows * 124} of the 3596 bytes")
    black = filtered(np.zeros((29, 41, 3), np.uint8))
    yield Input("file", "PNG with black rows", png(41, 29, black), np.zeros((29, 41, 3), np.uint8))
    yield Input("file", "PNG without its last black row", png(41, 29, black[:-124]), "3472 of the 3596 bytes")
    yield Input("file", "PNG with a row too many", png(41, 28, whole_png), PIXELS[:28])
    yield Input("file", "interlaced PNG", interlaced(PIXELS, 7), PIXELS)
    yield Input("file", "interlaced PNG of one row", interlaced(PIXELS[:1], 6), PIXELS[:1])
    yield Input("file", "interlaced PNG without its last pass", interlaced(PIXELS, 6), "1887 of the 3623 bytes")
    yield Input(
        "file", "PNG of numbers without colors", png(41, 29, filtered(GRAY), color=3), "without the list of them"
    )
    noise = Image.fromarray(RNG.integers(0, 256, (120, 160, 3), dtype=np.uint8))
    for name, options, marker in [
        ("JPEG", {}, b"\xff\xc0"),
        ("gray JPEG", {}, b"\xff\xc0"),
        ("JPEG with restarts", {"restart_marker_rows": 1}, b"\xff\xc0"),
        ("progressive JPEG", {"progressive": True}, b"\xff\xc2"),
        ("progressive JPEG with restarts", {"progressive": True, "restart_marker_rows": 1}, b"\xff\xc2"),
    ]:
        data = encoded(noise.convert("L") if name.startswith("gray") else noise, "JPEG", **options)
        yield Input("file", f"whole {name}", data, reference(data))
        for part in (25, 50):
            yield Input(
                "file", f"{name}, {part} % and a proper end", data[: len(data) * part // 100] + b"\xff\xd9", ""
            )
        if name != "progressive JPEG":
            yield Input("file", f"{name} of twice its height", with_height(data, marker, 240), "")
        if "restarts" in name:
            yield Input("file", f"{name} of half its height", with_height(data, marker, 60), "restart marks")
    data = encoded(noise, "JPEG", restart_marker_rows=1)
    start, end = data.index(b"\xff\xd1"), data.index(b"\xff\xd3")
    yield Input("file", "JPEG without rows in the middle", data[:start] + data[end:], "5 restart marks")
    data = encoded(noise, "JPEG")
    yield Input("file", "JPEG without its last 40 bytes, with its end", data[:-42] + b"\xff\xd9", "cannot be decoded")
    gray8 = GRAY[:28, :40].tobytes()
    yield Input("file", "gray TIFF", gray_tiff(gray8, 8, 1), rgb(GRAY[:28, :40]))
    for tag, entry, reason in [
        (270, (2, 500, 10**6), "tag 270 lies outside"), (282, (5, 1, 10**7), "tag 282 lies outside"),
        (338, (3, 9, 10**7), "tag 338 lies outside"), (256, (4, 2, 8), "2 values of tag 256"),
        (278, (4, 10), "1 of the 3 pieces"),
    ]:  # fmt: skip
        yield Input("file", f"TIFF with a wrong tag {tag}", gray_tiff(gray8, 8, 1, **{f"tag_{tag}": entry}), reason)
    data = gray_tiff(gray8, 8, 1)
    yield Input("file", "TIFF without the end of its directory", data[:-20], "directory lies outside")
    yield Input("file", "PNG of 0x5 pixels", png(0, 5, b"\0"), "")
    gif = encoded(Image.fromarray(GRAY), "GIF")
    start = gif.index(b",", 13)
    short = gif[: start + 10 + 1] + gif[start + 11 : start + 12] + gif[start + 12 : start + 12 + gif[start + 11]]
    yield Input("file", "GIF whose data ends early", short + b"\0;", "")


def frames_and_orientation() -> Iterator[Input]:
    """Several frames, and images that lie on their side."""
    for form, options in [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {}), ("AVIF", {})]:
        data = frames(form, **options)
        yield Input("frames", f"{form} of two frames", data, "of several frames", local=True)
        yield Input("frames", f"{form}, #frame=0", chosen(form, data, 0), np.zeros_like(PIXELS), local=True)
        yield Input("frames", f"{form}, #frame=7", chosen(form, data, 7), "has no frame 7", local=True)
        if form in ("PNG", "WEBP", "TIFF"):
            yield Input("frames", f"{form}, #frame=1", chosen(form, data, 1), PIXELS, local=True)
    left, right = np.zeros((20, 30, 4), np.uint8), np.zeros((20, 30, 4), np.uint8)
    left[:, :10], right[:, 20:] = (255, 0, 0, 255), (0, 255, 0, 255)
    one, other = (np.where(frame[..., 3:] > 0, frame[..., :3], 255).astype(np.uint8) for frame in (left, right))
    for form, options in [("GIF", {"disposal": 2}), ("PNG", {"disposal": 1})]:
        pair = {"save_all": True, "append_images": [Image.fromarray(right)], **options}
        data = encoded(Image.fromarray(left), form, **pair)
        yield Input("frames", f"{form} on transparent, #frame=0", chosen(form, data, 0), one, local=True)
        yield Input("frames", f"{form} on transparent, #frame=1", chosen(form, data, 1), other, local=True)
    pages = [Image.fromarray(right), Image.fromarray(GRAY), Image.fromarray(GRAY > 99), RGB.quantize(9)]
    data = encoded(RGB, "TIFF", save_all=True, append_images=pages)
    drawn = [PIXELS, other, rgb(GRAY), rgb((GRAY > 99) * 255), np.asarray(pages[3].convert("RGB"))]
    for frame, pixels in enumerate(drawn):
        yield Input("frames", f"TIFF of five modes, #frame={frame}", chosen("TIFF", data, frame), pixels, local=True)
    two = Image.open(io.BytesIO(frames("PNG")))
    two.seek(1)
    yield Input("frames", "PIL image that stands at frame 1", two, PIXELS)
    data = encoded(RGB, "MPO", save_all=True, append_images=[RGB.transpose(0)])
    yield Input("frames", "MPO, whose second frame is a preview", data, reference(data))
    stored = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposes that undo each orientation
    for orientation, transpose in stored.items():
        lying = RGB if transpose is None else RGB.transpose(Image.Transpose(transpose))
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(lying, exif=exif)
        yield Input("orientation", f"{orientation}, bytes", data, PIXELS)
        yield Input("orientation", f"{orientation}, path", file(f"o{orientation}.png", data), PIXELS)
        yield Input("orientation", f"{orientation}, PIL", Image.open(io.BytesIO(data)), PIXELS)
    lying = RGB.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    for form, options in [("TIFF", {}), ("WEBP", {"lossless": True})]:
        yield Input("orientation", f"6, {form}", encoded(lying, form, exif=exif, **options), PIXELS)
    jpeg = encoded(RGB, "JPEG")
    ratio = b"Exif\0\0II*\0\x08\0\0\0\1\0\x1a\1\5\0\1\0\0\0\x1a\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0"
    for name, block in [
        ("EXIF with a zero denominator", ratio),
        ("EXIF that is noise", b"Exif\0\0" + RNG.bytes(200)),
        ("EXIF that is cut", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"),
        ("EXIF whose directory is itself", b"Exif\0\0II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\x08\0\0\0"),
        ("orientation 99", b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x63\0\0\0\0\0\0\0"),
        ("XMP that is no UTF-8", b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta \xff\xfe\xfa/>"),
    ]:
        data = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]
        yield Input("orientation", name, data, reference(jpeg))


def arrays() -> Iterator[Input]:
    """Arrays and tensors of every layout and type."""
    first = PIXELS.transpose(2, 0, 1)
    frozen = PIXELS.copy()
    frozen.flags.writeable = False
    ones = {
        "channels last": PIXELS, "channels first": first, "not contiguous": PIXELS.repeat(2, 1)[:, ::2],
        "negative strides": PIXELS[::-1].copy()[::-1], "read-only": frozen, "Fortran order": np.asfortranarray(PIXELS),
        "fractions": PIXELS / 255, "float32 fractions": (PIXELS / 255).astype(np.float32),
        "floats within 0..255": PIXELS.astype(np.float64), "float16 within 0..255": PIXELS.astype(np.float16),
        "big-endian floats": (PIXELS / 255).astype(">f4"), "tensor": torch.from_numpy(PIXELS.copy()),
        "tensor, channels first": torch.from_numpy(first.copy()),
        "tensor with gradient": torch.from_numpy(PIXELS / 255).requires_grad_(),
        "tensor, not contiguous": torch.from_numpy(first).permute(1, 2, 0),
        "uint16": PIXELS.astype(np.uint16) * 257, "big-endian uint16": (PIXELS.astype(np.uint16) * 257).astype(">u2"),
        "uint16 tensor": torch.from_numpy(PIXELS.astype(np.uint16) * 257), "subclass": PIXELS.view(np.recarray),
        "file object": io.BytesIO(encoded(RGB)), "bytearray": bytearray(encoded(RGB)),
        "memoryview": memoryview(encoded(RGB)), "base64": base64.b64encode(encoded(RGB)).decode(),
        "data URI": "data:image/png;base64," + base64.b64encode(encoded(RGB)).decode(),
        "data URI of another type": "data:image/jpeg;base64," + base64.b64encode(encoded(RGB)).decode(),
    }  # fmt: skip
    for name, source in ones.items():
        yield Input("array", name, source, PIXELS)
    yield Input(
        "array",
        "bfloat16 tensor",
        torch.from_numpy(GRAY / 255).round().bfloat16()[None],
        rgb(np.rint(GRAY / 255) * 255),
    )
    yield Input("array", "gray, two axes", GRAY, rgb(GRAY))
    yield Input("array", "gray, a channel", GRAY[..., None], rgb(GRAY))
    yield Input("array", "RGBA", np.dstack([PIXELS, np.full_like(GRAY, 255)]), PIXELS)
    yield Input("array", "whole floats up to 9", (GRAY % 10).astype(np.float64), rgb(GRAY % 10))
    half = PIXELS.astype(np.float64) / 255
    refused: dict[str, tuple[Any, str]] = {
        "NaN": (np.where(half > 0.5, np.nan, half), "NaN or infinite"),
        "infinite": (np.where(half > 0.5, np.inf, half), "NaN or infinite"),
        "minus infinite": (np.where(half > 0.5, -np.inf, half), "NaN or infinite"),
        "NaN tensor": (torch.full((3, 5, 7), torch.nan), "NaN or infinite"),
        "normalised": ((half - 0.5) / 0.25, "has values in"), "fractions up to 1.02": (half * 1.02, "dark pixels"),
        "floats up to 300": (half * 300, "has values in"),
        "uint16 of 8-bit values": (PIXELS.astype(np.uint16), "black"),
        "int64": (PIXELS.astype(np.int64), "dtype int64"), "int64 tensor": (torch.from_numpy(PIXELS).long(), "dtype"),
        "int8": (np.zeros((5, 7, 3), np.int8), "dtype int8"), "bool": (PIXELS > 99, "dtype bool"),
        "complex": (PIXELS.astype(np.complex64), "dtype complex64"), "object": (PIXELS.astype(object), "dtype object"),
        "text": (np.array([[["a"] * 3] * 5] * 7), "dtype <U1"), "two channels": (PIXELS[..., :2], "no axis"),
        "five channels": (np.zeros((7, 9, 5), np.uint8), "no axis"), "no axes": (np.array(3), "has 0 axes"),
        "one axis": (np.arange(9), "has 1 axes"), "five axes": (np.zeros((1, 1, 3, 5, 7)), "has 5 axes"),
        "no rows": (np.zeros((0, 7, 3), np.uint8), "is empty"), "no columns": (np.zeros((7, 0, 3), np.uint8), "empty"),
        "numpy scalar": (np.uint8(3), "is of type uint8"),
        "tensor without data": (torch.zeros(3, 5, 7, device="meta"), "no values to read"),
        "sparse tensor": (torch.zeros(3, 5, 7).to_sparse(), "no values to read"),
        "None": (None, "is None"), "number": (3, "is of type int"), "dict": ({"bytes": b""}, "is of type dict"),
        "text file object": (io.StringIO("a"), "not bytes"), "empty bytes": (b"", "has no bytes"),
        "empty text": ("", "does not exist"), "closed file": (closed(), "cannot be read"),
        "closed PIL image": (closed_image(), "cannot be decoded"),
        "data URI of text": ("data:text/html;base64,YQ==", "no data URI of an image"),
        "data URI without base64": ("data:image/png,abc", "no data URI of an image"),
    }  # fmt: skip
    for name, (source, reason) in refused.items():
        yield Input("array", name, source, reason)


def addresses() -> Iterator[Input]:
    """Addresses that must not be followed, though `*` is allowed."""
    for url in (
        "http://169.254.169.254/latest/meta-data", "http://127.0.0.1:9/a.png", "http://localhost/a.png",
        "http://10.0.0.1/a.png", "http://192.168.1.1/a.png", "http://[::1]/a.png", "http://[::ffff:127.0.0.1]/a.png",
        "http://[64:ff9b::7f00:1]/a.png", "http://[2002:7f00:1::]/a.png", "http://[fd00::1]/a.png", "http://0.0.0.0/",
        "http://2130706433/a.png", "http://0x7f.1/a.png", "http://100.64.0.1/a.png", "https://224.0.0.1/a.png",
    ):  # fmt: skip
        yield Input("address", url, url, "is not a public address", local=True)
    for url in ("file:///etc/passwd", "ftp://example.com/a.png", "gopher://127.0.0.1/", "FILE:///etc/hosts"):
        yield Input("address", url, url, "is no http or https address", local=True)
    yield Input("address", "user name", "http://a@8.8.8.8/a.png", "is no plain http or https address", local=True)
    yield Input("address", "no host", "http:///a.png", "is no plain http or https address", local=True)
    yield Input("address", "line break", "http://8.8.8.8\r\nX: y/", "", local=True)


def videos() -> Iterator[Input]:
    """The last frame of encoded videos: with an alpha channel, and with more frames than bytes would say."""
    clear = np.zeros((32, 48, 4), np.uint8)
    clear[:, :16], clear[:, 16:32] = (200, 30, 60, 255), (0, 0, 0, 128)
    white = np.full((32, 48, 3), 255, np.uint8)
    white[:, :16], white[:, 16:32] = (200, 30, 60), 127
    for codec, form, container in [("qtrle", "argb", "mov"), ("png", "rgba", "mov"), ("apng", "rgba", "apng")]:
        data = video_of([clear, clear], container=container, codec=codec, form=form)
        yield Input("video", f"{codec} with alpha", data, white, local=True)
    hard = [Image.fromarray(np.where(clear[..., 3:] == 255, clear, 0)) for _ in range(2)]
    hard[1].putpixel((40, 3), (1, 2, 3, 255))
    drawn = np.where(np.asarray(hard[1])[..., 3:] > 0, np.asarray(hard[1])[..., :3], 255).astype(np.uint8)
    data = encoded(hard[0], "GIF", save_all=True, append_images=hard[1:], disposal=2)
    yield Input("video", "GIF with a transparent color", data, drawn, local=True)
    yield Input("video", "GIF of 1900x1900x3000", dots(1900, 3000), "more than 8 times", local=True)
    yield Input("video", "GIF of 60000x60000", dots(60_000, 2), "frames of no size", local=True)


def closed() -> io.BytesIO:
    """A file object that was closed."""
    buffer = io.BytesIO(encoded(RGB))
    buffer.close()
    return buffer


def closed_image() -> Image.Image:
    """A PIL image whose file was closed before it was decoded."""
    buffer = io.BytesIO(encoded(RGB))
    image = Image.open(buffer)
    buffer.close()
    return image


def inputs() -> Iterator[Input]:
    """All of them."""
    for group in (geometry, bombs, modes, files, frames_and_orientation, arrays, addresses, videos):
        yield from group()


def load(each: Input, folder: Path) -> np.ndarray | ImageInputError:
    """The `(3, H, W)` pixels of one input, or its refusal."""
    source = each.source(folder) if callable(each.source) else each.source
    try:
        if each.group == "video":
            loaded = load_videos([source], lambda clip, given: [clip.num_frames - 1])[0].frames[0]
        else:
            loaded = load_images([[source]])[0][0]
        return to_channels_first(loaded, 0, 0, to_rgb=True, to_uint8=True, data_format=None)
    except ImageInputError as error:
        return error
    except VideoInputError as error:
        return ImageInputError(0, error.video, error.reason, error.fix)


def judge(each: Input, result: np.ndarray | ImageInputError) -> str:
    """Say "pixels" or "refused" where that is right, else what is wrong."""
    if isinstance(result, ImageInputError):
        told = isinstance(each.expected, str) and each.expected in str(result)
        return "refused" if told and (result.sample, result.image) == (0, 0) else f"refused: {result}"
    if isinstance(each.expected, str):
        return f"accepted, {result.shape}"
    if result.dtype != np.uint8 or result.shape != (3, *each.expected.shape[:2]):
        return f"{result.dtype} pixels of shape {result.shape}, not {each.expected.shape}"
    difference = np.abs(result.transpose(1, 2, 0).astype(int) - each.expected).max()
    return f"pixels differ by {difference}" if difference else "pixels"


def peak(*, again: bool = False) -> int:
    """Peak of this process's memory, in bytes; `again` starts counting anew where the system can (Linux)."""
    if again and Path("/proc/self/clear_refs").exists():
        # Freed memory that is used again would not count, and the kernel's huge pages bring it back.
        getattr(ctypes.CDLL(None), "prctl", max)(PR_SET_THP_DISABLE, 1, 0, 0, 0)
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status")
    if status.exists():  # `ru_maxrss` never falls, and a new process starts with that of the one that started it
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def main(folder: Path) -> None:
    """Print a JSON line per input."""
    Image.MAX_IMAGE_PIXELS = CAP
    os.environ["FILA_IMAGE_HOSTS"] = "*"
    load_images(encoded(RGB))
    everything = list(inputs())
    for each in everything:
        before, started = peak(again=True), time.process_time()
        result = load(each, folder)
        told = {"seconds": time.process_time() - started, "bytes": peak() - before}
        print(json.dumps({"name": f"{each.group}: {each.name}", "outcome": judge(each, result)} | told))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
