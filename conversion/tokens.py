# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The tokenizer's side of a checkpoint: the image token, the pad token, the chat template, the vocabulary's size."""

from collections.abc import Callable, Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import AddedToken

# A matrix that has to grow grows to a multiple of this, which tensor parallelism and fast kernels like.
VOCABULARY_MULTIPLE = 64
# Tokens that language models ship for padding without declaring them.
_PAD_TOKENS = ("<|finetune_right_pad_id|>", "<|pad|>", "<pad>", "[PAD]", "<unk>")


def add_image_token(tokenizer: Any, image_token: str) -> int:
    """Make `image_token` a special token of the tokenizer, reusing one it has.

    Returns:
        Its id.
    """
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    if image_token not in added:
        tokenizer.add_tokens([AddedToken(image_token, special=True, normalized=False)], special_tokens=True)
    return int(tokenizer.convert_tokens_to_ids(image_token))


def image_token_of(tokenizer: Any, image_token: str) -> str:
    """The image token: the one that the tokenizer names itself, else `image_token`."""
    return str(getattr(tokenizer, "image_token", None) or image_token)


def ensure_pad_token(tokenizer: Any, image_token: str) -> None:
    """Give the tokenizer a pad token other than the image token, so that samples can be batched."""
    if tokenizer.pad_token not in (None, image_token):
        return
    vocabulary = tokenizer.get_vocab()
    usable = [token for token in _PAD_TOKENS if token in vocabulary and token != image_token]
    found = usable[0] if usable else tokenizer.eos_token
    if found is None:
        raise ValueError("The text part's tokenizer has neither a pad token nor an eos token; set `pad_token` in it.")
    tokenizer.pad_token = found


def padded_vocabulary(tokenizer: Any, num_rows: int) -> int:
    """Rows that the embedding needs: the `num_rows` it has if every id fits, else the next multiple of 64."""
    needed = 1 + max(tokenizer.get_vocab().values())
    if needed <= num_rows:
        return num_rows
    return -(-needed // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


# What the default template writes around a turn.
TURN_END = "<|im_end|>"
TURN_TOKENS = ("<|im_start|>", TURN_END)
_DIALOGUE = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "Three?"},
]


def choose_chat_template(
    tokenizer: Any,
    image_token: str,
    *,
    own: str | None = None,
    of_system: Callable[[str | None], str | None] = lambda own: None,
    media_end: str = "",
) -> str:
    """Choose the prompt format: the one that the language model was trained with, able to place images.

    In this order: the checkpoint's own template if it places images; that of its system; the default if it writes the
    same dialogue as the own (and marks the assistant's turns, which the own may not); the own template behind a
    prelude that joins the parts of a message; the default, for a tokenizer without a template, which is given the
    tokens that it writes, so that its vocabulary may grow.

    Args:
        tokenizer: The tokenizer.
        image_token: What stands for an image.
        own: The checkpoint's template, where it is not the tokenizer's.
        of_system: Gives the template of the system, if it has one, for a checkpoint whose own is the argument.
        media_end: What the prelude writes between an image or a video and what follows it.
    """
    from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE, with_joined_parts, with_values

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
    if image_token == "<image>":  # which the default writes by itself
        return DEFAULT_CHAT_TEMPLATE
    return with_values(DEFAULT_CHAT_TEMPLATE, image_token=image_token)


def places_images(tokenizer: Any, template: str, image_token: str) -> bool:
    """Whether a chat template writes the image token once for an image, wherever it wants images."""
    content = [{"type": "text", "text": "before"}, {"type": "image"}, {"type": "text", "text": "after"}]
    text = _render(tokenizer, template, [{"role": "user", "content": content}], image_token) or ""
    return text.count(image_token) == 1 and "after" in text.partition("before")[2]


def unescaped_tokens(tokenizer: Any, template: str, control_tokens: Sequence[str]) -> list[str]:
    """Return the control tokens that a chat template writes as they are where a user's text holds them."""

    def count(token: str, text: str) -> int:
        prompts = [
            _render(tokenizer, template, [{"role": "user", "content": content}], "<image>")
            for content in (text, [{"type": "text", "text": text}])
        ]
        return sum((prompt or "").count(token) for prompt in prompts)

    return [token for token in control_tokens if count(token, f"a {token} b") > count(token, "a b")]


def _render(tokenizer: Any, template: str | None, messages: list[dict[str, Any]], image_token: str) -> str | None:
    """The prompt, or `None` if there is no template or it cannot write it."""
    if not template:
        return None
    try:
        prompt = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True, image_token=image_token
        )
    except (TemplateError, TypeError, ValueError, KeyError):
        return None
    return str(prompt)
