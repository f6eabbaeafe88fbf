# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pages of the site that are not files of docs/, and links that lead out of docs/. mkdocs calls these functions.

README.md and its like become pages, and so do the notebooks, with what they print and draw. Every class of a part gets
its place in the reference, from the files that are there. A link to a file of the source becomes the file's name.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# files of the repository that are pages of the site
PAGES = {
    "README.md": "readme.md",
    "README.zh.md": "readme_zh.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "RELEASING.md": "releasing.md",
    "examples/fila_8b/README.md": "example_fila_8b.md",
}
# pages of the reference, and the files whose docstrings they show
PARTS = {
    "canvases": ("processing", "canvas_*.py"),
    "towers": ("modeling", "tower_*.py"),
    "fusions": ("modeling", "fusion_*.py"),
    "connectors": ("modeling", "connector_*.py"),
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")


def with_links(text: str, place: str) -> str:
    """Return Markdown whose links lead to pages of the site.

    Args:
        text: Markdown of a file of the repository.
        place: The file's path in the repository.
    """
    own = PAGES.get(place, place.removeprefix("docs/"))

    def turn(found: re.Match[str]) -> str:
        image, label, target = found.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in target or target.startswith("mailto:"):
            return found.group()
        file = os.path.normpath(os.path.join(os.path.dirname(place), path))
        page = PAGES.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else None)
        page = re.sub(r"\.ipynb$", ".md", page) if page else None
        if page is None or (page.endswith(".py") and not image):
            return str(label) if "`" in label else f"`{label}`"
        relative = os.path.relpath(page, os.path.dirname(own) or ".")
        return f"{image}[{label}]({relative}{'#' + anchor if anchor else ''})"

    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)  # code stays as it is
    return "".join(part if part.startswith("```") else LINK.sub(turn, part) for part in parts)


def part_pages() -> dict[str, str]:
    """Return the pages of `PARTS`, by name: for each file the line that shows its docstrings."""
    pages = {}
    for name, (room, pattern) in PARTS.items():
        stems = [path.stem for path in sorted((ROOT / room).glob(pattern))]
        shown = "\n\n".join(
            f"## `{stem}.py`\n\n::: fila.{room}.{stem}\n    options: {{show_root_heading: false}}" for stem in stems
        )
        pages[name] = f"# {name.capitalize()}\n\nOne file each, in `{room}/`.\n\n{shown}\n"
    return pages


def notebook_page(path: Path) -> str:
    """Return a notebook as Markdown: prose, code, and below the code what it printed and drew."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![what the cell draws](data:image/png;base64,{''.join(data['image/png']).strip()})")
            else:
                parts.append(f"```text\n{''.join(output.get('text') or data['text/plain']).rstrip()}\n```")
    title, *rest = parts
    place = path.relative_to(ROOT).as_posix()
    return "\n\n".join([title, f"*The notebook: `{place}`.*", *rest]) + "\n"


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that are no files of docs/."""
    for place, page in PAGES.items():
        if (ROOT / place).is_file():
            text = with_links((ROOT / place).read_text(encoding="utf-8"), place)
            files.append(File.generated(config, page, content=text))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        text = with_links(notebook_page(path), path.relative_to(ROOT).as_posix())
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
    for name, text in part_pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Turn the links of a page."""
    generated = page.file.generated_by is not None
    return markdown if generated else with_links(markdown, f"docs/{page.file.src_uri}")
