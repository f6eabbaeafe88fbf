# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Open a checkpoint in a fresh process and run one forward; `verify` starts this file as a script.

    python open_checkpoint.py FOLDER remote|installed

`remote` uses the code beside the weights and never imports `fila`; `installed` imports `fila`. The last printed line
is a JSON object with the result. This file imports only transformers and its dependencies.
"""

import json
import sys
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor


def open_and_run(folder: str, *, remote: bool) -> dict[str, Any]:
    """Load processor and model through the Auto classes and answer about a generated picture.

    Args:
        folder: The checkpoint.
        remote: Whether to use the code in it.

    Returns:
        Class names, number of input tokens, shape of the logits, and whether all logits are finite.
    """
    options: dict[str, Any] = {"local_files_only": True}
    if remote:
        options["trust_remote_code"] = True
    else:
        import fila  # noqa: F401  (registers the classes)
    processor = AutoProcessor.from_pretrained(folder, **options)
    opened: Any = AutoModelForImageTextToText.from_pretrained(
        folder, dtype="auto", output_loading_info=True, **options
    )
    model, loading = opened
    side = processor.image_processor.size["height"]
    pixels = np.random.default_rng(0).integers(0, 256, (side, side + side // 3, 3), dtype=np.uint8)
    content = [{"type": "image", "image": Image.fromarray(pixels)}, {"type": "text", "text": "What is this?"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        logits = model.eval()(**inputs, logits_to_keep=1).logits
    return {
        "model": f"{type(model).__module__}.{type(model).__name__}",
        "missing": sorted(loading["missing_keys"]),
        "unexpected": sorted(loading["unexpected_keys"]),
        "tokens": inputs["input_ids"].shape[1],
        "logits": list(logits.shape),
        "finite": bool(torch.isfinite(logits).all()),
    }


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(open_and_run(sys.argv[1], remote=sys.argv[2] == "remote")) + "\n")
