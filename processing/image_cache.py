# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A bounded cache of processed images, keyed by image content and settings.

`image_processor.cache_images(2**30)` turns it on. It serves repeated images, as in the turns of a chat. It belongs to
the process: it is neither saved nor sent to other processes. The least recently used entry is dropped first. Threads
may share it.

Encoded bytes, local files (read again every time, so that a changed file is a new image), arrays and tensors on the
CPU have a content; PIL images, open files and addresses are not cached.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from transformers.utils import is_torch_available

from .image_batch import evened
from .image_error import ImageInputError, UnusableImage, with_name
from .image_input import load_images
from .image_source import read_source, shown

if is_torch_available():
    import torch

Made = dict[str, Any]


class ImageCache:
    """Cache of the arrays of processed images, at most `max_bytes` in all.

    Args:
        max_bytes: Most bytes of kept arrays.
    """

    def __init__(self, max_bytes: int) -> None:
        if not isinstance(max_bytes, int) or isinstance(max_bytes, bool) or max_bytes < 1:
            raise ValueError(f"`max_bytes` must be a positive integer; got {max_bytes!r}.")
        self.max_bytes = max_bytes
        self.hits = self.misses = self.bytes = 0
        self._entries: OrderedDict[bytes, tuple[Made, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        # Copies and other processes begin with an empty cache.
        return ImageCache, (self.max_bytes,)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Made | None:
        """Return the entry of a key. Do not write to its arrays: the cache owns them."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: bytes, made: Made) -> None:
        """Keep an entry and drop the least recently used ones; do nothing if the entry is too large."""
        size = sum(int(array.nbytes) for array in made.values())
        if size > self.max_bytes:
            return
        with self._lock:
            _, replaced = self._entries.pop(key, ({}, 0))
            self._entries[key] = made, size
            self.bytes += size - replaced
            while self.bytes > self.max_bytes:
                _, (_, dropped) = self._entries.popitem(last=False)
                self.bytes -= dropped

    @staticmethod
    def load(images: object) -> Any:
        """Load images, except those that are read later when their content is hashed."""
        return load_images(images, keep=has_content)

    def made_or_kept(self, images: object, settings: str, make: Callable[[Any], Any]) -> list[Made]:
        """Return the arrays of each image, from the cache if it has them.

        Args:
            images: The images as users pass them.
            settings: All settings that decide the arrays.
            make: Function that processes a batch of one image: per name a list of one array.

        Raises:
            ImageInputError: For the first image that cannot be used.
        """
        loaded = load_images(images, keep=has_content)
        loaded = loaded if isinstance(loaded, list) else [loaded]
        samples = enumerate(loaded) if loaded and isinstance(loaded[0], list) else [(None, loaded)]
        results = []
        for sample, own in samples:
            for number, source in enumerate(own):
                try:
                    key, image = content_key(source, settings)
                    made = None if key is None else self.get(key)
                    if made is None:
                        made = {name: arrays[0] for name, arrays in make(image).items()}
                        if key is not None:
                            self.put(key, made)
                except (ImageInputError, UnusableImage) as error:
                    raise ImageInputError(sample, number, with_name(error.reason, shown(source)), error.fix) from error
                results.append(made)
        return results

    @staticmethod
    def packed(results: list[Made], *, stacked: bool) -> Made:
        """Collect the arrays of all images by name, as copies or padded to one size."""
        names = list(results[0]) if results else []
        columns = {name: [made[name] for made in results] for name in names}
        if stacked:
            return {name: evened(arrays) for name, arrays in columns.items()}
        return {
            name: [array.copy() if isinstance(array, np.ndarray) else array.clone() for array in arrays]
            for name, arrays in columns.items()
        }


def has_content(source: object) -> bool:
    """Return whether a source is encoded bytes or the path of a file on this machine."""
    return isinstance(source, bytes | bytearray | memoryview) or (
        isinstance(source, str | Path) and shown(source) is not None
    )


def content_key(source: object, settings: str) -> tuple[bytes | None, Any]:
    """Return a hash of an image's content and the settings, and the image after its file was read.

    Args:
        source: An image as users pass it.
        settings: All settings that decide the image's arrays.

    Returns:
        The hash, None for sources that are not cached, and the object to load instead of the source.

    Raises:
        UnusableImage: If a file cannot be read.
    """
    if has_content(source):
        data, frame = read_source(source)
        # Only a path can name a frame, so the path is read again.
        return _hash(f"{settings} frame {frame}", data), data if frame is None else source
    if is_torch_available() and isinstance(source, torch.Tensor) and source.device.type == "cpu":
        array = (source.detach().float() if source.dtype == torch.bfloat16 else source.detach()).numpy()
    elif isinstance(source, np.ndarray) and not source.dtype.hasobject:
        array = source
    else:
        return None, source
    return _hash(f"{settings} array {array.dtype.str} {array.shape}", np.ascontiguousarray(array)), source


def _hash(head: str, content: bytes | np.ndarray) -> bytes:
    made = hashlib.sha256(head.encode() + b"\0")
    made.update(cast(bytes, content))
    return made.digest()
