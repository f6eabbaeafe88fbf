# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The model card of an assembled checkpoint: its parts, their licences, and the untrained modules."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCardData


@dataclass(frozen=True)
class PartEntry:
    """One row of the card's table of parts.

    Attributes:
        role: What the part does.
        source: Where it came from.
        trained: Whether its weights come from training; the card calls random weights UNTRAINED.
        license: Its licence, if its files say so.
        note: Further information for the reader.
    """

    role: str
    source: str
    trained: bool = False
    license: str | None = None
    note: str = ""


_CARD = """
# {name}

{intro}

{warning}

## Parts

| part | source | licence | weights | note |
|---|---|---|---|---|
{rows}

{dropped}

The licences of all parts apply to this checkpoint together. "not stated" means that the part's files do not name one:
find out before you pass the checkpoint on.

## Use

Where the package `fila` is installed, from a clone or a wheel of its repository (`pip install path/to/clone`; on the
public index that name is another project's):

```python
import fila  # registers the classes with transformers
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{name}")
processor = AutoProcessor.from_pretrained("{name}")
messages = [
    {{
        "role": "user",
        "content": [{{"type": "image", "image": "page.png"}}, {{"type": "text", "text": "What does this page say?"}}],
    }}
]
inputs = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
answer = model.generate(**inputs, max_new_tokens=64)
print(processor.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```

Without it, pass `trust_remote_code=True` to both `from_pretrained` calls and leave out the first import: the code lies
beside the weights.
"""


_ASSEMBLED = """A high-resolution vision-language model in the architecture of FILA
([arXiv:2412.08378](https://arxiv.org/abs/2412.08378)), put together by `fila assemble` from the parts below."""


def write_model_card(
    folder: Path,
    *,
    name: str,
    parts: Sequence[PartEntry],
    dropped: Sequence[tuple[str, str, int]],
    intro: str = _ASSEMBLED,
) -> None:
    """Write `README.md` with its metadata.

    Args:
        folder: Folder of the checkpoint.
        name: Name of the checkpoint.
        parts: Parts of the checkpoint.
        dropped: (part, reason, number of tensors) of the dropped tensors.
        intro: First paragraph.
    """
    licenses = {part.license for part in parts if part.trained}
    common = str(licenses.pop()) if len(licenses) == 1 else ""
    license_id = common if re.fullmatch(r"[a-z0-9.-]+", common) and common != "other" else None
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        license=license_id or "other",
        license_name=None if license_id else "licences-of-the-parts",
        tags=["fila", "high-resolution", "vision-language"],
    )
    untrained = [part.role for part in parts if not part.trained]
    warning = f"**UNTRAINED: {', '.join(untrained)}.** Until these are trained, answers about images mean nothing."
    rows = "\n".join(
        f"| {part.role} | {part.source} | {part.license or ('not stated' if part.trained else '-')} | "
        f"{'pretrained' if part.trained else '**UNTRAINED** (random)'} | {part.note} |"
        for part in parts
    )
    left = "; ".join(f"{count} tensors of {part} ({reason})" for part, reason, count in dropped)
    body = _CARD.format(
        name=name,
        intro=intro,
        warning=warning if untrained else "All parts are pretrained.",
        rows=rows,
        dropped=f"Left behind: {left}." if left else "Every tensor of the parts is in it.",
    )
    (folder / "README.md").write_text(f"---\n{metadata.to_yaml()}\n---\n{body}", encoding="utf-8")
