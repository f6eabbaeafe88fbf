# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The test split: pages that people print, made apart from the training pages.

    python -m projects.default_model.test_pages OUT --fonts FONTS --count 60 --seed 1 --pdf A.pdf --pdf B.pdf

Writes `OUT/images/` and `OUT/pages.jsonl`, which `fila evaluate --data OUT/pages.jsonl` reads, with COUNT pages of
every subset; the first page of every subset comes before the second of any, so `--max-questions` takes of all alike.
A row has `images`, `messages` (empty), `subset` and `fields`. A field has

- `question`, `answer`: at most 28 characters; "not on the page" where the label is not there;
- `box`: left, top, right, bottom of the answer's ink in pixels of the page; of the stamp or the box to tick where that
  is asked about; null for what is not on the page;
- `cap_height`: of a capital letter, in pixels of the page; 0 where no text is asked for;
- `kind` of the value, `layout`, `language`, `family` of the font, `subset`, and `wording`, the number of the wording:
  0 is the one that the first edition was trained on.

FONTS holds the wheels of the families in test_fonts.txt; those that lack are downloaded with pip. Everything but the
bytes of the JPEG files is the same for the same arguments.
"""

import argparse
import importlib.util
import io
import json
import math
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter

from . import test_layouts as layouts
from . import test_values as values
from .test_layouts import INLINE, OTHERS, Box, Face, Layout, Pair, Sheet, Shown, line_question

if TYPE_CHECKING:
    from pypdfium2 import PdfPage


FONTS = Path(__file__).with_name("test_fonts.txt")
ABSENT = "not on the page"
WORDINGS = (
    "What is the {}?",
    "{}?",
    "Please read the {}.",
    "What does the page say for {}?",
    "Which value stands at {}?",
)
SCALE = 3  # a page that was on paper is drawn larger and brought down to its size


@dataclass(frozen=True)
class Subset:
    """What the pages of a subset are made of.

    Attributes:
        languages: Of labels and words.
        kinds: Of values.
        layouts: One is drawn by lot.
        wear: "screen", "print" (one of both by lot), "scan" or "photo".
        absent: Share of the questions that ask for a label that is not on the page.
    """

    languages: tuple[str, ...]
    kinds: tuple[values.Kind, ...] = values.PRINTED
    layouts: tuple[Layout, ...] = INLINE
    wear: str = "print"
    absent: float = 0


EVERY, FOREIGN = (*values.LANGUAGES, "made-up"), values.LANGUAGES[1:]
SUBSETS = {
    "made_up_words": Subset(("made-up",), values.SIMPLE),
    "other_layouts": Subset(("made-up",), values.SIMPLE, OTHERS),
    "english": Subset(("english",)),
    "other_languages": Subset(FOREIGN),
    "worse_scans": Subset(("english",), layouts=(*INLINE, *OTHERS), wear="scan"),
    "spaces_lower_symbols": Subset(EVERY, (*values.SPACES, *values.LOWER, *values.SYMBOLS)),
    "absent": Subset(EVERY, layouts=(*INLINE, *OTHERS), absent=0.5),
    "photographed": Subset(("english", "made-up"), layouts=(*INLINE, *OTHERS), wear="photo"),
    "lines": Subset(EVERY),  # filled by `layouts.prose`
    "things": Subset(EVERY, layouts=(layouts.stamp, layouts.boxes_to_tick)),
}
PDF = "pdf_lines"


def obtain_faces(folder: Path) -> list[Face]:
    """Return the fonts of test_fonts.txt, from wheels in a folder, into which pip downloads those that lack."""
    rows = [each.split() for each in FONTS.read_text(encoding="utf-8").splitlines() if not each.startswith("#")]
    wheels = {
        package: folder / f"{package.replace('-', '_')}-{version}-py3-none-any.whl" for package, version, *_ in rows
    }
    lacking = [f"{package}=={version}" for package, version, *_ in rows if version != "*"]
    lacking = [each for each in lacking if not wheels[each.split("==")[0]].is_file()]
    if lacking:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *lacking]
        subprocess.run(command, check=True)
    faces = []
    for package, version, file, weight in rows:
        if version == "*":
            found = importlib.util.find_spec(package)
            if found is None or found.origin is None:
                raise ImportError(f"{file} comes with {package}, which is not installed: pip install {package}.")
            data = (Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / file).read_bytes()
        else:
            with zipfile.ZipFile(wheels[package]) as wheel:
                data = wheel.read(next(name for name in wheel.namelist() if name.endswith(f"/{file}")))
        faces.append(Face(file.split(".")[0], data, int(weight)))
    return faces


def make_page(
    subset: str, seed: str, faces: Sequence[Face], *, size: tuple[int, int] = (256, 256), questions: int = 4
) -> tuple[Image.Image, list[dict[str, Any]]]:
    """Return a page and its fields, the same for the same arguments.

    Args:
        subset: One of `SUBSETS`.
        seed: Any text.
        faces: One is drawn by lot.
        size: Width and height.
        questions: At most.
    """
    given = SUBSETS[subset]
    for attempt in range(20):
        rng = random.Random(f"{subset} {seed} {attempt}")
        sheet, layout, pairs = _draw(subset, given, rng, faces, size)
        if len(sheet.shown) >= 2:
            break
    image, shown = sheet.image, sheet.shown
    if given.wear in ("scan", "photo"):
        image, shown = _moved(sheet, given.wear, rng)
    elif sheet.scale > 1:
        image = image.resize(size, Image.Resampling.BOX)
    image = _worn(image, given.wear if sheet.scale > 1 else "screen", rng)
    first = [each for each in shown if each.question]  # of its own, such as that about the stamp
    rest = [each for each in shown if not each.question]
    chosen = [*rng.sample(first, len(first)), *rng.sample(rest, len(rest))][:questions]
    fields = [_field(each, rng) for each in chosen]
    written = list(sheet.texts)
    for entry in fields:
        if rng.random() < given.absent:
            label = _new_label(rng, rng.choice((pairs.language, pairs.language, *given.languages)), written)
            written.append(label)
            entry.update(question=WORDINGS[0].format(label), answer=ABSENT, box=None, cap_height=0, kind="absent")
            entry["wording"] = 0
    known = {"layout": layout, "family": sheet.face.name, "subset": subset}
    return image, [{**entry, **known} for entry in fields]


class _Pairs(Iterator[Pair]):
    """Pairs for a sheet without end, in one language, none with a label that stands on it."""

    def __init__(self, rng: random.Random, given: Subset, sheet: Sheet):
        self._rng, self._kinds, self._sheet = rng, given.kinds, sheet
        self.language = rng.choice(given.languages)

    def __next__(self) -> Pair:
        label = _new_label(self._rng, self.language, self._sheet.texts)
        text, kind = values.value(self._rng, self._kinds, self.language)
        return Pair(label, text, kind, self.language)


def _new_label(rng: random.Random, language: str, texts: Sequence[str]) -> str:
    """Return a label that is no part of what was written, nor the reverse."""
    written = [each.lower().rstrip(":") for each in texts]
    for attempt in range(200):
        label = values.label(rng, language if attempt < 100 else "made-up")  # a language may run out of them
        if not any(label.lower() in each or each in label.lower() for each in written):
            return label
    raise RuntimeError(f"Found no label in 200 tries that is not among {texts}.")


def _draw(
    subset: str, given: Subset, rng: random.Random, faces: Sequence[Face], size: tuple[int, int]
) -> tuple[Sheet, str, _Pairs]:
    """Draw a sheet that nothing has happened to yet."""
    on_paper = given.wear != "print" or rng.random() < 0.6
    low = {"photo": 9.5}.get(given.wear, 8.0)
    cap_height = round(low + (14 - low) * rng.random() ** 1.8, 1)  # long values need small ones
    layout = rng.choice(given.layouts)
    dark = (
        rng.random() < 0.08 and layout in INLINE and given.wear == "print"
    )  # other layouts have grounds of their own
    ink, paper = (rng.randint(0, 70),) * 3, tuple(rng.randint(232, 255) for _ in range(3))
    if rng.random() < 0.2:
        ink = (rng.randint(0, 60), rng.randint(0, 60), rng.randint(60, 150))
    colours = (paper, ink) if dark else (ink, paper)
    sheet = Sheet(*size, SCALE if on_paper else 1, rng.choice(list(faces)), cap_height, *colours)  # type: ignore[arg-type]
    pairs = _Pairs(rng, given, sheet)
    if subset == "lines":
        layouts.prose(sheet, rng, pairs.language)
        return sheet, "prose", pairs
    layout(sheet, rng, pairs)
    return sheet, layout.__name__, pairs


def _field(shown: Shown, rng: random.Random) -> dict[str, Any]:
    wording = 0
    if shown.label and rng.random() < 0.25:
        wording = rng.randrange(1, len(WORDINGS))
    return {
        "question": WORDINGS[wording].format(shown.label) if shown.label else shown.question,
        "answer": shown.answer,
        "box": list(shown.box),
        "cap_height": shown.cap_height,
        "kind": shown.kind,
        "language": shown.language,
        "wording": wording,
    }


Homography = np.ndarray[Any, np.dtype[np.float64]]


def homography(sources: Sequence[tuple[float, float]], targets: Sequence[tuple[float, float]]) -> Homography:
    """Return the 3 x 3 matrix that takes four points to four others."""
    rows = []
    for (x, y), (u, v) in zip(sources, targets, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    solved = np.linalg.solve(np.array(rows, float), np.array(targets, float).reshape(-1))
    return np.append(solved, 1).reshape(3, 3)


def moved_box(box: Box, matrix: Homography, size: tuple[int, int]) -> Box:
    """Return the upright box around a box that was moved, cut to the page."""
    left, top, right, bottom = box
    points = np.array([[left, top, 1], [right, top, 1], [right, bottom, 1], [left, bottom, 1]], float) @ matrix.T
    points = points[:, :2] / points[:, 2:]
    low, high = np.floor(points.min(0)), np.ceil(points.max(0))
    width, height = size
    return max(0, int(low[0])), max(0, int(low[1])), min(width, int(high[0])), min(height, int(high[1]))


def moved_image(image: Image.Image, matrix: Homography, size: tuple[int, int], scale: int) -> Image.Image:
    """Return a sheet, drawn at a scale, as it lies on the page; black where it does not."""
    back = np.linalg.inv(np.diag([scale, scale, 1.0]) @ matrix @ np.diag([1 / scale, 1 / scale, 1.0]))
    large = (size[0] * scale, size[1] * scale)
    coefficients = (back / back[2, 2]).reshape(-1)[:8]
    return image.transform(large, Image.Transform.PERSPECTIVE, tuple(coefficients), Image.Resampling.BICUBIC).resize(
        size, Image.Resampling.BOX
    )


def _moved(sheet: Sheet, wear: str, rng: random.Random) -> tuple[Image.Image, list[Shown]]:
    """Lay a sheet askew on the ground of a scanner, or in perspective on a table."""
    width, height = size = sheet.width, sheet.height
    corners = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)]
    turn = math.radians(rng.uniform(-1, 1) * (1.2 if wear == "scan" else 3))
    shrink = 0.985 if wear == "scan" else 0.95
    targets = []
    for x, y in corners:
        dx, dy = (x - width / 2) * shrink, (y - height / 2) * shrink
        push = [rng.uniform(-5, 5) if wear == "photo" else 0 for _ in range(2)]
        u = width / 2 + dx * math.cos(turn) - dy * math.sin(turn) + push[0]
        v = height / 2 + dx * math.sin(turn) + dy * math.cos(turn) + push[1]
        targets.append((u, v))
    matrix = homography(corners, targets)
    ground = [rng.randint(60, 200) for _ in range(3)] if wear == "photo" else [rng.randint(190, 255)] * 3
    paper = moved_image(sheet.image, matrix, size, sheet.scale)
    mask = moved_image(Image.new("L", sheet.image.size, 255), matrix, size, sheet.scale)
    image = Image.composite(paper, Image.new("RGB", size, tuple(ground)), mask)
    area = abs(float(np.linalg.det(matrix[:2, :2])))
    shown = [
        replace(each, box=moved_box(each.box, matrix, size), cap_height=round(each.cap_height * area**0.5, 1))
        for each in sheet.shown
    ]
    return image, shown


def _worn(image: Image.Image, wear: str, rng: random.Random) -> Image.Image:
    """Return a page as a scanner or a camera sees it; nothing moves."""
    if wear == "screen":
        return image
    noise = np.random.default_rng(rng.getrandbits(32))
    width, height = image.size
    blur = {"print": 0.25, "scan": 0.65, "photo": 0.5}[wear] * rng.random()
    pixels: Any = np.asarray(image.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = y / height - 0.5, x / width - 0.5
    if wear == "photo":  # light falls off, and a hand or an edge throws a shadow
        angle = rng.uniform(0, 2 * math.pi)
        along = x * math.cos(angle) + y * math.sin(angle)
        light = 0.85 + rng.uniform(0, 0.3) * along
        edge, soft = rng.uniform(-0.4, 0.4), rng.uniform(0.02, 0.1)
        light *= 1 - rng.uniform(0, 0.4) / (1 + np.exp(-(along - edge) / soft))
        tint = np.array([rng.uniform(0.92, 1.05) for _ in range(3)], dtype=np.float32)
        pixels = pixels * light[..., None] * tint
    elif wear == "scan":  # pale ink, dirt, streaks
        pale = rng.uniform(0.6, 0.95)
        pixels = 255 - (255 - pixels) * pale
        pixels += rng.uniform(0, 14) * np.sin(x * rng.uniform(3, 60) + rng.uniform(0, 6))[..., None]
        for _ in range(rng.randint(0, 60)):
            at = rng.randrange(height), rng.randrange(width)
            pixels[at] *= rng.uniform(0.3, 0.8)
    deviation = {"print": 4, "scan": 16, "photo": 9}[wear] * rng.random()
    channels = 3 if wear == "photo" else 1
    pixels = pixels + noise.normal(0, deviation, (height, width, channels))
    worn = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if wear == "scan" and rng.random() < 0.5:
        worn = worn.convert("L").convert("RGB")
    quality = {"print": (80, 95), "scan": (35, 75), "photo": (60, 90)}[wear]
    file = io.BytesIO()
    worn.save(file, "JPEG", quality=rng.randint(*quality))
    return Image.open(file).convert("RGB")


def make_pdf_page(
    pdfs: Sequence[str], seed: str, *, size: tuple[int, int] = (256, 256), questions: int = 4
) -> tuple[Image.Image, list[dict[str, Any]]]:
    """Return a piece of a PDF page, of capitals 8 to 12 pixels high, and its fields.

    A line is cut after its last word that fits; what follows, and lines with other characters, are left white.

    Raises:
        ValueError: If no piece with two lines was found in 200 tries.
    """
    import pypdfium2

    rng = random.Random(f"{PDF} {seed}")
    for _ in range(200):
        name = rng.choice(list(pdfs))
        with pypdfium2.PdfDocument(name) as document:
            page = document[rng.randrange(len(document))]
            found = _pdf_piece(page, rng, size)
        if found is None:
            continue
        image, drawn, cap_height = found
        asked = [(line_question(text, [each for each, _ in drawn]), text, box) for text, box in drawn]
        asked = [each for each in asked if each[0]]
        if len(asked) < 2:
            continue
        known = {"cap_height": round(cap_height, 1), "kind": "line", "language": "english", "wording": 0}
        known |= {"layout": "pdf", "family": Path(name).name, "subset": PDF}
        return image, [
            {"question": question, "answer": text, "box": list(box), **known}
            for question, text, box in rng.sample(asked, min(questions, len(asked)))
        ]
    raise ValueError(f"Found no piece of text with two lines in {', '.join(map(str, pdfs))}. Pass other PDF files.")


def _pdf_piece(
    page: "PdfPage", rng: random.Random, size: tuple[int, int]
) -> tuple[Image.Image, list[tuple[str, Box]], float] | None:
    """Return a piece of a page, its cut lines with their boxes, and the height of their capitals."""
    rows = _pdf_lines(page)
    if len(rows) < 4:
        return None
    start = rng.randrange(len(rows))
    capitals = [box[3] - box[1] for sign, box in rows[start] if sign.isascii() and sign.isupper()]
    if not capitals or not 3 < max(capitals) < 20:
        return None
    cap_height = rng.uniform(8, 12)
    scale = cap_height / max(capitals)
    left = rows[start][0][1][0] - 6 / scale
    top = max(box[3] for _, box in rows[start]) + 6 / scale
    whole = page.render(scale=scale, may_draw_forms=False).to_pil().convert("RGB")
    at = round(left * scale), round((page.get_height() - top) * scale)
    image = Image.new("RGB", size, (255, 255, 255))
    piece = whole.crop((at[0], at[1], at[0] + size[0], at[1] + size[1]))

    def place(row: Sequence[tuple[str, Any]]) -> Box:
        ends = [box for sign, box in row if sign != " "]
        low = min(b[0] for b in ends) * scale - at[0], (page.get_height() - max(b[3] for b in ends)) * scale - at[1]
        high = max(b[2] for b in ends) * scale - at[0], (page.get_height() - min(b[1] for b in ends)) * scale - at[1]
        return math.floor(low[0]), math.floor(low[1]), math.ceil(high[0]), math.ceil(high[1])

    drawn: list[tuple[str, Box]] = []
    places = [place(row) for row in rows]
    for number, row in enumerate(rows):
        text, count, words = "", 0, "".join(sign for sign, _ in row)
        for end in [*(i for i, sign in enumerate(words) if sign == " "), len(words)]:
            if 0 < end <= values.LONGEST and place(row[:end])[2] < size[0] - 3:
                text, count = words[:end], end
        if not text or " . " in text + " " or not all(" " <= sign <= "~" or "\xa1" <= sign <= "\xff" for sign in text):
            continue
        heights = [box[3] - box[1] for sign, box in row[:count] if "A" <= sign <= "Z" or sign in "bdhkl"]
        box = place(row[:count])
        lonely = not any(_overlap(box, other) for at, other in enumerate(places) if at != number)
        whole_line = box[0] > 1 and box[1] > 1 and box[3] < size[1] - 1
        if lonely and whole_line and heights and abs(max(heights) * scale - cap_height) < 0.15 * cap_height:
            around = (box[0] - 1, box[1], box[2] + 1, box[3])
            image.paste(piece.crop(around), around[:2])
            drawn.append((text, box))
    return image, drawn, cap_height


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _pdf_lines(page: "PdfPage") -> list[list[tuple[str, tuple[float, float, float, float]]]]:
    """Return the lines of a page, each a list of characters with their boxes in points, one space between words."""
    text_page = page.get_textpage()
    text = text_page.get_text_range()
    if len(text) != text_page.count_chars():
        return []  # characters and boxes cannot be brought together
    rows: list[list[tuple[str, tuple[float, float, float, float]]]] = [[]]
    for index, sign in enumerate(text):
        if sign in "\r\n":
            rows.append([])
        elif sign != " " or (rows[-1] and rows[-1][-1][0] != " "):
            rows[-1].append((sign, text_page.get_charbox(index)))
    for row in rows:
        while row and row[-1][0] == " ":
            row.pop()
    return [row for row in rows if len(row) > 3]


def write_pages(
    folder: Path,
    count: int,
    seed: int,
    *,
    faces: Sequence[Face],
    pdfs: Sequence[str] = (),
    subsets: Sequence[str] = tuple(SUBSETS),
    size: tuple[int, int] = (256, 256),
    questions: int = 4,
) -> Path:
    """Write pages of every subset and return the file of their rows.

    Raises:
        ValueError: If the folder holds pages.
    """
    lines = folder / "pages.jsonl"
    if lines.exists():
        raise ValueError(f"{lines} exists. Pass another folder, or remove it.")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[str], tuple[Image.Image, list[dict[str, Any]]]]] = {
        name: partial(make_page, name, faces=faces, size=size, questions=questions) for name in subsets
    }
    if pdfs:
        makers[PDF] = partial(make_pdf_page, pdfs, size=size, questions=questions)
    rows = []
    for index in range(count):
        for subset, make in makers.items():
            image, fields = make(f"{seed} {index}")
            name = f"images/{subset}-{index:04}.jpg"
            image.save(folder / name, quality=92, subsampling=0)
            rows.append({"images": [name], "messages": [], "subset": subset, "fields": fields})
    lines.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return lines


def main() -> None:
    """Write the pages that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--fonts", type=Path, required=True, help="folder of the fonts' wheels")
    parser.add_argument("--count", type=int, default=60, help="pages of every subset")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--subset", action="append", choices=list(SUBSETS), help="these alone; may be given again")
    parser.add_argument("--pdf", action="append", default=[], help=f"file for {PDF}; may be given again")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--questions", type=int, default=4, help="of a page, at most")
    given = parser.parse_args()
    write_pages(
        given.out,
        given.count,
        given.seed,
        faces=obtain_faces(given.fonts),
        pdfs=given.pdf,
        subsets=given.subset or tuple(SUBSETS),
        size=(given.width, given.height),
        questions=given.questions,
    )


if __name__ == "__main__":
    main()
