# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Default chat template: ChatML, as used by SmolLM and many LLaMA fine-tunes.

    <|im_start|>user
    <image>What is this?<|im_end|>
    <|im_start|>assistant
    A cat.<|im_end|>

Contents are strings, or lists of parts: `{"type": "text", "text": ...}`, `{"type": "image", ...}` and
`{"type": "video", ...}`, written in their order. There is no default system prompt. The `generation` spans hold the
assistant's text and the `<|im_end|>` that ends it, so that a model trained on them learns to stop. The template
rejects tools and tool calls, because models with this template were not trained on any form of them.
"""

import json
import re
from collections.abc import Sequence

# Prefix for templates that expect strings as messages: joins a message's text and images into one string.
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
# Prefix for templates, after a line that sets `control_tokens`: does the same as `escape_messages` of
# chat_control_tokens.py. Jinja cannot rebuild deeper nesting, such as tools, so control tokens there are rejected.
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
    """Return the template with values set for some of its variables, for every renderer."""
    settings = [f"{{%- set {name} = {json.dumps(value, ensure_ascii=False)} -%}}\n" for name, value in values.items()]
    return "".join(settings) + template


def writes_tool_calls(template: str) -> bool:
    """Return whether a template writes the tool calls of messages rather than ignoring or rejecting them."""
    return "tool_calls" in template.replace(REFUSES_TOOL_CALLS, "")


def marks_assistant(template: str) -> bool:
    """Return whether a chat template marks the assistant's text."""
    return re.search(r"\{%-?\s*generation\s*-?%\}", template) is not None


def with_joined_parts(template: str, *, image_token: str, media_end: str) -> str:
    """Extend a language model's template, which takes strings as messages, to images and videos.

    Args:
        template: The template.
        image_token: Placeholder of an image.
        media_end: Text between an image or a video and the next part.
    """
    return with_values(_JOIN_PARTS + template, image_token=image_token, media_end=media_end)


def with_escapes(template: str, control_tokens: Sequence[str]) -> str:
    """Extend a template so that users' text never becomes control tokens, for every renderer.

    Args:
        template: The template; the prefix of an earlier call is replaced.
        control_tokens: Control tokens, the longest first.
    """
    template = re.sub(r"\{%- set control_tokens = .* -%\}\n" + re.escape(_ESCAPES), "", template)
    return with_values(_ESCAPES + template, control_tokens=list(control_tokens))
