# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Fonts of generated pages: free font families out of pinned PyPI packages, split between training, test and control.

Errors on the test split's fonts say what to train on; the control's were drawn by lot from what was left, and nothing
was ever chosen by them.

Each package `fontpkg-NAME` carries one family of Google Fonts with its licence (OFL-1.1, Apache-2.0 or UFL). Only font
files are taken out of the wheels; no code of them is installed or run. Fonts are not part of this repository.
"""

import functools
import json
import zipfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import cast

from PIL import ImageFont

from fila.conversion.output import written_atomically
from fila.training.page_download import download_wheel

# Weights at which small print is set; a variable font is instanced at each.
_STYLES = ("Regular", "Medium", "SemiBold", "Bold", "Italic")


@dataclass(frozen=True)
class Face:
    """One style of a family.

    Attributes:
        family: Name of the package's family.
        path: The font file, or None for the font that PIL carries.
        weight: Where on the `wght` axis of a variable font, else None.
    """

    family: str
    path: Path | None
    weight: int | None = None

    def at_cap_height(self, pixels: float) -> ImageFont.FreeTypeFont:
        """Return the font at the size at which an "H" is this many pixels tall."""
        return _sized(self, max(round(pixels / _cap_ratio(self) * 4) / 4, 1.0))


@functools.lru_cache(maxsize=512)
def _sized(face: Face, size: float) -> ImageFont.FreeTypeFont:
    if face.path is None:
        return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))
    font = ImageFont.truetype(str(face.path), size, layout_engine=ImageFont.Layout.BASIC)
    if face.weight is not None:
        axes = font.get_variation_axes()
        values = [face.weight if axis["name"] in (b"Weight", "Weight") else axis["default"] for axis in axes]
        font.set_variation_by_axes([float(value or 0) for value in values])
    return font


@functools.lru_cache(maxsize=4096)
def _cap_ratio(face: Face) -> float:
    """Return the height of an "H" in units of the font size."""
    _, top, _, bottom = _sized(face, 200.0).getbbox("H", anchor="ls")
    return (bottom - top) / 200


DEFAULT_FACES = (Face("Pillow's own", None),)


def obtain_faces(cache_dir: str | Path, split: str) -> tuple[Face, ...]:
    """Download the font families of a split, unless the cache has them.

    Args:
        cache_dir: Folder to keep the font files in, about 100 MB.
        split: "train", "test" or "control", no family is in two; "varied" has those of "train".

    Returns:
        The faces, in a fixed order.

    Raises:
        ValueError: If there is no such split.
        RuntimeError: If a package cannot be downloaded or is not the pinned one.
    """
    packages = json.loads(files("fila.training").joinpath("page_fonts.json").read_text(encoding="utf-8"))
    split = "train" if split == "varied" else split
    if split not in packages:
        raise ValueError(f"The split must be one of {sorted(packages)}; got {split!r}.")
    faces: list[Face] = []
    for name, pin in packages[split].items():
        faces += obtain_family(cache_dir, name, pin)
    return tuple(faces)


def obtain_family(cache_dir: str | Path, name: str, pin: dict[str, str]) -> list[Face]:
    """Return the faces of one package, pinned by `version` and `sha256`; download it unless the cache has it."""
    folder = Path(cache_dir) / f"{name}-{pin['version']}"
    if not folder.is_dir():
        _download(name, pin, folder)
    return _faces(name, folder)


def _faces(family: str, folder: Path) -> list[Face]:
    faces = []
    for path in sorted(folder.glob("*.ttf")):
        style = path.stem.rpartition("-")[2]
        if "[" in path.stem:
            if "wght" in path.stem and "Italic" not in path.stem:
                faces += [Face(family, path, weight) for weight in (400, 500, 700)]
        elif style in _STYLES:
            faces.append(Face(family, path))
    return faces


def _download(name: str, pin: dict[str, str], folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with written_atomically(folder, overwrite=False) as scratch:
        wheel = download_wheel(name, pin["version"], pin["sha256"], scratch)
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if member.endswith((".ttf", "LICENSE")) and ".dist-info" not in member:
                    (scratch / Path(member).name).write_bytes(archive.read(member))
        wheel.unlink()
