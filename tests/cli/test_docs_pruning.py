# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The examples of docs/pruning.md run."""

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.test_docs import ROOT
from tests.helpers import single_tower, tiny_model, tiny_processor

PAGE = ROOT / "docs" / "pruning.md"


def test_pruning_page_asks_with_fewer_tokens(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fila: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my-checkpoint").symlink_to(checkpoint)
    Image.new("RGB", (97, 53), "white").save("page.png")
    single = tiny_processor(high_res_size=None)
    tiny_model(**single_tower()).save_pretrained("my-llava")
    single.save_pretrained("my-llava")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(blocks[0], names)
    token = names["processor"].image_token_id
    counts = [int((names[each]["input_ids"] == token).sum()) for each in ("inputs", "whole")]
    assert counts[0] < counts[1] == 80
    assert names["answer"].shape[1] > names["inputs"]["input_ids"].shape[1]
    exec(blocks[1].replace("54", "4"), names)
    assert names["model"].model.tokens_per_tile == 1 + 4 + 10


def test_first_lines_of_the_pruning_page_run(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fila: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my-checkpoint").symlink_to(checkpoint)
    Image.new("RGB", (97, 53), "white").save("page.png")
    messages = '[{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "a"}]'
    Path("held-out.jsonl").write_text(f'{{"images": ["page.png"], "messages": {messages}}}\n', encoding="utf-8")
    block = PAGE.read_text(encoding="utf-8").split("```")[1]
    for line in block.strip().splitlines():
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)[1:]]
        result = fila(*words)
        assert result.exit_code == 0, (line, result.stderr)
