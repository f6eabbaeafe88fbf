# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Conversion of GGUF language models to safetensors, with transformers' own loader."""

from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer


def find_gguf(source: str | Path) -> tuple[Path, str] | None:
    """Return folder and file name if `source` is a GGUF file, or a folder whose only weights are one; else `None`.

    Raises:
        ValueError: If the folder has several GGUF files.
    """
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return path.parent, path.name
    if not path.is_dir() or any(path.glob("*.safetensors")):
        return None
    files = sorted(file.name for file in path.glob("*.gguf"))
    if len(files) > 1:
        raise ValueError(
            f"{path.name} has {len(files)} GGUF files, e.g. {files[0]!r}; name one: {path.name}/{files[0]}."
        )
    return (path, files[0]) if files else None


def convert_gguf(folder: Path, gguf_file: str, output: Path, *, dtype: torch.dtype) -> None:
    """Write a GGUF language model as a safetensors checkpoint with its tokenizer.

    Unlike the rest of assembly, this holds the whole model in memory once.

    Args:
        folder: Folder of the GGUF file.
        gguf_file: Name of the GGUF file.
        output: Folder to write.
        dtype: dtype of the written weights.

    Raises:
        ValueError: If the file cannot be read; names it.
    """
    options = {}
    if hasattr(transformers, "GgufConfig"):  # newer versions keep the blocks quantized by default
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf_file, dtype=dtype, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf_file)
    except ImportError:  # the package that reads the format
        raise
    except Exception as error:  # a damaged file can raise any error here
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{gguf_file} cannot be read as a language model in GGUF ({reason}).") from error
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(output)
    for name in (
        "bos_token",
        "eos_token",
        "pad_token",
        "unk_token",
    ):  # older versions confuse them; the config has them right
        if (token_id := getattr(model.config, f"{name}_id", None)) is not None:
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(token_id))
    tokenizer.save_pretrained(output)
