# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Run as a script where `fila` cannot be imported: loads every checkpoint of a folder and writes its logits.

Each checkpoint runs the code that lies beside it.
"""

import sys
from pathlib import Path


def main(folder: str, output: str) -> None:
    sys.modules["fila"] = None  # type: ignore[assignment]  # importing it raises ImportError
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForImageTextToText

    logits = {}
    checkpoints = sorted(Path(folder).iterdir())
    for checkpoint in checkpoints:
        model = AutoModelForImageTextToText.from_pretrained(checkpoint, trust_remote_code=True)
        assert type(model).__module__.startswith("transformers_modules.")
        with torch.no_grad():
            logits[checkpoint.name] = model(**load_file(checkpoint / "batch.bin")).logits.contiguous()
    save_file(logits, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
