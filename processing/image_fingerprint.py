# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The settings that decide a model's pixels and tokens, as a dict: compute its hash and compare two of them.

A model's config keeps the settings of its training (`preprocessing`), and a saved image processor keeps its own hash
(`fingerprint`). They are compared here:

| when | settings that differ | |
|---|---|---|
| a processor is loaded from a model's folder | not named in the call | `PreprocessingError` |
| | named in the call, as `from_pretrained(..., canvas=...)` | a warning that names them |
| | `mode` or `version` alone: by a gray level or so | a warning |
| `processor.check_model(model)` | any of the first kind | `PreprocessingError` |
| an image processor is loaded, and its hash is not that of its settings | edited, or named in the call | a warning |

Settings of videos have names such as `video_canvas` and exist if there is a video processor. A setting that one side
lacks is not compared, so that older checkpoints without the setting still load.
"""

import difflib
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from transformers.utils import cached_file, logging

logger = logging.get_logger(__name__)

# Version of the code: increased when the same settings give other pixels.
VERSION = 1
# Settings that change pixels so little that it does not affect a model.
SLIGHT = ("mode", "version")


class PreprocessingError(ValueError):
    """A processor's settings differ from those that the model was trained with.

    Attributes:
        settings: Names of the settings that differ.
    """

    def __init__(self, message: str, settings: tuple[str, ...]) -> None:
        self.settings = settings
        super().__init__(message)


def as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as JSON would return them: tuples become lists, and whole floats equal integers."""
    plain: dict[str, Any] = json.loads(json.dumps(settings, sort_keys=True))
    return plain


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Return a hash of the settings, 16 hexadecimal digits.

    Example:
        >>> fingerprint({"size": 336, "image_mean": (0.5, 0.5, 0.5)}) == fingerprint(
        ...     {"image_mean": [0.5, 0.5, 0.5], "size": 336}
        ... )
        True
    """
    text = json.dumps(as_json(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differing(trained: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings that differ; a setting that one side lacks does not count."""
    trained, own = as_json(trained), as_json(own)
    return sorted(name for name in trained.keys() & own.keys() if trained[name] != own[name])


def check_preprocessing(
    trained: Mapping[str, Any] | None, own: Mapping[str, Any], *, named: Collection[str] = ()
) -> None:
    """Compare the settings of a model's training with those of a processor.

    Args:
        trained: Settings in the model's config; None if it has none.
        own: Settings of the processor.
        named: Settings that the caller named: they give a warning instead of an error.

    Raises:
        PreprocessingError: If other settings differ.
    """
    if trained is None:
        return
    names = differing(trained, own)
    told = "; ".join(f"`{name}` is {own[name]!r} here and was {trained[name]!r} in training" for name in names)
    if wrong := [name for name in names if name not in SLIGHT and name not in named]:
        raise PreprocessingError(
            f"The processor does not do what the model was trained with: {told}. Load the processor that was saved "
            "with the model; to change a setting on purpose, name it: `from_pretrained(..., canvas=...)`.",
            tuple(wrong),
        )
    if names:
        logger.warning(f"The processor differs from what the model was trained with: {told}.")


def refuse_misspelt(named: Iterable[str], settings: Collection[str]) -> None:
    """Reject misspelt arguments of `from_pretrained`; transformers ignores arguments that nothing reads.

    Raises:
        ValueError: If a name is almost a setting. Other unknown names may be the tokenizer's or the Hub's.
    """
    for name in named:
        if name not in settings and (close := difflib.get_close_matches(name, settings, n=1, cutoff=0.9)):
            raise ValueError(f"The processor has no setting `{name}`; did you mean `{close[0]}`?")


def trained_with(folder_or_id: str | os.PathLike[str], **options: object) -> dict[str, Any] | None:
    """Return `preprocessing` of the model config in a processor's folder; None if this machine has no such config."""
    if os.path.isfile(folder_or_id):
        return None
    known = {name: options[name] for name in ("cache_dir", "revision", "subfolder") if options.get(name) is not None}
    path = cached_file(
        folder_or_id,
        "config.json",
        local_files_only=True,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **known,
    )
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        trained = json.load(file).get("preprocessing")
    return trained if isinstance(trained, dict) else None
