# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Small PDFs, written by hand."""

from collections.abc import Sequence


def pdf_bytes(
    pages: Sequence[str], size: tuple[int, int] = (200, 100), *, more: str = "", trailer: str = "", count: int = -1
) -> bytes:
    """A PDF whose pages hold drawing commands, of `size` points (height, width); `more` goes into each page."""
    numbers = [4 + 2 * number for number in range(len(pages))]
    objects = {
        1: "<</Type/Catalog/Pages 2 0 R>>",
        2: f"<</Type/Pages/Kids[{' '.join(f'{n} 0 R' for n in numbers)}]/Count {len(pages) if count < 0 else count}>>",
        3: "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    }
    for number, drawn in zip(numbers, pages, strict=True):
        box = f"/MediaBox[0 0 {size[1]} {size[0]}]"
        resources = "/Resources<</Font<</F 3 0 R>>>>"
        objects[number] = f"<</Type/Page/Parent 2 0 R{box}/Contents {number + 1} 0 R{resources}{more}>>"
        objects[number + 1] = f"<</Length {len(drawn)}>>stream\n{drawn}\nendstream"
    body, places = "%PDF-1.4\n", []
    for number, content in objects.items():
        places.append((number, len(body)))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{number} 1\n{place:010} 00000 n \n" for number, place in places)
    end = f"xref\n0 1\n0000000000 65535 f \n{table}trailer<</Root 1 0 R/Size {max(objects) + 1}{trailer}>>\n"
    return f"{body}{end}startxref\n{len(body)}\n%%EOF\n".encode()


def bar(level: float) -> str:
    """Drawing commands of the upper half of a page of 200 x 100 points, of one gray level."""
    return f"{level} g 0 100 100 100 re f"


# The standard's security handler with a user's password that nobody knows.
LOCK = "/Encrypt<</Filter/Standard/V 1/R 2/O<" + "11" * 32 + ">/U<" + "22" * 32 + ">/P -1>>/ID[<33><33>]"
