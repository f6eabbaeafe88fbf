# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Write docs/messages.md: every error that the library raises, out of its source.

python docs/make_messages.py docs
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("processing", "modeling", "conversion", "training", "fila")
HEAD = """# Every error message

Search this page for words of the message that you see. `...` stands for what a message says of your case. A message
says what must hold, what was found and what to do; [troubleshooting.md](troubleshooting.md) says more about the
frequent ones. Written out of the source by `python docs/make_messages.py docs`.
"""
CHECK = "torch_compilable_check"  # takes a condition and the message of the error where it does not hold
# errors that tell a program something and a user nothing
SILENT = {"AttributeError", "IndexError", "NotImplementedError", "SystemExit", "typer.Exit", "AssertionError"}


def constants(module: ast.Module) -> dict[str, ast.expr]:
    """Return the expressions that a module gives names in capitals."""
    found = {}
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
    return found


def said(node: ast.expr | None, names: dict[str, ast.expr]) -> str:
    """Return the text of an expression, `...` for what is not known before it runs."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else "..."
    if isinstance(node, ast.JoinedStr):
        return "".join(
            said(part.value if isinstance(part, ast.FormattedValue) else part, names) for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return said(node.left, names) + said(node.right, names)
    if isinstance(node, ast.Name) and node.id.isupper() and node.id in names:
        return said(names[node.id], {})
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return re.sub(r"\{[^{}]*\}", "...", said(node.func.value, names))
    return "..."


def texts(call: ast.Call, names: dict[str, ast.expr]) -> Iterator[str]:
    """Yield the sentences among the arguments of a call."""
    for value in (*call.args, *(keyword.value for keyword in call.keywords)):
        text = re.sub(r"(\.\.\.\s*){2,}", "... ", said(value, names)).strip()
        if " " in text.replace("...", "").strip(" ."):
            yield text


def sentence(parts: list[str]) -> str:
    """Return the parts of a message as one; a part that begins small follows what the error says itself."""
    joined = " ".join(part if part[-1] in ".!?" else f"{part}." for part in parts)
    return f"... {joined}" if joined[:1].islower() else joined


def raised(path: Path) -> list[tuple[str, str]]:
    """Return (class, message) of the errors of a file, in their order."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    names = constants(module)
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == CHECK and (parts := list(texts(node, names))):
            found.append((node.lineno, "ValueError", sentence(parts)))
        raises = node.exc if isinstance(node, ast.Raise) else node.value if isinstance(node, ast.Return) else None
        if not isinstance(raises, ast.Call):
            continue
        kind = ast.unparse(raises.func)
        is_error = isinstance(node, ast.Raise) or re.search(r"(Error|UnusableImage|UnusableVideo)$", kind)
        if is_error and kind not in SILENT and (message := sentence(list(texts(raises, names)))):
            shown = kind if kind[0].isupper() else ""
            found.append((raises.lineno, shown, message))
    return list(dict.fromkeys((kind, message) for _, kind, message in sorted(found)))


def cell(text: str) -> str:
    """Return text as a cell of a Markdown table."""
    return re.sub(r"([|*\\\\])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")


def section(path: Path) -> str:
    """Return the section of a file; empty if it raises nothing."""
    rows = [f"| {cell(text)} | {kind} |" for kind, text in raised(path)]
    if not rows:
        return ""
    about = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].replace("\n", " ")
    table = "\n".join(["| message | error |", "|---|---|", *rows])
    return f"\n### `{path.relative_to(ROOT)}`\n\n{about}\n\n{table}\n"


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for room in ROOMS:
        files = [
            path for path in sorted((ROOT / room).rglob("*.py")) if not any(up.is_symlink() for up in path.parents)
        ]
        parts += [f"\n## {room}/\n", *(section(path) for path in files)]
    return "".join(parts)


if __name__ == "__main__":
    (Path(sys.argv[1]) / "messages.md").write_text(page(), encoding="utf-8")
