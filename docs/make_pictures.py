# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Draw the pictures of docs/images.md, one generated page under every canvas strategy, and the README's.

    python docs/make_pictures.py [FOLDER]

They are what `fila view` writes, reduced to few colours. The page is made by `training/pages.py` out of a seed; the
README's picture, `view.png`, shows the bundled one; `start_view.png` of docs/start.md shows the page that it draws.
"""

import re
import runpy
import sys
import tempfile
from pathlib import Path

from PIL import Image

from fila.cli.ask import load_checkpoint
from fila.cli.demo import bundled_files
from fila.look.contact_sheet import draw_contact_sheet, look_with_all
from fila.look.explain import explain
from fila.look.processed_image import look
from fila.look.view import draw_view
from fila.look.view_settings import Eyes, open_eyes
from fila.training.pages import LAYOUTS, make_page

COLOURS = 64
# Canvas options and prompt layout of a picture; the tile is 448 pixels where the system's is.
PICTURES: dict[str, tuple[dict[str, object], str, int]] = {
    "deepseek_ocr": ({"type": "deepseek_ocr"}, "deepseek_ocr", 336),
    "fila": ({"type": "fila"}, "fila", 336),
    "single": ({"type": "single"}, "fila", 336),
    "llava_next": ({"type": "llava_next"}, "llava_next", 336),
    "internvl": ({"type": "internvl"}, "internvl", 448),
    "uhd": ({"type": "uhd"}, "llava_uhd", 336),
    "minicpm": ({"type": "minicpm"}, "minicpm_v_2_6", 448),
    "square_pad": ({"type": "square_pad", "grid": 2, "overview": True}, "fila", 336),
    "long_edge_tiers": ({"type": "long_edge_tiers"}, "fila", 336),
    "native": ({"type": "native"}, "fila", 336),
    "redrawn_square": ({"type": "redrawn_square"}, "fila", 336),
}


def eyes_of(name: str) -> Eyes:
    """The settings of a picture."""
    canvas, layout, tile = PICTURES[name]
    return open_eyes(canvas=canvas, layout={"type": layout}, tile=tile)


def page() -> Image.Image:
    """The page that all pictures show: a table, wider than high."""
    table = next(layout for layout in LAYOUTS["train"] if layout.__name__ == "_table")
    made = make_page(
        5, "train", open_eyes().image_processor, clean=True, layout=table, aspect=1.6, cap_heights=(12, 14)
    )
    return made.image


def first_page() -> Image.Image:
    """The page that the first block of docs/start.md draws."""
    text = (Path(__file__).parent / "start.md").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "receipts.py"
        script.write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], encoding="utf-8")
        drawn: Image.Image = runpy.run_path(str(script))["receipt"](100)[0]
    return drawn


def save(picture: Image.Image, path: Path, colours: int = COLOURS) -> None:
    """Write a PNG of few colours."""
    picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)


def main(folder: str = "docs/images") -> None:
    """Draw them all."""
    image, target = page(), Path(folder)
    for name in PICTURES:
        eyes = eyes_of(name)
        save(draw_view(look(eyes, image), title="page.png", subtitle=eyes.name), target / f"canvas_{name}.png")
    eyes = eyes_of("fila")
    with bundled_files() as assets, Image.open(assets / "page.png") as bundled:
        save(draw_view(look(eyes, bundled), title="page.png", subtitle=eyes.name), target / "view.png", 256)
        own = open_eyes(checkpoint=str(assets / "default_model"))
        save(draw_view(look(own, first_page()), title="page.png", subtitle="my-checkpoint"), target / "start_view.png")
    save(
        draw_view(look(eyes, image), title="page.png", subtitle=eyes.name, tokens=range(971, 979)),
        target / "tokens.png",
    )
    save(draw_contact_sheet(look_with_all(eyes, image), title="page.png", subtitle=eyes.name), target / "compare.png")
    save(explained().reduce(2), target / "explain.png")


def explained() -> Image.Image:
    """What `fila explain` draws of a bundled page."""
    with bundled_files() as assets:
        model, processor = load_checkpoint(str(assets / "default_model"), device="cpu")
        name = assets / "demo_pages" / "images" / "00500004.jpg"
        return explain(model, processor, str(name), "What is the Thipjoy ferry?").picture(name.name)


if __name__ == "__main__":
    main(*sys.argv[1:])
