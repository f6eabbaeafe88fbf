# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What `fila app` does with a page, on the model that comes with fila; the browser's part is tests/browser."""

import itertools
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from fila.cli import commands_app
from fila.cli.web import Desk, table
from fila.processing.image_input import ImageInputError
from tests.promises.shipped import MODEL, PAGES, asked, page


@pytest.fixture(scope="module")
def desk() -> Desk:
    model: Any = AutoModelForImageTextToText.from_pretrained(MODEL, dtype=torch.float32).eval()
    return Desk(model, AutoProcessor.from_pretrained(MODEL), "shipped", max_new_tokens=20)


@pytest.fixture(scope="module")
def picture() -> str:
    return str(sorted(PAGES.parent.glob("images/*.jpg"))[0])


def test_answers_stream_and_end_with_their_probability(desk: Desk, picture: str) -> None:
    for number, question, answer in asked()[:2]:
        assert number == 0
        *pieces, whole = desk.ask(picture, f" {question}\n")
        assert len(pieces) > 2
        assert pieces[-1] == whole.text == answer
        assert all(str(later).startswith(str(one)) for one, later in itertools.pairwise(pieces))
        assert 0.5 < whole.confidence <= 1


def test_the_last_answer_is_found_on_the_page(desk: Desk, picture: str) -> None:
    _, question, answer = asked()[0]
    for method in ("attention", "gradient"):
        assert desk.heat(picture, question, answer, method).width > 200
    drawn, told = desk.token(picture, 10**6)
    assert "320 image tokens" in told
    assert f"token {desk.seen(picture).num_tokens - 1}:" in told
    assert desk.towers(picture).size != drawn.size or drawn.tobytes() != desk.towers(picture).tobytes()
    rows = desk.cost(picture)
    assert rows[0][:3] == ["image", "canvas", "tiles"]
    assert table([["a|b", "c"], ["1", "2"]]) == "| a\\|b | c |\n|---|---|\n| 1 | 2 |"


def test_pages_of_a_document_are_asked_one_by_one(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "two.tif"
    page(0).save(path, save_all=True, append_images=[page(1)], compression="raw")
    assert desk.count(str(path)) == 2
    number, question, answer = next(each for each in asked() if each[0] == 1)
    *_, whole = desk.ask(desk.source(str(path), number + 1), question)
    assert whole.text == answer
    with pytest.raises(ImageInputError, match="has no page 3; it has 2"):
        desk.source(str(path), 3)


def test_mistakes_are_told(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Write a question first"):
        next(desk.ask("a.png", "  "))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(ImageInputError, match=r"bad\.png"):
        list(desk.ask(str(bad), "What?"))  # raised in the thread that answers
    Image.new("RGB", (9, 9)).save(bad)
    assert str(bad) == desk.source(str(bad), 1)


def test_an_answer_that_nobody_reads_ends(desk: Desk, picture: str) -> None:
    steps: Any = desk.ask(picture, asked()[0][1])
    next(steps)
    steps.close()  # as when a browser's tab is closed
    assert not desk._model_lock.locked()
    *_, whole = desk.ask(picture, asked()[1][1])
    assert whole.text == asked()[1][2]


def test_command_says_what_is_missing(fila: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands_app, "find_spec", lambda name: None)
    assert "pip install gradio pypdfium2" in fila("app").stderr
    monkeypatch.setattr(commands_app, "find_spec", lambda name: name)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = fila("app", "--port", taken.getsockname()[1])
    assert result.exit_code == 2
    assert "Choose another --port" in result.stderr
