# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Check that a file holds its whole picture, and not more parts than a picture needs.

Decoders draw the rows that they find: missing rows come out black, and Pillow at most warns. So this file counts the
parts of three formats without decoding:

    PNG   The palette is there where colors are numbers, and the compressed data are as long as the rows.
    JPEG  The passes give every component to its last bit. Where there is one pass, its data are handed to the decoder
          without the end mark behind it, at which libjpeg would fill up what is missing. Restart marks are as many as
          the rows need.
    TIFF  Every value of a directory lies inside of the file, single values are single, and there is a place for every
          strip or tile: all that Pillow warns of.

The decoders of other formats reject truncated files.
"""

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .image_error import UnusableImage

# More blocks of a PNG or JPEG, or entries of a TIFF, than any encoder writes; PIL spends microseconds on each.
MAX_BLOCKS = 2**16
# Of a JPEG: encoders write about ten, and each costs a pass over the whole image.
MAX_SCANS = 30
CUT = "The file is truncated or damaged; get it again."
AGAIN = "Encode it again."

SOF_SEQUENTIAL, SOF_HUFFMAN, SOF_PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC0, 0xC1), (0xC2, 0xCA)
DRI, SOS, EOI = 0xDD, 0xDA, 0xD9
END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# More than a decoder of JPEG reads ahead, and less than a row of anything.
READ_AHEAD = bytes(16)
# By color type of a PNG: values of a pixel. The passes of an interlaced PNG: first column and row, steps.
PNG_VALUES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PNG_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
PIECE = 2**12  # bytes that are decompressed at a time, to at most a thousand times as many
TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
WIDTH, HEIGHT, STRIPS, VALUES, STRIP_ROWS, PLANES = 256, 257, 273, 277, 278, 284
TILE_WIDTH, TILE_LENGTH, TILES = 322, 323, 324
# Tags of TIFF that have one value, of those that Pillow decodes by.
SINGLE = {WIDTH, HEIGHT, VALUES, STRIP_ROWS, PLANES, TILE_WIDTH, TILE_LENGTH, 259, 266, 282, 283, 296, 317}


def checked(data: bytes, frame: int | None = None) -> bytes:
    """Check the parts of a PNG, JPEG or TIFF; anything else passes.

    Args:
        data: An encoded image.
        frame: The frame to decode.

    Returns:
        The data to decode; for a JPEG with one pass, only up to the end of the pass.

    Raises:
        UnusableImage: If parts are missing, or are more than a picture needs.
    """
    if data.startswith(b"\x89PNG"):
        check_png(data)
    elif data.startswith(b"\xff\xd8"):
        end = check_jpeg(data)
        return data if end is None or frame else data[:end] + READ_AHEAD
    elif data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        check_tiff(data, frame or 0)
    return data


def check_png(data: bytes) -> None:
    """Check the number of blocks of a PNG, and that it has a palette where it needs one."""
    kinds = [kind for kind, _ in png_blocks(data)]
    if len(data) > 25 and data[25] == 3 and b"IDAT" in kinds and b"PLTE" not in kinds[: kinds.index(b"IDAT")]:
        raise UnusableImage("is a PNG of numbered colors without the list of them", CUT)


def png_blocks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield kind and content of each block up to the end mark."""
    position, view = 8, memoryview(data)
    for _ in range(MAX_BLOCKS):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        if len(kind) < 4 or kind == b"IEND":
            return
        yield kind, view[position + 8 : position + 8 + length]
        position += 12 + length
    raise UnusableImage(f"is a file of more than {MAX_BLOCKS} blocks", AGAIN)


def check_png_rows(data: bytes, frame: int = 0) -> None:
    """Check that a PNG's data, up to those of a frame, are as long as the rows need; surplus data pass.

    Call it after the check of the size: a PNG of 100 bytes can claim 10^18 pixels.
    """
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    bits = depth * PNG_VALUES.get(color, 1)
    size: tuple[int, int] = (width, height)
    parts: list[memoryview] = []
    for kind, block in (*png_blocks(data), (b"fcTL", memoryview(bytes(12)))):
        if kind == b"fcTL":
            if parts:
                _check_rows(parts, _png_bytes(*size, bits, interlaced))
                frame -= 1
            if frame < 0:
                return
            size = struct.unpack(">II", block[4:12])
            parts = []
        elif kind in (b"IDAT", b"fdAT"):
            parts.append(block[4 if kind == b"fdAT" else 0 :])


