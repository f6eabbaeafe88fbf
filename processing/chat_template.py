# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The default chat template: ChatML, as SmolLM and many LLaMA fine-tunes use it.

    <|im_start|>user
    <image>What is this?<|im_end|>
    <|im_start|>assistant
    A cat.<|im_end|>

Contents are strings, or lists of parts: `{"type": "text", "text": ...}`, `{"type": "image", ...}` and
`{"type": "video", ...}`, written one after the other as they come. There is no default system prompt. The
`generation` spans hold the assistant's text and the `<|im_end|>` that ends it, so that a model trained on them learns
to stop. Tools and calls of them are refused: there is no form in which models of this template have learnt them.
"""

import json
import re
from collections.abc import Sequence

# Put before a template that expects messages to be strings: makes one string of a message's text and images.
_JOIN_PARTS = """\
{%- set flat = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- if message['content'] is string or not message['content'] -%}
{%- set flat.messages = flat.messages + [message] -%}
{%- else -%}
{%- set joined = namespace(text='') -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}
{%- set joined.text = joined.text ~ part['text'] -%}
{%- elif part['type'] in ('image', 'video') -%}
{%- if part['type'] == 'image' -%}
{%- set joined.text = joined.text ~ (image_token | default('<image>')) -%}
{%- else -%}
{%- set joined.text = joined.text ~ (video_token | default('<video>')) -%}
{%- endif -%}
{%- if not loop.last -%}
{%- set joined.text = joined.text ~ media_end -%}
{%- endif -%}
{%- else -%}
{{- raise_exception("A part of a message must be of type 'text', 'image' or 'video'; got " ~ part['type']) -}}
{%- endif -%}
{%- endfor -%}
{%- set flat.messages = flat.messages + [dict(message, content=joined.text)] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = flat.messages -%}
"""
# Put before a template, behind a line that sets `control_tokens`: does what `escape_messages` does.
# Jinja cannot rebuild what is nested deeper, such as tools, so control tokens there are refused.
_ESCAPES = """\
{%- macro as_text(text) -%}
{%- set own = namespace(text=text) -%}
{%- for _ in range(3) -%}
{%- for token in control_tokens -%}
{%- if token in own.text -%}
{%- set own.text = own.text.replace(token, token[0] ~ ' ' ~ token[1:]) -%}
{%- endif -%}
{%- endfor -%}
{%- endfor -%}
{{- refuse(own.text, 'A message') -}}
{{- own.text -}}
{%- endmacro -%}
{%- macro refuse(value, name) -%}
{%- for token in control_tokens -%}
{%- if token in (value | string) -%}
{{- raise_exception(name ~ " holds the control token '" ~ token ~ "', which cannot be escaped; remove it.") -}}
{%- endif -%}
{%- endfor -%}
{%- endmacro -%}
{{- refuse(tools | default('', true), 'The list of tools') -}}
{{- refuse(documents | default('', true), 'The list of documents') -}}
{%- set safe = namespace(messages=[], message={}, parts=[], part={}, run='') -%}
{%- for message in messages -%}
{%- set safe.message = {} -%}
{%- for key, value in message.items() -%}
{%- if value is string -%}
{%- set safe.message = dict(safe.message, **{key: as_text(value)}) -%}
{%- elif key == 'content' and value -%}
{%- set safe.parts = [] -%}
{%- set safe.run = '' -%}
{%- for part in value -%}
{%- if part is string -%}
{%- set safe.part = as_text(part) -%}
{%- elif part['type'] in ('image', 'image_url', 'video', 'audio') -%}
{%- set safe.part = part -%}
{%- set safe.run = '' -%}
{%- else -%}
{%- set safe.part = {} -%}
{%- for name, text in part.items() -%}
{%- set safe.part = dict(safe.part, **{name: as_text(text) if text is string else text}) -%}
{%- endfor -%}
{%- if part['text'] is string -%}
{%- for token in control_tokens -%}
{%- if token in safe.run ~ safe.part['text'] -%}
{%- set safe.part = dict(safe.part, text=' ' ~ safe.part['text']) -%}
{%- endif -%}
{%- endfor -%}
{%- set safe.run = safe.run ~ safe.part['text'] -%}
{%- endif -%}
{%- endif -%}
{%- set safe.parts = safe.parts + [safe.part] -%}
{%- endfor -%}
{%- set safe.message = dict(safe.message, content=safe.parts) -%}
{%- else -%}
{{- refuse(value, "A message's `" ~ key ~ "`") -}}
{%- set safe.message = dict(safe.message, **{key: value}) -%}
{%- endif -%}
{%- endfor -%}
{%- set safe.messages = safe.messages + [safe.message] -%}
{%- endfor -%}
{%- set messages = safe.messages -%}
"""
REFUSES_TOOL_CALLS = """\
{%- if message['tool_calls'] -%}
{{- raise_exception("This chat template has no place for a message's `tool_calls`. Pass one that writes them.") -}}
{%- endif -%}
"""
DEFAULT_CHAT_TEMPLATE = (
    """\
{%- macro render(content) -%}
{%- if content is string -%}
{{- content -}}
{%- else -%}
{%- for part in content -%}
{%- if part['type'] == 'text' -%}
{{- part['text'] -}}
{%- elif part['type'] == 'image' -%}
{{- image_token | default('<image>') -}}
{%- elif part['type'] == 'video' -%}
{{- video_token | default('<video>') -}}
{%- else -%}
{{- raise_exception("A part of a message must be of type 'text', 'image' or 'video'; got " ~ part['type']) -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- if tools -%}
{{- raise_exception("This chat template has no place for `tools`. Pass a `chat_template` that writes them.") -}}
{%- endif -%}
{%- for message in messages -%}
"""
    + REFUSES_TOOL_CALLS
    + """\
{{- '<|im_start|>' ~ message['role'] ~ '\\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}
{{- render(message['content']) ~ '<|im_end|>' -}}
{%- endgeneration -%}
{%- else -%}
{{- render(message['content']) ~ '<|im_end|>' -}}
{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
)


def with_values(template: str, **values: str | list[str]) -> str:
    """The template with values for some of its variables, whoever renders it."""
    settings = [f"{{%- set {name} = {json.dumps(value, ensure_ascii=False)} -%}}\n" for name, value in values.items()]
    return "".join(settings) + template


def writes_tool_calls(template: str) -> bool:
    """Whether a template has a place for the calls of tools in messages, or does more than refuse them."""
    return "tool_calls" in template.replace(REFUSES_TOOL_CALLS, "")


def marks_assistant(template: str) -> bool:
    """Whether a chat template marks what the assistant writes."""
    return re.search(r"\{%-?\s*generation\s*-?%\}", template) is not None


def with_joined_parts(template: str, *, image_token: str, media_end: str) -> str:
    """A language model's template, which takes strings as messages, made to take images and videos.

    Args:
        template: The template.
        image_token: What stands for an image.
        media_end: What stands between an image or a video and what follows it.
    """
    return with_values(_JOIN_PARTS + template, image_token=image_token, media_end=media_end)


def with_escapes(template: str, control_tokens: Sequence[str]) -> str:
    """The template, made to keep what users write from becoming control tokens, whoever renders it.

    Args:
        template: The template; what an earlier call put before it is replaced.
        control_tokens: The longest first.
    """
    template = re.sub(r"\{%- set control_tokens = .* -%\}\n" + re.escape(_ESCAPES), "", template)
    return with_values(_ESCAPES + template, control_tokens=list(control_tokens))
