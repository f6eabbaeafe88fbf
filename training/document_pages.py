# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Data set of the pages of documents and folders, for `fila read`: each page is a row that asks the same questions."""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from fila.processing.image_document import count_pages
from fila.processing.image_error import ImageInputError
from fila.processing.image_source import document_path, split_frame

from .data_sources import IMAGE_SUFFIXES

READ_SUFFIXES = (*IMAGE_SUFFIXES, ".bmp", ".gif", ".pdf", ".tif", ".tiff")


class DocumentPages:
    """Data set of one row per page, in the order of files and pages.

    Files are opened once, to count their pages. One that cannot be opened is one row, whose image fails.

    Args:
        files: Paths of PDFs, TIFF files and images, and of folders of them; `report.pdf#page=3` is that page alone.
        prompts: The questions about each page.

    Raises:
        ValueError: If there is no file or no prompt, or one comes twice.
    """

    def __init__(self, files: Sequence[str | os.PathLike[str]], prompts: Sequence[str]) -> None:
        self.prompts = list(prompts)
        self.files = [name for file in files for name in _files_of(os.fspath(file))]
        for what, found in (("file", self.files), ("prompt", self.prompts)):
            if not found:
                raise ValueError(f"There must be a {what} to read with; got none of {[*map(str, files)]!r:.200}.")
            if twice := sorted({one for one in found if found.count(one) > 1}) if len(set(found)) < len(found) else []:
                raise ValueError(f"Each {what} must be given once; {twice[0]!r} comes twice.")
        self.counts = [_count(name) for name in self.files]
        self.ends = list(accumulate(count or 1 for count in self.counts))

    @property
    def paths(self) -> list[str]:
        """Paths of the files, without pages."""
        return [split_frame(name)[0] for name in self.files]

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, row: int) -> dict[str, Any]:
        if not 0 <= row < len(self):
            raise IndexError(row)
        place = bisect_right(self.ends, row)
        name, page = self.files[place], None
        if self.counts[place] is not None:
            page = row - (self.ends[place - 1] if place else 0) + 1
        path, frame = split_frame(name)
        source = name if page is None else f"{name}#page={page}"
        fields = [{"question": prompt} for prompt in self.prompts]
        about = {"file": path, "page": page or (frame or 0) + 1}
        return {"id": source, "about": about, "images": [source], "messages": [], "fields": fields}


def _files_of(name: str) -> Iterator[str]:
    """Yield a file, or the files of a folder and the folders in it that can be pages, by name."""
    if not os.path.isdir(name):
        yield name
        return
    found = sorted(str(path) for path in Path(name).rglob("*") if path.suffix.lower() in READ_SUFFIXES)
    if not found:
        raise ValueError(f"The folder {name!r} must hold PDFs or images; it has no file of {list(READ_SUFFIXES)}.")
    yield from found


def _count(name: str) -> int | None:
    """Return the number of pages of a document; None for a page, an image, and what cannot be opened."""
    if split_frame(name)[1] is not None:
        return None
    try:
        count = count_pages(name)
    except ImageInputError:
        return None  # asking says why
    return count if count > 1 or document_path(name) is not None else None
