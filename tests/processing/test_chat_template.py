# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The default chat template, as text."""

from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from transformers import AutoTokenizer

from fila.processing.chat_template import with_escapes
from fila.processing.processing_fila import FilaProcessor

TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "user",
        "content": [
            {"type": "image"},
            {"type": "text", "text": "Compare with "},
            {"type": "image"},
            {"type": "text", "text": "."},
        ],
    },
    {"role": "assistant", "content": [{"type": "text", "text": "Same."}]},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes."},
]
RENDERED = """\
<|im_start|>system
Be brief.<|im_end|>
<|im_start|>user
<image>Compare with <image>.<|im_end|>
<|im_start|>assistant
Same.<|im_end|>
<|im_start|>user
Sure?<|im_end|>
<|im_start|>assistant
Yes.<|im_end|>
"""


def test_template_renders_turns_images_and_both_kinds_of_content(processor: FilaProcessor) -> None:
    assert processor.apply_chat_template(TURNS) == RENDERED


def test_template_adds_no_system_prompt(processor: FilaProcessor) -> None:
    assert processor.apply_chat_template(TURNS[3:4]) == "<|im_start|>user\nSure?<|im_end|>\n"


def test_template_adds_the_generation_prompt(processor: FilaProcessor) -> None:
    rendered = processor.apply_chat_template(TURNS[3:4], add_generation_prompt=True)
    assert rendered == "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n"


def test_template_continues_a_message(processor: FilaProcessor) -> None:
    rendered = processor.apply_chat_template(TURNS[3:], continue_final_message=True)
    assert rendered == "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\nYes."


def test_template_keeps_whitespace_of_contents(processor: FilaProcessor) -> None:
    rendered = processor.apply_chat_template([{"role": "user", "content": "  a\n\nb \n"}])
    assert rendered == "<|im_start|>user\n  a\n\nb \n<|im_end|>\n"


def test_template_rejects_other_parts_where_a_server_renders_it(processor: FilaProcessor) -> None:
    messages = [{"role": "user", "content": [{"type": "audio", "video": "a.mp4"}]}]
    with pytest.raises(
        TemplateError, match="A part of a message must be of type 'text', 'image' or 'video'; got audio"
    ):
        processor.tokenizer.apply_chat_template(messages, chat_template=processor.chat_template, tokenize=False)


CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {}}}


@pytest.mark.parametrize(
    ("calls", "tools", "message"),
    [
        (None, [CALL], r"This chat template has no place for `tools`\. Pass a `chat_template` that writes them\."),
        (
            [CALL],
            None,
            r"This chat template has no place for a message's `tool_calls`\. Pass one that writes them",
        ),
    ],
)
def test_template_rejects_what_it_would_leave_out(
    processor: FilaProcessor, calls: Any, tools: Any, message: str
) -> None:
    with pytest.raises(TemplateError, match=message):
        processor.apply_chat_template([{"role": "assistant", "content": "", "tool_calls": calls}], tools=tools)


@pytest.mark.parametrize("nothing", [None, []])
def test_template_takes_messages_that_say_there_are_no_tools(processor: FilaProcessor, nothing: Any) -> None:
    turns = [{**turn, "tool_calls": nothing} for turn in TURNS]
    assert processor.apply_chat_template(turns, tools=nothing) == RENDERED


HOSTILE = [
    "x<image>y",
    "<|im_end|>",
    "<<image>image>",
    [{"type": "image"}, {"type": "text", "text": "</s><image>"}],
    [{"type": "text", "text": "<im"}, {"type": "text", "text": "age>"}, {"type": "image"}],
]


@pytest.mark.parametrize("content", HOSTILE, ids=str)
def test_saved_template_escapes_as_the_processor_does(processor: FilaProcessor, tmp_path: Path, content: Any) -> None:
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "<pad>"}]
    expected = processor.apply_chat_template(messages)
    processor.save_pretrained(tmp_path)
    server = AutoTokenizer.from_pretrained(tmp_path)
    assert server.apply_chat_template(messages, tokenize=False) == expected
    assert processor.apply_chat_template(messages) == expected


@pytest.mark.parametrize("name", ["tools", "documents"])
def test_saved_template_refuses_control_tokens_that_it_cannot_escape(processor: FilaProcessor, name: str) -> None:
    template = with_escapes("{{ messages[0]['content'] }}", ["<image>"])
    values: dict[str, Any] = {name: [{"title": "<image>", "text": ""}]}
    with pytest.raises(TemplateError, match=f"The list of {name} holds the control token '<image>', which cannot be"):
        processor.tokenizer.apply_chat_template(TURNS[3:], chat_template=template, tokenize=False, **values)


def test_escapes_are_written_once() -> None:
    once = with_escapes("{{ messages }}", ["<image>", "<a>"])
    assert with_escapes(with_escapes("{{ messages }}", ["<b>"]), ["<image>", "<a>"]) == once
