# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A checkpoint that holds LLaVA-HR's recorded towers, imported: the whole encoder gives the recorded features."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText

from fila.conversion.import_checkpoint import import_checkpoint
from tests.conversion.originals import ORIGINALS, write_original
from tests.conversion.parts import LLAMA_SIZES
from tests.helpers import assert_close
from tests.parity.golden import FOLDER, read

# Largest difference, as a share of the largest recorded value.
TOLERANCE = 1e-5


def test_llava_hr_encoder_gives_the_recorded_features(tmp_path: Path) -> None:
    golden = read(FOLDER / "llava_hr_tower.safetensors")
    rest = write_original(tmp_path / "theirs", ORIGINALS["llava-hr"])
    state = {key: tensor for key, tensor in rest.items() if not key.startswith("model.vision_tower.")}
    state |= {f"model.vision_tower.{key}": tensor.contiguous() for key, tensor in golden.state().items()}
    width = golden["sd.align_stages.0.fast_proj.bias"].shape[0]
    state["model.mm_projector.0.weight"] = torch.rand(LLAMA_SIZES["hidden_size"], width)
    save_file(state, tmp_path / "theirs" / "model.safetensors")
    out, x, side, tile = golden["384.adapter1.out"], golden["384.x"], 384, 336
    folder = import_checkpoint(
        tmp_path / "theirs",
        tmp_path / "ours",
        system="llava-hr",
        recipe="llava-hr",
        low_res={"hidden_size": width, "intermediate_size": 32, "num_hidden_layers": 8, "num_attention_heads": 2},
        high_res={"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 2, 1]},
        config={"tile_size": tile, "high_res_tile_size": side},
        progress=False,
    )
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    with torch.no_grad():
        found = model.model.vision_tower(
            torch.zeros(1, 1, 3, tile, tile),
            torch.tensor([[[0, 0, tile, tile]]]),
            torch.tensor([[1, 1]]),
            high_res_pixel_values=x,
            high_res_sizes=torch.tensor([[side, side]]),
        ).last_hidden_state
    assert_close(found, out, TOLERANCE * float(out.abs().max()))
    left = json.loads((folder / "import.json").read_text())["left_behind"]
    assert all("post_layernorm" in key or "class_embedding" in key for key in left)
