# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Choice of a checkpoint's chat template, and checks of how a template writes images and control tokens."""

from collections.abc import Callable, Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import AddedToken, PreTrainedTokenizerBase

from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE, with_joined_parts, with_values

# Tokens of the default template around a turn.
TURN_END = "<|im_end|>"
TURN_TOKENS = ("<|im_start|>", TURN_END)
_DIALOGUE = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "Three?"},
]


def choose_chat_template(
    tokenizer: PreTrainedTokenizerBase,
    image_token: str,
    *,
    own: str | None = None,
    of_system: Callable[[str | None], str | None] = lambda own: None,
    media_end: str = "",
) -> str:
    """Choose a chat template that can place images and matches the language model's training format.

    In this order: the checkpoint's own template if it places images; that of its system; the default if it writes the
    same dialogue as the own (and marks the assistant's turns, which the own may not); the own template behind a
    prelude that joins the parts of a message; the default, for a tokenizer without a template, which is given the
    tokens that it writes, so that its vocabulary may grow.

    Args:
        tokenizer: The tokenizer.
        image_token: Placeholder of an image.
        own: The checkpoint's template, where it is not the tokenizer's.
        of_system: Function from the checkpoint's own template to the template of its system, if it has one.
        media_end: What the prelude writes between an image or a video and what follows it.
    """
    own = own or tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default")
    if own and places_images(tokenizer, own, image_token):
        return str(own)
    if template := of_system(own):
        return template
    joined = with_joined_parts(own or "", image_token=image_token, media_end=media_end)
    same = not media_end and all(
        _render(tokenizer, own, dialogue, image_token)
        == _render(tokenizer, DEFAULT_CHAT_TEMPLATE, dialogue, image_token)
        for dialogue in (_DIALOGUE, _DIALOGUE[1:])  # a template may have a system message of its own
    )
    if own and not same and places_images(tokenizer, joined, image_token):
        return joined
    tokenizer.add_tokens(
        [AddedToken(token, special=True, normalized=False) for token in TURN_TOKENS], special_tokens=True
    )
    if image_token == "<image>":  # the default template writes it itself
        return DEFAULT_CHAT_TEMPLATE
    return with_values(DEFAULT_CHAT_TEMPLATE, image_token=image_token)


def places_images(tokenizer: PreTrainedTokenizerBase, template: str, image_token: str) -> bool:
    """Return whether a chat template writes the image token exactly once per image."""
    content = [{"type": "text", "text": "before"}, {"type": "image"}, {"type": "text", "text": "after"}]
    text = _render(tokenizer, template, [{"role": "user", "content": content}], image_token) or ""
    return text.count(image_token) == 1 and "after" in text.partition("before")[2]


def unescaped_tokens(tokenizer: PreTrainedTokenizerBase, template: str, control_tokens: Sequence[str]) -> list[str]:
    """Return the control tokens in a user's text that a chat template does not escape."""

    def count(token: str, text: str) -> int:
        prompts = [
            _render(tokenizer, template, [{"role": "user", "content": content}], "<image>")
            for content in (text, [{"type": "text", "text": text}])
        ]
        return sum((prompt or "").count(token) for prompt in prompts)

    return [token for token in control_tokens if count(token, f"a {token} b") > count(token, "a b")]


def _render(
    tokenizer: PreTrainedTokenizerBase, template: str | None, messages: list[dict[str, Any]], image_token: str
) -> str | None:
    """Return the prompt, or `None` if there is no template or rendering fails."""
    if not template:
        return None
    try:
        prompt = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True, image_token=image_token
        )
    except (TemplateError, TypeError, ValueError, KeyError):
        return None
    return str(prompt)
