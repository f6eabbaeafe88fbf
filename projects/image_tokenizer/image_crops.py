# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Random crops of a folder's photographs, for models that learn from pixels alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from fila.processing.image_input import load_images

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def find_images(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name.

    Raises:
        ValueError: If there is none.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"{folder} holds no image; its files must end in one of {list(SUFFIXES)}.")
    return found


class ImageCrops(Dataset[dict[str, torch.Tensor]]):
    """Square crops at random places and sizes; the same index gives the same crop.

    Args:
        paths: The images, which are kept in memory.
        size: Pixels per side of a sample.
        length: How many samples there are.
        scale: Bounds of the crop's side as a share of the image's shorter side.
        seed: Of the draws.
    """

    def __init__(
        self, paths: Sequence[Path], size: int, length: int, *, scale: tuple[float, float] = (0.25, 1.0), seed: int = 0
    ) -> None:
        self.images: list[Image.Image] = [load_images(path).convert("RGB") for path in paths]
        self.size, self.length, self.scale, self.seed = size, length, scale, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return `{"pixel_values": (3, S, S)}` in -1..1, flipped half of the time."""
        draw = np.random.default_rng((self.seed, index))
        image = self.images[draw.integers(len(self.images))]
        side = max(1, round(min(image.size) * draw.uniform(*self.scale)))
        left, top = (int(draw.integers(length - side + 1)) for length in image.size)
        crop = image.resize((self.size, self.size), Image.Resampling.LANCZOS, (left, top, left + side, top + side))
        pixels = torch.from_numpy(np.array(crop)).permute(2, 0, 1) / 127.5 - 1
        return {"pixel_values": pixels.flip(-1) if draw.integers(2) else pixels}
