# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tiny pretrained parts on disk, with model cards."""

from pathlib import Path

from transformers import AutoModelForCausalLM, CLIPVisionModel

from tests.helpers import tiny_config, tiny_tokenizer


def write_tiny_parts(folder: Path) -> tuple[Path, Path]:
    """Write a low-res tower and a language model; return their folders."""
    config = tiny_config()
    low_res, text = folder / "tiny-clip", folder / "tiny-llama"
    CLIPVisionModel(config.vision_config).save_pretrained(low_res)
    (low_res / "README.md").write_text("---\nlicense: mit\nfila_note: A toy.\n---\n")
    AutoModelForCausalLM.from_config(config.text_config).save_pretrained(text)
    tiny_tokenizer().save_pretrained(text)
    (text / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return low_res, text
