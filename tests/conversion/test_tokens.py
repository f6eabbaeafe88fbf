# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from typing import Any

import pytest

from fila.conversion.tokens import (
    add_image_token,
    ensure_pad_token,
    image_token_of,
    padded_vocabulary,
)
from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE
from fila.systems.chat_templates import TURN_TOKENS, choose_chat_template, places_images
from tests.conversion.parts import BRACKETS, CHATML, PLACES, byte_tokenizer
from tests.helpers import tiny_tokenizer


def test_add_image_token_appends_a_special_token() -> None:
    tokenizer = byte_tokenizer([], None)
    before = len(tokenizer)
    assert add_image_token(tokenizer, "<image>") == before
    assert tokenizer("a<image>b").input_ids[1] == before
    assert tokenizer.added_tokens_decoder[before].special


@pytest.mark.parametrize("tokens", [["<image>"], ["<x>", "<image>", "<y>"]])
def test_add_image_token_reuses_one_that_is_there(tokens: list[str]) -> None:
    tokenizer = byte_tokenizer(tokens, None)
    before = len(tokenizer)
    assert add_image_token(tokenizer, "<image>") == tokenizer.convert_tokens_to_ids("<image>") < before
    assert len(tokenizer) == before


def test_image_token_of_a_tokenizer_that_names_one() -> None:
    assert image_token_of(tiny_tokenizer(), "<img>") == "<image>"
    assert image_token_of(byte_tokenizer([], None), "<img>") == "<img>"


@pytest.mark.parametrize(
    ("tokens", "expected"), [(["<|finetune_right_pad_id|>"], "<|finetune_right_pad_id|>"), ([], "<unk>")]
)
def test_ensure_pad_token_finds_one(tokens: list[str], expected: str) -> None:
    tokenizer = byte_tokenizer(tokens, None)
    ensure_pad_token(tokenizer, "<image>")
    assert tokenizer.pad_token == expected


def test_ensure_pad_token_keeps_the_tokenizers_own() -> None:
    tokenizer = tiny_tokenizer()
    ensure_pad_token(tokenizer, "<image>")
    assert tokenizer.pad_token == "<pad>"


def test_ensure_pad_token_does_not_pad_with_images() -> None:
    tokenizer = byte_tokenizer([], None)
    for _ in range(2):  # also where the tokenizer itself says so
        ensure_pad_token(tokenizer, "<unk>")
        assert tokenizer.pad_token == "</s>"
        tokenizer.pad_token = "<unk>"


def test_ensure_pad_token_rejects_a_tokenizer_that_has_nothing() -> None:
    class Bare:
        pad_token = eos_token = None

        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

    with pytest.raises(ValueError, match="neither a pad token nor an eos token"):
        ensure_pad_token(Bare(), "<image>")


@pytest.mark.parametrize(("num_rows", "expected"), [(300, 300), (259, 259), (258, 320), (64, 320)])
def test_padded_vocabulary_of_259_tokens(num_rows: int, expected: int) -> None:
    assert padded_vocabulary(byte_tokenizer([], None), num_rows) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (PLACES, True),
        (DEFAULT_CHAT_TEMPLATE, True),
        (CHATML, False),
        (BRACKETS, False),
        ("{{ oops", False),
        ("", False),
    ],
)
def test_places_images(template: str, expected: bool) -> None:
    assert places_images(byte_tokenizer([], None), template, "<image>") is expected


def test_choose_chat_template_keeps_one_that_places_images() -> None:
    tokenizer = byte_tokenizer([], PLACES)
    assert choose_chat_template(tokenizer, "<image>") == PLACES


def test_choose_chat_template_prefers_the_default_if_it_writes_the_same() -> None:
    tokenizer = byte_tokenizer(list(TURN_TOKENS), CHATML)
    before = len(tokenizer)
    assert choose_chat_template(tokenizer, "<image>") == DEFAULT_CHAT_TEMPLATE
    assert len(tokenizer) == before


def test_choose_chat_template_keeps_the_language_models_own_format() -> None:
    tokenizer = byte_tokenizer([], BRACKETS)
    template = choose_chat_template(tokenizer, "<image>")
    content = [{"type": "image"}, {"type": "text", "text": "What?"}, {"type": "video"}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}, {"role": "assistant", "content": "This."}]
    prompt = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
    assert prompt == "[[user:<image>What?<video>]][[assistant:This.]]"


def test_choose_chat_template_names_a_part_that_it_cannot_write() -> None:
    tokenizer = byte_tokenizer([], BRACKETS)
    template = choose_chat_template(tokenizer, "<image>")
    with pytest.raises(Exception, match="must be of type 'text', 'image' or 'video'; got audio"):
        tokenizer.apply_chat_template(
            [{"role": "user", "content": [{"type": "audio"}]}], chat_template=template, tokenize=False
        )


@pytest.mark.parametrize("template", [None, "{{ raise_exception('no') }}"])
def test_choose_chat_template_gives_the_default_its_tokens(template: str | None) -> None:
    tokenizer = byte_tokenizer([], template)
    assert choose_chat_template(tokenizer, "<image>") == DEFAULT_CHAT_TEMPLATE
    assert set(TURN_TOKENS) <= {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    assert all(token in DEFAULT_CHAT_TEMPLATE for token in TURN_TOKENS)
    other = choose_chat_template(byte_tokenizer([], template), "<img>")
    turn = [{"role": "user", "content": [{"type": "image"}]}]
    assert tokenizer.apply_chat_template(turn, chat_template=other, tokenize=False) == (
        "<|im_start|>user\n<img><|im_end|>\n"
    )
