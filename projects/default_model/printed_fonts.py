# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Fonts of the printed pages: those of the first edition's training, and more Didones, light serifs and narrow ones.

No family of `test_fonts.txt` is among them, nor one that shares its first word with one of those.
"""

import json
from pathlib import Path

from PIL import Image, ImageDraw

from fila.training.page_fonts import Face, obtain_faces, obtain_family

# First words of the families that the test pages are set in.
HELD_OUT = frozenset(
    (
        "abril",
        "andada",
        "chivo",
        "cormorant",
        "dejavu",
        "hammersmith",
        "hanken",
        "instrument",
        "league",
        "saira",
        "stix",
    )
)
_EXTRA = json.loads(Path(__file__).with_name("printed_fonts.json").read_text(encoding="utf-8"))
_NEEDED = "€äöüßéèêçñóÄÖÜÉÇÑ@#%&$£"


def printed_faces(folder: str | Path) -> tuple[Face, ...]:
    """Return the faces of training that have Latin-1 letters; download the families that a folder lacks.

    Args:
        folder: Keeps the font files, about 120 MB.

    Returns:
        The faces, in a fixed order; variable families at four weights, one of them light.
    """
    faces = list(obtain_faces(folder, "train"))
    for name, pin in _EXTRA.items():
        faces += obtain_family(folder, name, pin)
        own = Path(folder) / f"{name}-{pin['version']}"
        faces += [Face(name, path) for path in sorted(own.glob("*-Light.ttf"))]
    faces += [Face(face.family, face.path, 300) for face in faces if face.weight == 400]
    known: dict[Path | None, bool] = {}
    for face in faces:
        if face.path not in known:
            known[face.path] = first_word(face.family) not in HELD_OUT and has_letters(face)
    return tuple(face for face in faces if known[face.path])


def first_word(family: str) -> str:
    """Return the first word of a family's name, in small letters."""
    return family.removeprefix("fontpkg-").replace(" ", "-").split("-")[0].lower()


def has_letters(face: Face) -> bool:
    """Return whether a face draws every letter that pages need, none as the box of a missing one."""
    font = face.at_cap_height(12)

    def drawn(character: str) -> bytes:
        image = Image.new("L", (40, 40))
        ImageDraw.Draw(image).text((5, 30), character, fill=255, font=font, anchor="ls")
        return image.tobytes()

    missing = {drawn("\uffff"), drawn("\ue83a"), bytes(1600)}
    return not any(drawn(character) in missing for character in _NEEDED)
