# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Check messages before anything that they name is opened.

transformers opens what every part of a message names, audio and addresses among it, before the chat template sees the
part. So every part is checked first: a kind that the processor does not take is refused, and so is a source that would
be lost without a word.
"""

from collections.abc import Mapping
from typing import Any

# Keys of a part that name its source. transformers takes every one that it finds, so there must be one alone.
SOURCES = {"image": ("image", "url", "path", "base64"), "video": ("video", "url", "path")}
_MEDIA = ("image", "image_url", "base64", "video", "video_url", "audio", "input_audio")


class MessageError(ValueError):
    """A message of a conversation cannot be used."""


def check_conversation(conversation: object, *, takes_videos: bool) -> list[Any]:
    """Check a conversation, or a list of conversations.

    Args:
        conversation: A list of messages, a list of such lists, or objects with `messages`.
        takes_videos: Whether parts may be videos.

    Returns:
        A copy in lists and dicts. Keys whose value is None are left out, and parts of type `image_url` are `image`.

    Raises:
        MessageError: For the first message or part that cannot be used.
    """
    conversation = getattr(conversation, "messages", conversation)
    if not isinstance(conversation, list | tuple) or not conversation:
        raise MessageError(
            'A conversation must be a list of messages such as {"role": "user", "content": "Hello"}, or a list of '
            f"such lists; got {conversation!r:.80}."
        )
    items = [getattr(item, "messages", item) for item in conversation]
    if not any(isinstance(item, list | tuple) for item in items):
        return check_messages(items, "", takes_videos=takes_videos)
    return [
        check_messages(item, f" of sample {sample}", takes_videos=takes_videos) for sample, item in enumerate(items)
    ]


def check_messages(messages: object, of_sample: str, *, takes_videos: bool) -> list[dict[str, Any]]:
    """Check the messages of one conversation, see `check_conversation`; `of_sample` ends the names in errors."""
    if not isinstance(messages, list | tuple) or not messages:
        raise MessageError(f"The conversation{of_sample} must be a list of messages; got {messages!r:.80}.")
    return [_message(item, f"{number}{of_sample}", takes_videos) for number, item in enumerate(messages)]


def _as_dict(value: object) -> Any:
    """Return the fields of an object, such as a dataclass, as a dict; anything else as it is."""
    return dict(vars(value)) if hasattr(value, "__dict__") and not isinstance(value, Mapping) else value


def _message(message: object, where: str, takes_videos: bool) -> dict[str, Any]:
    message = _as_dict(message)
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or not message["role"]:
        raise MessageError(f"Message {where} must be a dict with a `role`; got {message!r:.80}.")
    kept = {key: value for key, value in message.items() if value is not None}
    content = kept.get("content")
    if isinstance(content, list | tuple):
        parts = [_part(part, f"Part {number} of message {where}", takes_videos) for number, part in enumerate(content)]
        return {**kept, "content": parts}
    if not isinstance(content, str) and not (content is None and kept.get("tool_calls")):
        raise MessageError(
            f"Message {where} must have a `content` that is text or a list of parts, or `tool_calls`; its content is "
            f"{content!r:.80}."
        )
    return kept


def _part(part: object, name: str, takes_videos: bool) -> dict[str, Any]:
    part = _as_dict(part)
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise MessageError(f'{name} must be a dict with a `type`, such as {{"type": "image"}}; got {part!r:.80}.')
    kept = {key: value for key, value in part.items() if value is not None}
    if kept["type"] == "image_url":
        kept = _of_address(kept, name)
    kind, takes = kept["type"], ("text", "image", "video") if takes_videos else ("text", "image")
    if kind not in takes:
        fix = "" if takes_videos or kind != "video" else ", because the processor has no video processor"
        raise MessageError(f"{name} must be of a type among {[*takes, 'image_url']}{fix}; got {kind!r}. Leave it out.")
    named = [key for key in kept if key in SOURCES.get(kind, ())]
    if lost := [key for key in kept if key in _MEDIA and key not in named]:
        raise MessageError(
            f"{name} is of type {kind!r} and names {lost}, which would be lost. Give each image and video a part of "
            f"its type, with its source as one of {[*SOURCES.get(kind, SOURCES['image'])]}."
        )
    if len(named) > 1:
        raise MessageError(f"{name} must name one {kind}; it has {named}. Make a part of each.")
    if kind == "text" and not isinstance(kept.get("text"), str):
        raise MessageError(f"{name} must have its text as `text`; got {kept.get('text')!r:.80}.")
    return kept


def _of_address(part: dict[str, Any], name: str) -> dict[str, Any]:
    """Convert OpenAI's form of an image part to ours."""
    address = part.pop("image_url", None)
    address = address.get("url") if isinstance(address, Mapping) else address
    if not isinstance(address, str):
        raise MessageError(
            f'{name} must be {{"type": "image_url", "image_url": {{"url": ...}}}}; it names no address.'
        )
    return {**part, "type": "image", "url": address}


def check_samples(rule: str, in_text: list[int], given: list[list[Any]], token: str, noun: str) -> None:
    """Check sample by sample if there is one list per sample; the error names the first wrong sample."""
    if len(given) != len(in_text):
        raise ValueError(f"{rule}: there are {len(given)} lists of {noun} for {len(in_text)} prompts.")
    for sample, (num_tokens, own) in enumerate(zip(in_text, given, strict=True)):
        if num_tokens != len(own):
            raise ValueError(f"{rule}: sample {sample} has {num_tokens} {token} tokens and {len(own)} {noun}.")
