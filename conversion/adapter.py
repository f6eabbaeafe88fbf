# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Adapters of PEFT: which parts of a model they change, and a checkpoint with an adapter folded in.

vLLM applies an adapter to the language model alone and leaves out its other tensors without a word. So an adapter
that changes other parts is merged into a checkpoint of its own.
"""

import re
from pathlib import Path
from typing import Any

from transformers import AutoModelForImageTextToText, AutoProcessor

from .import_checkpoint import RECORD
from .output import written_atomically
from .pretrained_part import read_json
from .safetensors_file import read_header

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_TEXT = re.compile(r"base_model\.model\.model\.language_model\..+\.lora_(A|B)\.weight")
_PARTS = {
    "the connector": "base_model.model.model.multi_modal_projector.",
    "the connectors of the injection": "base_model.model.model.injection.",
    "the vision towers or their fusion": "base_model.model.model.vision_tower.",
    "the output head": "base_model.model.lm_head.",
    "a part that was trained whole in the language model": "base_model.model.model.language_model.",
}


def check_text_adapter(folder: str | Path) -> int:
    """Check that an adapter changes linear layers of the language model and nothing else, as a server needs it.

    Args:
        folder: Folder with the adapter's config and weights, as PEFT saves them.

    Returns:
        How many tensors the adapter has.

    Raises:
        ValueError: If it changes something else, is empty or is damaged; names a tensor of every part.
        FileNotFoundError: If a file is missing.
    """
    config, names = _read_adapter(Path(folder))
    found: dict[str, str] = {}
    for name in names:
        if not _TEXT.fullmatch(name):
            part = next((part for part, start in _PARTS.items() if name.startswith(start)), "another part")
            found.setdefault(part, name)
    for name in config.get("modules_to_save") or []:
        found.setdefault("what was trained whole", f"`modules_to_save` has {name!r}")
    if found:
        listed = "; ".join(f"{part} ({name})" for part, name in found.items())
        raise ValueError(
            f"vLLM serves an adapter of the language model alone and would leave out the rest; {folder} changes "
            f"{listed}. Serve a checkpoint that holds it: `fila export CHECKPOINT --merge {folder} --output FOLDER`."
        )
    return len(names)


def _read_adapter(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return an adapter's config and the names of its tensors."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"An adapter's folder must hold {CONFIG} and {WEIGHTS}; {folder} has no {name}.")
    names = sorted(read_header(folder / WEIGHTS))
    if not names:
        raise ValueError(f"{folder / WEIGHTS} holds no tensors.")
    return read_json(folder / CONFIG), names


def merge_adapter(
    checkpoint: str | Path,
    adapter: str | Path,
    output: Path,
    *,
    max_shard_size: str = "5GB",
    overwrite: bool = False,
) -> Path:
    """Write a checkpoint with an adapter folded into its weights.

    Args:
        checkpoint: Folder of the model that the adapter was trained on.
        adapter: Folder of the adapter.
        output: Folder to write; it appears when it is complete.
        max_shard_size: Largest weight file.
        overwrite: Whether an existing checkpoint may be replaced.

    Returns:
        The output.

    Raises:
        ImportError: If `peft` is not installed.
        ValueError: If a tensor of the adapter has no place in the model, or the output is an input.
        FileNotFoundError: If a file of the adapter is missing.
    """
    _, names = _read_adapter(Path(adapter))
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError as error:
        raise ImportError("`--merge` needs peft: pip install peft.") from error
    with written_atomically(output, overwrite=overwrite, inputs=[checkpoint, adapter]) as folder:
        model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype="auto", local_files_only=True)
        adapted = PeftModel.from_pretrained(model, str(adapter))
        if lost := sorted(set(names) ^ set(get_peft_model_state_dict(adapted))):
            raise ValueError(
                f"{len(lost)} tensors of {adapter} and of {checkpoint} do not pair up, such as {lost[0]!r}. Name the "
                "checkpoint that the adapter was trained on."
            )
        adapted.merge_and_unload(safe_merge=True).save_pretrained(folder, max_shard_size=max_shard_size)  # type: ignore[operator]
        AutoProcessor.from_pretrained(checkpoint, local_files_only=True).save_pretrained(folder)
        for name in (RECORD, "README.md"):
            if (source := Path(checkpoint) / name).is_file():
                (folder / name).write_bytes(source.read_bytes())
    return output
