# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What decides the pixels and tokens that a model is given, as a dict of settings; its hash, and what differs in two.

A model's config keeps the settings that the model was trained with (`preprocessing`), a saved image processor its own
hash (`fingerprint`). Where they are compared:

| when | settings that differ | |
|---|---|---|
| a processor is loaded from a model's folder | not named in the call | `PreprocessingError` |
| | named in the call, as `from_pretrained(..., canvas=...)` | a warning that names them |
| | `mode` or `version` alone: by a gray level or so | a warning |
| `processor.check_model(model)` | any of the first kind | `PreprocessingError` |
| an image processor is loaded, and its hash is not that of its settings | edited, or named in the call | a warning |

Settings of videos are called `video_canvas` and so on here, and exist where there is a video processor. A setting that
one side lacks is not compared, so that checkpoints from before it was kept still load.
"""

import difflib
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from transformers.utils import cached_file, logging

logger = logging.get_logger(__name__)

# Of the code: raised when the same settings give other pixels.
VERSION = 1
# Settings by which pixels differ so little that a model does not notice.
SLIGHT = ("mode", "version")


class PreprocessingError(ValueError):
    """A processor and a model that was trained with other preprocessing.

    Attributes:
        settings: Names of the settings that differ.
    """

    def __init__(self, message: str, settings: tuple[str, ...]) -> None:
        self.settings = settings
        super().__init__(message)


def as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are read back from JSON: tuples are lists, whole numbers of either type are equal."""
    plain: dict[str, Any] = json.loads(json.dumps(settings, sort_keys=True))
    return plain


def fingerprint(settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that stand for the settings.

    Example:
        >>> fingerprint({"size": 336, "image_mean": (0.5, 0.5, 0.5)}) == fingerprint(
        ...     {"image_mean": [0.5, 0.5, 0.5], "size": 336}
        ... )
        True
    """
    text = json.dumps(as_json(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differing(trained: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ; one that either side does not know differs not."""
    trained, own = as_json(trained), as_json(own)
    return sorted(name for name in trained.keys() & own.keys() if trained[name] != own[name])


def check_preprocessing(
    trained: Mapping[str, Any] | None, own: Mapping[str, Any], *, named: Collection[str] = ()
) -> None:
    """Compare the settings of a model's training with those of a processor.

    Args:
        trained: Of the model's config; None where it does not say.
        own: Of the processor.
        named: Settings that the caller asked for by name: they give a warning instead of an error.

    Raises:
        PreprocessingError: If others differ.
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
    """Check what a call of `from_pretrained` names; transformers ignores what nothing reads.

    Raises:
        ValueError: If it is almost a setting. Whatever else is unknown may be the tokenizer's or the Hub's.
    """
    for name in named:
        if name not in settings and (close := difflib.get_close_matches(name, settings, n=1, cutoff=0.9)):
            raise ValueError(f"The processor has no setting `{name}`; did you mean `{close[0]}`?")


def trained_with(folder_or_id: str | os.PathLike[str], **options: object) -> dict[str, Any] | None:
    """`preprocessing` of the model config that lies beside a processor; None where there is none on this machine."""
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
