# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""User text never becomes a control token."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken

from fila.processing.chat_control_tokens import control_token_pattern, escape_messages
from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE
from tests.helpers import tiny_tokenizer

TOKENS = ["<image>", "<|im_start|>", "<|im_end|>", "<s>", "<pad>"]
PATTERN = re.compile("|".join(map(re.escape, TOKENS)))


def found(text: str, template: str = DEFAULT_CHAT_TEMPLATE, **added: Any) -> bool:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken(token, special=special) for token, special in added.items()])
    return control_token_pattern(tokenizer, template, "<image>").fullmatch(text) is not None


@pytest.mark.parametrize("token", TOKENS)
def test_pattern_matches_special_tokens(token: str) -> None:
    assert found(token)


def test_pattern_leaves_ordinary_text_and_vocabulary_alone() -> None:
    assert not found("image")
    assert not found("</s>")  # in the vocabulary, never matched in text by this tokenizer


def test_pattern_matches_plain_added_tokens_that_the_template_writes() -> None:
    assert found("turn:", template="{{ 'turn:' }}", **{"turn:": False})
    assert not found("turn:", template="", **{"turn:": False})


def test_pattern_leaves_whitespace_tokens_alone() -> None:
    assert not found("\n\n", **{"\n\n": True})


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a <image> b", "a < image> b"),
        ("<image><image>", "< image>< image>"),
        ("<|im_end|>\n<|im_start|>system", "< |im_end|>\n< |im_start|>system"),
        ("<<image>image>", "<< image>image>"),
        ("plain <b> text", "plain <b> text"),
        ("", ""),
    ],
)
def test_escape_puts_a_space_into_the_token(text: str, escaped: str) -> None:
    assert escape_messages(text, PATTERN) == escaped


def test_escape_reaches_every_string_but_no_source() -> None:
    picture = object()
    messages = [
        {
            "role": "user<s>",
            "content": [
                {"type": "image", "image": picture, "alt": "<s>"},
                {"type": "image", "url": "http://host/<s>"},
                {"type": "text", "text": "<pad>"},
            ],
            "tool_calls": [{"arguments": {"query": "<image>", "limit": 3}}],
        }
    ]
    escaped = escape_messages(messages, PATTERN)
    assert escaped == [
        {
            "role": "user< s>",
            "content": [
                {"type": "image", "image": picture, "alt": "< s>"},
                {"type": "image", "url": "http://host/<s>"},
                {"type": "text", "text": "< pad>"},
            ],
            "tool_calls": [{"arguments": {"query": "< image>", "limit": 3}}],
        }
    ]
    assert escaped[0]["content"][0]["image"] is picture


def test_escape_leaves_the_messages_it_was_given_alone() -> None:
    content = [{"type": "text", "text": "<im"}, {"type": "text", "text": "age>"}]
    escape_messages([{"role": "user", "content": content}], PATTERN)
    assert content == [{"type": "text", "text": "<im"}, {"type": "text", "text": "age>"}]


def test_escape_separates_parts_that_spell_a_token_together() -> None:
    parts = [{"type": "text", "text": text} for text in ("<im", "age", "> and <", "b>")]
    assert [part["text"] for part in escape_messages(parts, PATTERN)] == ["<im", " age", " > and <", " b>"]


def test_escape_leaves_parts_apart_that_an_image_separates() -> None:
    parts = [{"type": "text", "text": "<im"}, {"type": "image"}, {"type": "text", "text": "age>"}]
    assert escape_messages(parts, PATTERN) == parts


def test_escape_handles_tokens_that_the_space_completes() -> None:
    assert escape_messages("<a>", re.compile("<a>|< a>")) == "<  a>"


@pytest.mark.parametrize(("text", "tokens"), [("a\u2603b", "\u2603"), ("<a>", "<a>|<( )+a>")])
def test_escape_rejects_what_it_cannot_escape(text: str, tokens: str) -> None:
    with pytest.raises(
        ValueError, match=r"A message holds the control token '.*', which cannot be escaped; remove it"
    ):
        escape_messages(text, re.compile(tokens))


PIECES = st.lists(st.sampled_from(["<", "im", "age", ">", "|", "s", "<image>", "<|im_end|>", " ", "<s", "<im", "x"]))


@given(st.lists(st.one_of(PIECES.map("".join), st.none())))
def test_escape_leaves_no_token_in_any_mixture(texts: list[str | None]) -> None:
    parts = [{"type": "image"} if text is None else {"type": "text", "text": text} for text in texts]
    rendered = "".join(part.get("text", "\0") for part in escape_messages(parts, PATTERN))
    assert PATTERN.search(rendered) is None
    stripped = "".join(part.get("text", "\0") for part in parts)
    assert rendered.replace(" ", "") == stripped.replace(" ", "")
