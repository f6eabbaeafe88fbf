# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Mark the tokens that the assistant wrote, after images have been expanded.

A chat template marks the assistant's text by character positions in the prompt; each expanded image token moves the
positions after it. Newer versions of transformers correct that in `ProcessorMixin`. This file is for older versions,
and for templates that mark nothing, as those of most language models.
"""

import inspect
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin
from transformers.utils.chat_template_utils import _get_template_variables, render_jinja_template

from .chat_template import marks_assistant

if TYPE_CHECKING:
    from .processing_fila import FilaProcessor


def assistant_spans(render: Callable[[list[Any], bool], str], messages: list[Any]) -> list[tuple[int, int]]:
    """Find the spans that the assistant's messages add to a prompt, for a template that does not mark them.

    Args:
        render: Function that renders messages; with True it appends the beginning of an answer.
        messages: A conversation.

    Returns:
        (start, end) in characters of the prompt of all messages, without the white space after a turn.

    Raises:
        ValueError: If the prompt of all messages does not begin with the prompt of the first ones.

    Example:
        >>> def render(messages, begin_answer):
        ...     return "".join(f"{m['role'][0]}:{m['content']}; " for m in messages) + "a:" * begin_answer
        >>> turns = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Two."}]
        >>> assistant_spans(render, turns), render(turns, False)[10:15]
        ([(10, 15)], 'Two.;')
    """
    prompt, spans = render(messages, False), []
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            before, after = render(messages[:number], True), render(messages[: number + 1], False)
            if not (prompt.startswith(before) and prompt.startswith(after)):
                raise ValueError(
                    "A chat template must mark what the assistant writes with {% generation %} and {% endgeneration "
                    f"%}}, or write messages one after the other; this one does neither, as message {number} shows."
                )
            spans.append((len(before), len(after.rstrip())))
    return spans


def assistant_masks(
    offset_mapping: Sequence[Sequence[Sequence[int]]],
    replacements: Sequence[Sequence[dict[str, Any]]],
    spans: Sequence[Sequence[Sequence[int]]],
) -> list[list[int]]:
    """Mark the tokens that overlap a span of the assistant.

    Args:
        offset_mapping: Per sample and token, (start, end) in characters of the expanded prompt; padding is empty.
        replacements: Per sample, the expansions: `span` in the prompt and `new_span` in the expanded prompt.
        spans: Per sample, (start, end) in characters of the prompt.

    Returns:
        Per sample, 1 for each token of the assistant and 0 for every other.

    Example:
        >>> expanded = [{"span": (0, 1), "new_span": (0, 3)}]
        >>> assistant_masks([[(0, 1), (1, 2), (2, 3), (3, 4), (0, 0)]], [expanded], [[(1, 2)]])
        [[0, 0, 0, 1, 0]]
    """
    masks = []
    for offsets, expansions, sample_spans in zip(offset_mapping, replacements, spans, strict=True):
        ends = [expansion["span"][1] for expansion in expansions]
        gained = [0, *(expansion["new_span"][1] - expansion["span"][1] for expansion in expansions)]
        moved = [[edge + gained[bisect_right(ends, edge)] for edge in span] for span in sample_spans]
        masks.append([int(any(start < stop and end > first for first, stop in moved)) for start, end in offsets])
    return masks


def apply_with_masks(
    processor: "FilaProcessor",
    conversation: list[Any],
    chat_template: str | None,
    template: str,
    of_kept: Callable[[list[Any]], list[Any]],
    **kwargs: Any,
) -> BatchFeature:
    """Apply a chat template with `return_assistant_tokens_mask` where transformers cannot.

    Args:
        processor: The `FilaProcessor`.
        conversation: Checked messages.
        chat_template: The template with its variables, or None for the processor's own.
        template: The template without its variables.
        of_kept: Function from a list with one entry per conversation to the entries that the call kept.
        kwargs: Arguments of `ProcessorMixin.apply_chat_template`.
    """
    of_base = inspect.signature(ProcessorMixin.apply_chat_template).parameters
    of_template = _get_template_variables(template)
    processor_kwargs = dict(kwargs.pop("processor_kwargs", None) or {})
    processor_kwargs |= {
        name: kwargs.pop(name) for name in [*kwargs] if name not in of_base and name not in of_template
    }
    processor_kwargs |= {"return_offsets_mapping": True, "return_text_replacement_offsets": True}
    kwargs["return_assistant_tokens_mask"] = False
    outputs: Any = ProcessorMixin.apply_chat_template(
        processor, conversation, chat_template, processor_kwargs=processor_kwargs, **kwargs
    )

    variables = {name: value for name, value in kwargs.items() if name not in of_base}

    def render(chats: list[Any], begin_answer: bool, is_marked: bool) -> tuple[list[str], list[Any]]:
        rendered: Any = render_jinja_template(
            conversations=chats,
            chat_template=template,
            tools=kwargs["tools"],
            documents=kwargs["documents"],
            return_assistant_tokens_mask=is_marked,
            add_generation_prompt=begin_answer,
            **{**processor.tokenizer.special_tokens_map, **variables},
        )
        rendered_and_spans: tuple[list[str], list[Any]] = rendered
        return rendered_and_spans

    chats = conversation if isinstance(conversation[0], list) else [conversation]
    if marks_assistant(template):
        _, spans = render(chats, kwargs.get("add_generation_prompt", False), True)
    else:
        spans = [assistant_spans(lambda some, begin: render([some], begin, False)[0][0], chat) for chat in chats]
    offsets = np.asarray(outputs.pop("offset_mapping"), dtype=object).tolist()
    replaced = outputs.pop("text_replacement_offsets")
    outputs["assistant_masks"] = assistant_masks(offsets, replaced, of_kept(spans))
    return outputs.convert_to_tensors(kwargs.get("return_tensors") or processor_kwargs.get("return_tensors"))
