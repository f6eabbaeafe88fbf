# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The folder of the trained model: it passes `fila verify`, has a card, and holds no optimizer."""

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from transformers.utils import cached_file

from fila.conversion.import_checkpoint import RECORD
from fila.conversion.output import written_atomically

if TYPE_CHECKING:
    from .trainer import FilaTrainer


_FRONT_MATTER = "---\nlibrary_name: transformers\npipeline_tag: image-text-to-text\ntags:\n- fila\n---\n"
_CARD = """{front}
# {name}

Trained from `{parent}` with `fila train`: {what}, {steps:,} steps on `{data}`{loss}.
"""
_PARENT = """
## What it was trained from

The card of `{parent}`. What it says about weights and answers was so before this training.

{body}
"""


def save_final_model(trainer: "FilaTrainer", folder: Path, *, parent: str, data: str) -> None:
    """Write weights, processor, code and card.

    Args:
        trainer: A `FilaTrainer` after training.
        folder: Folder to write.
        parent: Checkpoint that training started from, a folder or Hub id; its licence, its card and what
            `fila export` needs are passed on.
        data: Name of the training data.
    """
    if not trainer.args.should_save:
        trainer.save_model(str(folder))  # this process takes part in gathering and writes nothing
        return
    with written_atomically(folder, overwrite=True, inputs=[parent, data]) as partial:
        trainer.save_model(str(partial))
        _complete(trainer, partial, folder.resolve().parent.name, parent=parent, data=data)


def _complete(trainer: "FilaTrainer", folder: Path, name: str, *, parent: str, data: str) -> None:
    """Add the files that `Trainer` does not write, and remove facts about this machine."""
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle, and about this machine
    if record := _file_of(parent, RECORD):
        shutil.copyfile(record, folder / RECORD)
    card = _file_of(parent, "README.md")
    front, body = _split(Path(card).read_text(encoding="utf-8")) if card else (_FRONT_MATTER, "")
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    text = _CARD.format(
        front=front,
        name=name,
        parent=Path(parent).name,
        what=f"training stage `{stage}`" if (stage := trainer.args.stage) else "adapters",
        steps=trainer.state.global_step,
        data=data if ":" in data else Path(data).name,
        loss=f", last loss {losses[-1]:.3g}" if losses else "",
    )
    if body:
        text += _PARENT.format(parent=Path(parent).name, body=re.sub(r"^#", "###", body.strip(), flags=re.MULTILINE))
    (folder / "README.md").write_text(text, encoding="utf-8")


def _file_of(checkpoint: str, name: str) -> str | None:
    """Return the path of a checkpoint's file; None if it does not exist or the Hub cannot be reached."""
    found: str | None = cached_file(
        checkpoint,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return found


def _split(card: str) -> tuple[str, str]:
    """Split a card into front matter and body."""
    match = re.match(r"---\n.*?\n---\n", card, re.DOTALL)
    return (match[0], card[match.end() :]) if match else (_FRONT_MATTER, card)
