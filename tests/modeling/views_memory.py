# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Prints peaks of this process, MiB, after 4 views, 36 in chunks of 4 and 36 at once; then the size of what comes out.

A process of its own: the peak never falls, so each step must want more than the one before. Weights are few and
views large beside them, so that what is measured is activations.
"""

import json
import resource
import sys
from pathlib import Path

import torch

from fila import FilaModel
from tests.helpers import single_tower, tiny_config
from tests.modeling.geometry import encoder_inputs

WIDTH, PATCHES = 128, 28  # per side, of one pixel each


def peak() -> float:
    """MiB; a process starts with the `ru_maxrss` of the one that started it, so that is what other systems tell."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text(encoding="utf-8").partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def main() -> None:
    """Measure."""
    torch.set_num_threads(1)
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": PATCHES,
        "patch_size": 1,
    }
    model = FilaModel(tiny_config(vision_config=vision, **single_tower())).eval()
    few, many = (encoder_inputs([grid], high_res=False) for grid in ((1, 3), (5, 7)))
    found = []
    for inputs, size in ((few, 4), (many, 4), (many, None)):
        model.views_per_chunk = size
        with torch.inference_mode():
            outputs = model.get_image_features(**inputs)
        found.append(peak())
    returned = [outputs.last_hidden_state, *outputs.pooler_output]
    sys.stdout.write(json.dumps([*found, sum(tensor.nbytes for tensor in returned) / 2**20]))


if __name__ == "__main__":
    main()
