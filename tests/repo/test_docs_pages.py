# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every page has its place in the site, every picture the command that makes it, and the Chinese README keeps step."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.repo.test_generated_pages import script

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "README.zh.md"])
# a command in a sentence or in a block
COMMAND = r"`(?:fila |make |python )|```(?:console|sh)\n(?:[^`]*\n)?(?:fila|make|python) "
# what the head of a page says of all its pictures
ALL = r"`(?:make|python) [^`]*` (?:draws\s+them|writes this page)"


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/site_hooks.py; the site's generator is not installed here, and is needed for types alone."""
    import sys

    made: Any = ModuleType("mkdocs.structure.files")
    made.File = made.Files = object
    for name in ("mkdocs", "mkdocs.structure"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "mkdocs.structure.files", made)
    return script("site_hooks")


def in_navigation() -> list[str]:
    """Return the pages that the table of contents of the site names."""
    contents = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    return re.findall(r"([\w/]+\.md)$", contents, re.MULTILINE)


def test_every_page_has_one_place_in_the_site(hooks: ModuleType) -> None:
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    pages |= {page for place, page in hooks.PAGES.items() if (ROOT / place).is_file()}
    pages |= {f"reference/{name}.md" for name in hooks.part_pages()}
    pages |= {f"notebooks/{path.stem}.md" for path in (DOCS / "notebooks").glob("*.ipynb")}
    assert sorted(in_navigation()) == sorted(pages)


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    named = {path.name for path in DOCS.glob("*.md") if f"]({path.name}" in index}
    assert {path.name for path in DOCS.glob("*.md")} - named == {"index.md"}


def test_notebooks_become_pages(hooks: ModuleType) -> None:
    for path in sorted((DOCS / "notebooks").glob("*.ipynb")):
        text = hooks.with_links(hooks.notebook_page(path), path.relative_to(ROOT).as_posix())
        assert text.startswith("# ")
        assert "](data:image/png;base64," in text
        links = re.findall(r"\]\((\.\./[\w/.]+)", text)
        assert links
        assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pictures_have_the_command_that_makes_them(path: Path) -> None:
    """It stands in the section of the picture, or the head of the page says it of all."""
    text = path.read_text(encoding="utf-8")
    head, *sections = re.split(r"^(?=##+ )", text, flags=re.MULTILINE)
    for section in (head, *sections):
        if re.search(r"!\[[^\]]*\]\((?!data:)", section):
            assert re.search(COMMAND, section) or re.search(ALL, head), section.partition("\n")[0]


def test_links_of_pages_lead_to_files() -> None:
    for path in (*DOCS.rglob("*.md"), ROOT / "README.zh.md", *ROOT.glob("*.md")):
        links = re.findall(r"\]\((?!\w+:)([^)#\s]+)", path.read_text(encoding="utf-8"))
        made = {"canvases.md", "towers.md", "fusions.md", "connectors.md"}  # of the reference, by docs/site_hooks.py
        assert [link for link in links if not (path.parent / link).exists() and link not in made] == [], path.name


def test_chinese_readme_keeps_step() -> None:
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
    assert re.findall(r"```.*?```", chinese, re.DOTALL) == re.findall(r"```.*?```", english, re.DOTALL)
    for pattern in (r"^(#+) ", r"\]\(((?!README)[^)\s]+)\)", r"^(\|)", r"(\d[\d,.]* %|\d,\d{3})"):
        found = [sorted(re.findall(pattern, text, re.MULTILINE)) for text in (english, chinese)]
        assert found[0] == found[1], pattern
    code = [
        sorted(set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))))
        for text in (english, chinese)
    ]
    assert code[0] == code[1]