def _check_rows(parts: Sequence[memoryview], needed: int) -> None:
    stream, found = zlib.decompressobj(), 0
    for part in parts:
        for start in range(0, len(part), PIECE):
            try:
                found += len(stream.decompress(part[start : start + PIECE]))
            except zlib.error as error:
                raise UnusableImage(f"is a PNG whose data are damaged ({error})", CUT) from error
            if found >= needed:
                return
    raise UnusableImage(f"has {found} of the {needed} bytes that its rows need", CUT)


def _png_bytes(width: int, height: int, bits: int, interlaced: int) -> int:
    """Return the number of bytes of all rows, each with its filter byte."""
    total = 0
    for column, row, step, row_step in PNG_PASSES if interlaced else ((0, 0, 1, 1),):
        wide, high = -(-(width - column) // step), -(-(height - row) // row_step)
        total += (1 + (wide * bits + 7) // 8) * high if wide > 0 and high > 0 else 0
    return total


@dataclass(frozen=True)
class _Scan:
    """A pass of a JPEG: its header, where its data lie, and units between two restart marks, 0 for none."""

    header: bytes
    start: int
    end: int
    interval: int

    @property
    def components(self) -> list[int]:
        return list(self.header[1 : 1 + 2 * self.header[0] : 2])

    @property
    def spectrum(self) -> tuple[range, int]:
        """Return the coefficients of the pass, and the number of their last bits that it leaves out."""
        first, last, bits = self.header[1 + 2 * self.header[0] :][:3]
        return range(first, last + 1), bits & 15


def check_jpeg(data: bytes) -> int | None:
    """Check the passes of a JPEG.

    Returns:
        The end of the data of a single pass; None if there are several passes or the end mark is missing, which the
        decoder reports.
    """
    position, interval, kind, header, scans = 2, 0, 0, b"", []
    for _ in range(MAX_BLOCKS):
        code = data[position + 1 : position + 2]
        if not code or code[0] == EOI:
            break
        if data[position] != 0xFF or code == b"\xff":
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        body, position = data[position + 4 : position + 2 + length], position + 2 + length
        if code[0] in SOF_SEQUENTIAL + SOF_PROGRESSIVE:
            kind, header = code[0], body
        elif code[0] == DRI:
            interval = int.from_bytes(body[:2], "big")
        elif code[0] == SOS:
            end = END_OF_SCAN.search(data, position)
            scans.append(_Scan(body, position, end.start() if end else len(data), interval))
            position = scans[-1].end
            if len(scans) > MAX_SCANS:
                raise UnusableImage(f"is a JPEG of more than {MAX_SCANS} passes", AGAIN)
    else:
        raise UnusableImage(f"is a file of more than {MAX_BLOCKS} blocks", AGAIN)
    is_cut = position + 2 > len(data)
    if is_cut or not kind or any(len(scan.header) < 4 + 2 * scan.header[0] for scan in scans):
        return None  # the decoder rejects it
    components = {header[at]: divmod(header[at + 1], 16) for at in range(6, len(header) - 2, 3)}
    _check_passes(components, scans, kind)
    for scan in scans:
        _check_restarts(data, scan, struct.unpack(">HH", header[1:5]), components)
    return scans[0].end if len(scans) == 1 and kind in SOF_HUFFMAN else None


def _check_passes(components: dict[int, tuple[int, int]], scans: Sequence[_Scan], kind: int) -> None:
    """Check that every coefficient of every component comes with its last bit."""
    missing = {(component, index) for component in components for index in range(64)}
    for scan in scans:
        given, left_out = scan.spectrum if kind in SOF_PROGRESSIVE else (range(64), 0)
        if not left_out:
            missing -= {(component, index) for component in scan.components for index in given}
    if missing:
        raise UnusableImage(f"is a JPEG without all of its passes ({len(scans)} are there)", CUT)


def _check_restarts(data: bytes, scan: _Scan, size: tuple[int, ...], components: dict[int, tuple[int, int]]) -> None:
    """Check the restart marks of a pass; one too many, at the end, is an encoder's habit."""
    if not scan.interval or not set(scan.components) <= set(components):
        return
    wide, high = (max(factors[axis] for factors in components.values()) for axis in (0, 1))
    unit = (8 * high, 8 * wide)
    if len(scan.components) == 1:  # blocks of the component instead of all components' blocks of a place
        own_wide, own_high = components[scan.components[0]]
        size = tuple(
            -(-side * own // most) for side, own, most in zip(size, (own_high, own_wide), (high, wide), strict=True)
        )
        unit = (8, 8)
    needed = -(-(-(-size[0] // unit[0]) * -(-size[1] // unit[1])) // scan.interval) - 1
    found = sum(data.count(bytes([0xFF, 0xD0 + number]), scan.start, scan.end) for number in range(8))
    if not needed <= found <= needed + 1:
        raise UnusableImage(f"is a JPEG with {found} restart marks where its size needs {needed}", CUT)


def check_tiff(data: bytes, frame: int) -> None:
    """Check the directories of a TIFF up to that of a frame; the decoder reports a missing frame."""
    order, large = "<" if data[:1] == b"I" else ">", b"+" in data[2:4]
    count_form, entry_form, place_form = ("Q", "HHQ8s", "Q") if large else ("H", "HHI4s", "I")
    entries, sizes = 0, 0
    (place,) = _unpacked(order + place_form, data, 8 if large else 4)
    for _ in range(frame + 1):
        if not place:
            return
        (count,) = _unpacked(order + count_form, data, place)
        place += struct.calcsize(order + count_form)
        values: dict[int, tuple[int, int]] = {}
        for _ in range(count):
            tag, kind, length, inline = _unpacked(order + entry_form, data, place)
            place += struct.calcsize(order + entry_form)
            entries += 1
            if entries > MAX_BLOCKS:
                raise UnusableImage(f"is a TIFF of more than {MAX_BLOCKS} entries", AGAIN)
            if tag in values or kind not in TIFF_BYTES:
                continue
            size = length * TIFF_BYTES[kind]
            if size > len(inline):
                (start,) = struct.unpack(order + place_form, inline)
                sizes += size
                if start + size > len(data) or sizes > len(data):
                    raise UnusableImage(f"is a TIFF whose tag {tag} lies outside of the file", CUT)
            if tag in SINGLE and length != 1:
                raise UnusableImage(f"is a TIFF with {length} values of tag {tag}, which has one", CUT)
            form = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
            number = struct.unpack_from(order + form, inline)[0] if form and size <= len(inline) and length else 0
            values[tag] = (length, number)
        (place,) = _unpacked(order + place_form, data, place)
    _check_places({tag: number for tag, (_, number) in values.items()}, {tag: n for tag, (n, _) in values.items()})


def _check_places(values: dict[int, int], lengths: dict[int, int]) -> None:
    """Check that there is a place for every strip or tile."""
    width, height = values.get(WIDTH, 0), values.get(HEIGHT, 0)
    planes = values.get(VALUES, 1) if values.get(PLANES) == 2 else 1
    if TILES in lengths:
        across, rows = values.get(TILE_WIDTH, 0), values.get(TILE_LENGTH, 0)
    else:
        across, rows = width, values.get(STRIP_ROWS, 0) or height
    if not (width and height and across and rows):
        return
    needed, found = -(-width // across) * -(-height // rows) * planes, lengths.get(TILES, lengths.get(STRIPS, 0))
    if found < needed:
        raise UnusableImage(f"is a TIFF with {found} of the {needed} pieces that its size needs", CUT)


def _unpacked(form: str, data: bytes, place: int) -> tuple:  # type: ignore[type-arg]
    if place + struct.calcsize(form) > len(data):
        raise UnusableImage("is a TIFF whose directory lies outside of the file", CUT)
    return struct.unpack_from(form, data, place)
