# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The numbers of docs/tiny_image.md are what processor and model compute.

The towers are replaced by arithmetic: the low-res tower is the mean of a patch, the high-res tower the maximum of a
cell. All else is the code that FILA runs.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from fila import FilaForConditionalGeneration, FilaProcessor
from tests.helpers import tiny_config, tiny_image_processor, tiny_tokenizer

DOCS = Path(__file__).parents[2] / "docs" / "tiny_image.md"


class MeanOfPatch(nn.Module):
    """A low-res tower of no layers and one channel."""

    num_prefix_tokens, num_layers = 0, 0

    def embed(self, pixel_values: torch.Tensor, patch_grids: Any = None) -> torch.Tensor:
        return F.avg_pool2d(pixel_values[:, :1], 2).flatten(2).transpose(1, 2)

    def attention_mask(self, hidden_states: torch.Tensor, patch_grids: Any) -> None:
        return None

    def run_layers(self, hidden_states: torch.Tensor, start: int, stop: int, **kwargs: Any) -> torch.Tensor:
        return hidden_states

    def finish(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states


class MaximumOfCell(nn.Module):
    """A high-res tower of one stage, one channel and stride 4."""

    encodes_views = False

    def stride(self, stage: int) -> int:
        return 4

    def embed(self, canvases: Any) -> Any:
        return canvases

    def run_stages(self, maps: Any, start: int, stop: int) -> Any:
        return tuple(F.max_pool2d(map_[:, :1], 4) for map_ in maps)


def as_text(values: torch.Tensor) -> str:
    """Rows of numbers as the page shows them."""
    return "\n".join(" ".join(f"{number:4d}" for number in row) for row in values.int().tolist())


def test_page_shows_what_is_computed() -> None:
    config = tiny_config(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 1,
            "intermediate_size": 1,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 4,
            "patch_size": 2,
        },
        vision_feature_layer=-1,
        high_res_vision_config={"model_type": "convnext", "hidden_sizes": [1], "depths": [1], "num_stages": 1},
        high_res_tile_size=8,
        fusion={"type": "channel_concat", "align": "pool"},
        connector={"type": "linear", "bias": False},
        text_config=tiny_config().text_config.to_dict()
        | {"hidden_size": 2, "num_attention_heads": 1, "num_key_value_heads": 1},
    )
    model = FilaForConditionalGeneration(config).eval()
    model.model.vision_tower.low_res_tower = MeanOfPatch()
    model.model.vision_tower.high_res_tower = MaximumOfCell()
    connector = model.model.multi_modal_projector
    connector.linear.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])

    processor = FilaProcessor(
        tiny_image_processor(
            size={"height": 4, "width": 4},
            high_res_size={"height": 8, "width": 8},
            canvas={"type": "fila", "overview": False},
            resample=Image.Resampling.NEAREST,
            do_rescale=False,
            do_normalize=False,
        ),
        tiny_tokenizer(),
        tokens_per_tile=model.model.tokens_per_tile,
    )
    pixels = 4 * np.outer(np.arange(8), np.arange(8))
    image = Image.fromarray(pixels.astype(np.uint8)).convert("RGB")
    inputs = processor(text="a<image>", images=[image], return_tensors="pt")
    plan = processor.image_processor.plan(8, 8)
    with torch.no_grad():
        tower = model.model.vision_tower
        views = inputs["pixel_values"][0]
        low = tower.low_res_tower.embed(views)
        high = tower.high_res_tower.run_stages((inputs["high_res_pixel_values"],), 0, 1)[0]
        outputs = model.model.get_image_features(
            **{name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
        )
    computed = [
        as_text(torch.as_tensor(pixels)),
        as_text(inputs["view_boxes"][0]),
        as_text(views[1, 0]),
        as_text(low[1].reshape(2, 2)),
        as_text(inputs["high_res_pixel_values"][0, 0, :4]),
        as_text(high[0, 0]),
        as_text(outputs.last_hidden_state[1]),
        as_text(outputs.pooler_output[0][4:8]),
        " ".join(map(str, inputs["input_ids"][0].tolist())),
    ]
    section = DOCS.read_text(encoding="utf-8")
    assert re.findall(r"```\n(.*?)\n```", section, re.DOTALL) == computed
    assert f"tile grid {tuple(plan.tile_grid)}, canvas {tuple(plan.canvas_size)}" in section
