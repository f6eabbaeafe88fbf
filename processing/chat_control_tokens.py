# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Keep users' text from becoming control tokens.

A message may hold the text `<image>` or `<|im_end|>`. Unchanged in a prompt, it would act as an image or end the turn.
Such text is *escaped*: a space after its first character (`< image>`) makes it ordinary text for every tokenizer, on
every version of transformers. Text that cannot be escaped that way is rejected.

The template that a processor saves escapes by itself (`with_escapes` of `chat_template.py`), for programs that render
it without this processor, such as a server.
"""

import re
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

logger = logging.get_logger(__name__)

MEDIA_TYPES = ("image", "image_url", "video", "audio")
MEDIA_SOURCES = ("image", "image_url", "video", "audio", "url", "path", "base64")


def control_tokens(tokenizer: PreTrainedTokenizerBase, template: str, image_token: str) -> list[str]:
    """Return every control token, the longest first.

    Control tokens are the image token, the tokenizer's special tokens, and its other added tokens if the chat template
    writes them.
    """
    added = [token for token in tokenizer.added_tokens_decoder.values() if token.content.strip()]
    tokens = {token.content for token in added if token.special or token.content in template} | {image_token}
    return sorted(tokens, key=lambda token: (-len(token), token))


def added_token_id(tokenizer: PreTrainedTokenizerBase, token: str, noun: str) -> int:
    """Return the id of the placeholder of images or videos.

    Args:
        tokenizer: The tokenizer.
        token: The placeholder.
        noun: "image" or "video", for the error.

    Raises:
        ValueError: If it is not an added token of the tokenizer.
    """
    token_id: int | None = tokenizer.get_added_vocab().get(token)
    if token_id is None:
        raise ValueError(
            f"The {noun} token {token!r} must be an added token of the tokenizer; add it with "
            f"`tokenizer.add_tokens([{token!r}], special_tokens=True)`."
        )
    return token_id


def control_token_pattern(tokenizer: PreTrainedTokenizerBase, template: str, image_token: str) -> re.Pattern[str]:
    """Compile a pattern that matches every control token."""
    return re.compile("|".join(map(re.escape, control_tokens(tokenizer, template, image_token))))


def escape_messages(messages: object, pattern: re.Pattern[str]) -> Any:
    """Escape control tokens in every string of messages, tools or documents.

    Args:
        messages: Any nesting of lists and dicts. Sources of images and other media are not changed.
        pattern: Result of `control_token_pattern`.

    Returns:
        A copy that shares images and other objects with `messages`.

    Raises:
        ValueError: If a control token cannot be escaped.
    """
    if isinstance(messages, str):
        return _escape(messages, pattern)
    if isinstance(messages, dict):
        kept = MEDIA_SOURCES if messages.get("type") in MEDIA_TYPES else ()
        return {key: value if key in kept else escape_messages(value, pattern) for key, value in messages.items()}
    if isinstance(messages, list | tuple):
        return _separate([escape_messages(item, pattern) for item in messages], pattern)
    return messages


def _escape(text: str, pattern: re.Pattern[str]) -> str:
    escaped = text
    # A space may complete another token, hence the loop; real tokenizers need fewer than three rounds.
    for _ in range(3):
        if (match := pattern.search(escaped)) is None:
            break
        logger.warning_once(
            f"A message holds the control token {match[0]!r} as text; a space is put into it to keep it text. Images "
            'go into a message as {"type": "image"} parts.'
        )
        escaped = pattern.sub(lambda found: f"{found[0][:1]} {found[0][1:]}", escaped)
    if (match := pattern.search(escaped)) is not None:
        raise ValueError(f"A message holds the control token {match[0]!r}, which cannot be escaped; remove it.")
    return escaped


def _separate(items: list[Any], pattern: re.Pattern[str]) -> list[Any]:
    """Put a space between text parts that spell a control token together, such as `<im` and `age>`."""
    run: list[dict[str, Any]] = []
    for item in [*items, None]:
        if isinstance(item, dict) and isinstance(item.get("text"), str):
            run.append(item)
            continue
        if pattern.search("".join(part["text"] for part in run)):
            for part in run[1:]:
                part["text"] = f" {part['text']}"
        run = []
    return items
