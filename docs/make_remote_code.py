# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Write the table of docs/remote_code.md: files and lines of the code that a checkpoint of each recipe carries.

python docs/make_remote_code.py docs
"""

import sys
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from fila import FilaConfig
from fila.conversion.remote_code import Code, model_code, own_code, processor_code
from fila.recipes import load_recipe, processor, recipe_names

PLACEHOLDER = "<placeholder>"
BEGIN, END = "<!-- table: python docs/make_remote_code.py docs -->\n", "<!-- end of the table -->\n"


def code_of(name: str) -> tuple[Code, Code]:
    """Return the code of the model and of the processor of a recipe."""
    config = FilaConfig.from_recipe(name)
    tokens = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({}, unk_token="")),
        extra_special_tokens={"image_token": PLACEHOLDER, "video_token": "<video>"},
    )
    return model_code(config), processor_code(processor(load_recipe(name), config, tokens, image_token=PLACEHOLDER))


def counted(code: dict[str, bytes]) -> tuple[int, int]:
    """Return the number of files and of lines."""
    return len(code), sum(content.count(b"\n") for content in code.values())


def table() -> str:
    """Return the table in Markdown."""
    rows = ["| recipe | files | lines | of the model | of the processor |", "|---|---:|---:|---:|---:|"]
    for name in recipe_names():
        model, images = code_of(name)
        files, lines = counted({**model, **images})
        rows.append(f"| {name} | {files} | {lines:,} | {counted(model)[1]:,} | {counted(images)[1]:,} |")
    files, lines = counted({name: path.read_bytes() for name, path in own_code().items()})
    rows.append(f"| all that `fila` has | {files} | {lines:,} | | |")
    return "\n".join(rows) + "\n"


def page(text: str) -> str:
    """Return a page with its table written anew."""
    head, _, rest = text.partition(BEGIN)
    return head + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    path = Path(sys.argv[1]) / "remote_code.md"
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
