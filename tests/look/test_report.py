# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The contact sheet and the page of every strategy: numbers are the processor's, and the page loads nothing.

What the page does in a browser is checked by `docs/check_report.py`.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fila.look.contact_sheet import Compared, draw_contact_sheet, look_with_all
from fila.look.drawing import OVERVIEW
from fila.look.report import make_report
from fila.look.view_settings import PLACEHOLDER, Eyes, open_eyes
from fila.processing.canvas import CANVASES
from fila.processing.layout import NEWLINE
from tests.helpers import random_image

SIZE = (53, 97)
# Of HTML 5 and of SVG where it is written with a slash.
VOID = {"meta", "input", "image", "rect", "path"}


@pytest.fixture(scope="module")
def eyes() -> Eyes:
    return open_eyes(layout={"type": "llava_next"}, tile=28, patch=7)


@pytest.fixture(scope="module")
def compared(eyes: Eyes) -> list[Compared]:
    return look_with_all(eyes, random_image(*SIZE))


@pytest.fixture(scope="module")
def page(compared: list[Compared]) -> str:
    return make_report(compared, title="<script>alert(1)</script>&.png", subtitle="tile 28")


class Reader(HTMLParser):
    """Collects tags and attributes, and holds that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


def test_every_strategy_is_compared_with_its_own_count(eyes: Eyes, compared: list[Compared]) -> None:
    assert [each.name for each in compared] == ["fila", *sorted(set(CANVASES) - {"fila"})]
    for each, other in zip(compared, eyes.all_canvases(), strict=True):
        made = other.processor(text=[PLACEHOLDER], images=[[random_image(*SIZE)]])
        assert each.seen is not None
        assert each.seen.num_tokens == made["input_ids"][0].count(other.processor.image_token_id)


def test_page_loads_nothing(page: str) -> None:
    reader = Reader(page)
    named = [value or "" for _, attributes in reader.tags for key, value in attributes.items() if key in LOADS]
    assert named
    assert [value[:30] for value in named if not value.startswith(("data:image/jpeg;base64,", "#"))] == []
    assert {tag for tag, _ in reader.tags} & {"link", "iframe", "object", "embed", "base", "img", "use"} == set()
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", page)
    policy = next(attributes["content"] for _, attributes in reader.tags if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")


LOADS = {"src", "srcset", "href", "xlink:href", "poster", "data", "action", "background", "ping"}


def test_page_escapes_the_name(page: str) -> None:
    reader = Reader(page)
    assert reader.texts["h1"] == ["<script>alert(1)</script>&.png"]
    assert [attributes for tag, attributes in reader.tags if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
    ]


def test_page_has_a_row_and_a_section_for_every_strategy(page: str, compared: list[Compared]) -> None:
    reader = Reader(page)
    assert [attributes["id"] for tag, attributes in reader.tags if tag == "section"] == [
        each.name for each in compared
    ]
    rows = re.findall(r'<tr><td><a href="#(\w+)">.*?</tr>', page)
    assert rows == [each.name for each in compared]
    for each in compared:
        assert each.seen is not None
        assert re.search(rf'<tr><td><a href="#{each.name}">.*?<td>{each.seen.num_tokens:,}</td>', page)
    names = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(names) == len(set(names))


def test_page_knows_every_token(page: str, compared: list[Compared]) -> None:
    """What the script looks up is what `Seen.shown_by` tells, for each token of each strategy."""
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    for strategy, each in zip(data, compared, strict=True):
        seen = each.seen
        assert seen is not None
        found: dict[int, Any] = {}
        for token, place, length in strategy["runs"]:
            found |= {place + step: token + step for step in range(length)}
        assert strategy["tokens"] == seen.num_tokens
        for number, token in enumerate(seen.tokens):
            assert found.get(number, NEWLINE) == token
            place, box = seen.shown_by(number)
            if place is None:
                continue
            view = strategy["views"][place.view]
            assert view["start"] + place.row * view["grid"][1] + place.col == token
            rows, cols = view["rows"][place.row], view["cols"][place.col]
            looked_up = None if rows is None or cols is None else (rows[0], cols[0], rows[1], cols[1])
            assert looked_up == box


def test_page_of_tokens_on_no_grid(eyes: Eyes) -> None:
    seen = look_with_all(replace(eyes, token_grid=None), random_image(*SIZE))[0].seen
    assert seen is not None
    page = make_report([Compared("fila", replace(seen, token_grids=(None,) * 5))], title="a")
    (strategy,) = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert [(view["grid"], view["rows"]) for view in strategy["views"][:1]] == [(None, [[0, 53]])]


def test_what_does_not_fit_is_told_and_not_drawn(eyes: Eyes, compared: list[Compared]) -> None:
    broken = [compared[0], Compared("uhd", None, "A view of 266x406 pixels must be whole tokens <of> 28 pixels. " * 3)]
    page = make_report(broken, title="a")
    assert "must be whole tokens &lt;of&gt; 28 pixels" in page
    assert [attributes["id"] for tag, attributes in Reader(page).tags if tag == "section"] == ["fila"]
    assert draw_contact_sheet(broken, title="a").size[0] == draw_contact_sheet(compared, title="a").size[0]


def test_page_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^It does not fit\.$"):
        make_report([Compared("fila", None, "It does not fit.")], title="a")


def test_strategies_that_refuse_the_tokens_are_compared_by_their_reason() -> None:
    eyes = open_eyes(tile=28, patch=7)
    eyes.processor.token_size = 14  # as behind a connector that merges four patches
    reasons = {each.name: each.reason for each in look_with_all(eyes, random_image(*SIZE))}
    assert "must be whole tokens of 14 pixels" in reasons["uhd"]
    assert reasons["fila"] == reasons["native"] == ""


def test_contact_sheet_draws_a_panel_for_every_strategy(compared: list[Compared]) -> None:
    sheet = draw_contact_sheet(compared, title="noise.png", subtitle="tile 28")
    alone = draw_contact_sheet(compared[:1], title="noise.png")
    assert sheet.size[0] == alone.size[0]
    assert sheet.size[1] > alone.size[1] + 2 * 150  # two more rows
    # The bar of the last panel is as full as its share says.
    share = compared[-1].seen.real_share  # type: ignore[union-attr]
    assert share == 1
    row = [sheet.getpixel((x, sheet.size[1] - 36 - 20)) for x in range(sheet.size[0])]
    assert row.count(tuple(int(OVERVIEW[at : at + 2], 16) for at in (1, 3, 5))) >= (len(compared) % 3 or 3) * 300


def test_view_compares(fila: Callable[..., Any], image: str, tmp_path: Path) -> None:
    sheet, page = tmp_path / "new" / "sheet.png", tmp_path / "other" / "page.html"
    options = ["--tile", "28", "--patch", "7"]
    result = fila("view", image, "--compare", "-o", sheet, "--html", page, *options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{sheet}\n{page}\n"
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
    assert page.read_text("utf-8").startswith("<!doctype html>")
    result = fila("view", image, "--html", page, "--tokens", "3", *options)
    assert result.stderr.startswith("error: `--tokens` marks tokens of one strategy")
