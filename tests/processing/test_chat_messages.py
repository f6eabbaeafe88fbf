# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Messages: checked before anything that they name is opened."""

import dataclasses
import http.server
import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fila.processing.chat_messages import MessageError, check_conversation
from fila.processing.processing_fila import FilaProcessor
from tests.cases import each
from tests.helpers import random_image

ASK = {"tokenize": True, "return_dict": True}


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


class _Counting(http.server.ThreadingHTTPServer):
    daemon_threads = True
    connections = 0

    def verify_request(self, *args: Any) -> bool:
        self.connections += 1
        return False


@pytest.fixture(scope="module")
def server() -> Iterator[_Counting]:
    with _Counting(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


@each(
    "part",
    [
        {"type": "audio", "url": "ADDRESS"},
        {"type": "audio", "audio": "ADDRESS"},
        {"type": "audio", "path": "ADDRESS"},
        {"type": "input_audio", "input_audio": {"data": "ADDRESS", "format": "wav"}},
        {"type": "video", "url": "ADDRESS"},
        {"type": "video_url", "video_url": {"url": "ADDRESS"}},
        {"type": "image", "url": "ADDRESS"},
        {"type": "image", "image": "ADDRESS"},
        {"type": "image_url", "image_url": {"url": "ADDRESS"}},
        {"type": "text", "text": "a", "audio": "ADDRESS"},
        {"type": "file", "file": {"file_id": "ADDRESS"}},
    ],
    ids=str,
)
@each("role", ["user", "tool"])
def test_no_part_of_a_message_opens_an_address(
    server: _Counting, processor: FilaProcessor, part: dict[str, Any], role: str
) -> None:
    address = f"http://127.0.0.1:{server.server_port}/a.wav"
    part = json.loads(json.dumps(part).replace("ADDRESS", address))
    messages = [{"role": role, "content": [{"type": "text", "text": "a"}, part]}]
    for conversation in (messages, [messages, messages]):
        with pytest.raises(ValueError, match=r"of a type among|would be lost|which is not allowed"):
            processor.apply_chat_template(conversation, **ASK)
    assert server.connections == 0


def test_the_sound_of_a_video_is_refused(server: _Counting, processor: FilaProcessor) -> None:
    messages = user({"type": "video", "url": f"http://127.0.0.1:{server.server_port}/a.mp4"})
    with pytest.raises(MessageError, match=r"`load_audio_from_video` must be left out: the model does not hear"):
        processor.apply_chat_template(messages, **ASK, load_audio_from_video=True)
    assert server.connections == 0


@each(
    ("conversation", "match"),
    [
        ([], r"A conversation must be a list of messages such as .*; got \[\]"),
        ("x", r"A conversation must be a list of messages such as .*; got 'x'"),
        ({"role": "user", "content": "a"}, r"A conversation must be a list of messages such as"),
        (["x"], r"Message 0 must be a dict with a `role`; got 'x'"),
        ([[]], r"The conversation of sample 0 must be a list of messages; got \[\]"),
        ([[{"role": "user", "content": "a"}], 5], r"The conversation of sample 1 must be a list of messages; got 5"),
        ([{"content": "a"}], r"Message 0 must be a dict with a `role`; got \{'content': 'a'\}"),
        ([{"role": "user", "content": 5}], r"Message 0 must have a `content` that is text or a list .* content is 5"),
        ([{"role": "user", "content": {"type": "image"}}], r"Message 0 must have a `content` that is text or a list"),
        ([{"role": "user", "contents": "a"}], r"Message 0 must have a `content` .*; its content is None"),
        ([user("x")], r"Part 0 of message 0 of sample 0 must be a dict with a `type`, such as .*; got 'x'"),
        (user({"text": "a"}), r"Part 0 of message 0 must be a dict with a `type`"),
        (user({"type": "text", "text": None}), r"Part 0 of message 0 must have its text as `text`; got None"),
        (user({"type": "text", "text": 5}), r"Part 0 of message 0 must have its text as `text`; got 5"),
        (user({"type": "text", "text": "a", "image": "b"}), r"is of type 'text' and names \['image'\], which would"),
        (user({"type": "image", "image_url": "b"}), r"is of type 'image' and names \['image_url'\], which would be"),
        (user({"type": "image", "url": "a", "path": "b"}), r"must name one image; it has \['url', 'path'\]"),
        (user({"type": "image_url", "image_url": {}}), r"Part 0 of message 0 must be .* it names no address"),
        (user({"type": "video"}), r"\['text', 'image', 'image_url'\], because the processor has no video processor"),
        (user({"type": "audio"}), r"of a type among \['text', 'image', 'image_url'\]; got 'audio'"),
    ],
    ids=str,
)
@each("tokenize", [False, True])
def test_what_is_no_message_is_refused(
    processor: FilaProcessor, conversation: Any, match: str, tokenize: bool
) -> None:
    with pytest.raises(MessageError, match=match):
        processor.apply_chat_template(conversation, tokenize=tokenize)


def test_none_is_no_value_and_an_address_is_an_image() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "ocr"}]}
    address = {"type": "image_url", "image_url": {"url": "a.png", "detail": "high"}, "text": None}
    found = check_conversation([*user(address), call], takes_videos=False)
    assert found[0]["content"] == [{"type": "image", "url": "a.png"}]
    assert found[1] == {"role": "assistant", "tool_calls": [{"name": "ocr"}]}


def test_objects_that_hold_messages_are_taken(processor: FilaProcessor) -> None:
    messages = user({"type": "text", "text": "a"})
    expected = processor.apply_chat_template(messages)
    assert processor.apply_chat_template(SimpleNamespace(messages=messages)) == expected  # type: ignore[arg-type]
    assert processor.apply_chat_template([SimpleNamespace(messages=messages)]) == [expected]  # type: ignore[list-item]


def test_an_empty_list_of_any_kind_is_none(processor: FilaProcessor) -> None:
    expected = processor(text="a")["input_ids"]
    assert processor(text="a", images=[], videos=[], audio=[], audios=[[]], image=None)["input_ids"] == expected


@pytest.mark.parametrize("name", ["audio", "audios", "image", "video"])
def test_a_kind_that_is_not_taken_is_refused(processor: FilaProcessor, name: str) -> None:
    with pytest.raises(ValueError, match=f"takes `text`, `images` and `videos`; got `{name}`"):
        processor(text="a", **{name: [random_image(9, 9)]})


@dataclasses.dataclass
class Block:
    text: str
    type: str = "text"


@dataclasses.dataclass
class Message:
    role: str
    content: list[Any]
    tool_calls: list[Any] | None = None


def test_objects_are_read_as_the_dicts_of_their_fields() -> None:
    expected = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    assert check_conversation([Message("user", [Block("a")])], takes_videos=False) == expected
