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
to stop.
"""

import json
from typing import Any

DEFAULT_CHAT_TEMPLATE = """\
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
{%- for message in messages -%}
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


def with_values(template: str, **values: Any) -> str:
    """The template with values for some of its variables, whoever renders it."""
    settings = [f"{{%- set {name} = {json.dumps(value, ensure_ascii=False)} -%}}\n" for name, value in values.items()]
    return "".join(settings) + template
