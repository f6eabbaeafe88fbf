# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What an image costs under every canvas strategy: tokens, operations of the encoder and the language model, cache.

No pixel is read: sizes come from headers, tokens from plans, operations of the towers and the language model from the
config's numbers, those of fusion and connector from a run on tensors without data.
An operation is a multiplication or an addition of a matrix product or convolution, as torch's `FlopCounterMode` counts
them (norms, activations and interpolation are left out); attention counts whole squares, not the causal half. The
language model's operations are those of reading the image tokens alone, without its head. An image is counted alone
and at its own size: its views are padded to its longest one, and the processor's limits of tokens do not shrink it.

Letters: P patches of a view, D low-res width, E width of a high-res stage, M language-model width, (h, w) cells.
"""

import copy
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from transformers import AutoConfig, AutoProcessor

from fila.conversion.damage import naming_damage
from fila.look.tower_flops import high_res_flops, low_res_flops
from fila.look.view_settings import Eyes, check_checkpoint, placeholder_tokenizer
from fila.modeling.align import map_shapes
from fila.modeling.configuration_fila import FilaConfig
from fila.modeling.connector import build_connector
from fila.modeling.fusion import build_fusion
from fila.modeling.fusion_none import NoFusion
from fila.modeling.options import as_options
from fila.modeling.towers import LOW_RES_TOWERS
from fila.modeling.view_layout import ViewLayout
from fila.processing.canvas import CANVASES
from fila.processing.canvas_plan import CanvasPlan, Size
from fila.processing.image_processing_fila import FilaImageProcessorPil
from fila.processing.processing_fila import FilaProcessor
from fila.systems.compatibility import ONE_GRID

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Estimate:
    """What one image costs under one canvas strategy.

    Attributes:
        image: Its path, or its size as text.
        canvas: Name of the strategy.
        tile_grid: (rows, cols).
        num_views: Tiles, and the overview where there is one.
        num_tokens: Image tokens; None where the strategy's views are not whole tokens of the connector.
        encoder_flops: Operations of all towers, the fusion and the connector; None there, and where the model
            refuses the strategy: views that differ in size, and a fusion or a connector that reads one patch grid.
        text_flops: Operations of the language model reading these tokens; None without them, and for a language model
            whose layout is not LLaMA's, such as GPT-2's.
        cache_bytes: Keys and values of these tokens in the language model; None without them.
    """

    image: str
    canvas: str
    tile_grid: tuple[int, int]
    num_views: int
    num_tokens: int | None
    encoder_flops: int | None
    text_flops: int | None
    cache_bytes: int | None


class Estimator:
    """Counts what images cost a model.

    Args:
        checkpoint: Folder or Hub id whose config and processor are read; the default sizes of `FilaConfig` without.
    """

    def __init__(self, checkpoint: str | None = None) -> None:
        if checkpoint is None:
            config = FilaConfig()
            tokens = config.patch_grid[0] * config.patch_grid[1]
            processor = FilaProcessor(FilaImageProcessorPil(), placeholder_tokenizer(), tokens_per_tile=tokens)
        else:
            check_checkpoint(checkpoint)
            with naming_damage(checkpoint):
                config = AutoConfig.from_pretrained(checkpoint)
                processor = AutoProcessor.from_pretrained(checkpoint)
            if not isinstance(config, FilaConfig):
                raise ValueError(f"{checkpoint!r} is of model type {config.model_type!r}; this needs 'fila'.")
        self._set(config, processor)

    @classmethod
    def of(cls, config: FilaConfig, processor: FilaProcessor) -> "Estimator":
        """An estimator of a config and a processor that are loaded."""
        made = cls.__new__(cls)
        made._set(config, processor)
        return made

    def _set(self, config: FilaConfig, processor: Any) -> None:
        import torch

        self.config, self.processor = config, processor
        self.eyes = Eyes.of(config, processor, "")
        with torch.device("meta"):
            self.fusion = build_fusion(config).requires_grad_(False)
            self.connector = build_connector(config, self.fusion.output_size).requires_grad_(False)

    def estimate(self, image: str, size: Size, canvas: dict[str, Any]) -> Estimate:
        """Count for an image of a size, under the strategy of an option dict."""
        plan: CanvasPlan = self.processor.image_processor.plan(*size, canvas=canvas)
        tokens = self.num_tokens(size, canvas)
        return Estimate(
            image=image,
            canvas=canvas["type"],
            tile_grid=plan.tile_grid,
            num_views=plan.num_views,
            num_tokens=tokens,
            encoder_flops=None if tokens is None else self.encoder_flops(plan, canvas),
            text_flops=None if tokens is None else text_flops(self.config.text_config, tokens),
            cache_bytes=None if tokens is None else cache_bytes(self.config.text_config, tokens),
        )

    def num_tokens(self, size: Size, canvas: dict[str, Any]) -> int | None:
        """Image tokens of an image of a size, as the processor for the strategy counts; None where there is none."""
        plan = self.processor.image_processor.plan(*size, canvas=canvas)
        processor = self.processor_for(canvas)
        unit = processor.token_size or 1
        if any(side % unit for view in plan.view_sizes for side in view):
            return None
        return int(processor._count(plan))

    def processor_for(self, canvas: dict[str, Any]) -> Any:
        """The processor, with the `token_size` that a strategy with unequal views needs where it has none."""
        if self.processor.image_processor.plans(canvas=canvas).equal_views or self.processor.token_size is not None:
            return self.processor
        if self.eyes.token_size is None:  # as many tokens for every view
            return self.processor
        processor = copy.copy(self.processor)
        processor.token_size = self.eyes.token_size
        return processor

    @property
    def patch_size(self) -> int:
        """Pixels per side of a patch of the low-res tower."""
        assert self.config.tile_size is not None
        return self.config.tile_size // self.config.patch_grid[0]

    def all_canvases(self, image: str, size: Size) -> list[Estimate]:
        """Count under the image processor's own strategy, first, and every other one with its defaults."""
        own = self.processor.image_processor.canvas
        others = (self.eyes.default_options(name) for name in CANVASES if name != own["type"])
        return [self.estimate(image, size, canvas) for canvas in (own, *others)]

    def encoder_flops(self, plan: CanvasPlan, canvas: dict[str, Any]) -> int | None:
        """Operations of all towers, the fusion and the connector for one image; None where the model refuses it."""
        equal_views = self.processor.image_processor.plans(canvas=canvas).equal_views
        one_grid = not isinstance(self.fusion, NoFusion) or as_options(self.config.connector)["type"] in ONE_GRID
        if not equal_views and one_grid:
            return None
        patch = self.patch_size
        grids = [(height // patch, width // patch) for height, width in plan.view_sizes]
        longest = max(rows * cols for rows, cols in grids)
        low = plan.num_views * low_res_flops(self.config, longest)
        high = high_res_flops(self.config, self.fusion, plan)
        return low + high + self._joining_flops(plan, None if equal_views else grids, longest)

    def _joining_flops(self, plan: CanvasPlan, grids: list[tuple[int, int]] | None, patches: int) -> int:
        """Operations of the fusion and the connector, counted by torch on tensors without data."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        views, vision = plan.num_views, self.config.vision_config
        prefix = LOW_RES_TOWERS[vision.model_type].num_prefix(vision)

        def squares(stages: tuple[int, ...]) -> torch.Tensor:
            ((channels, side),) = map_shapes(self.config, [stages])
            return torch.empty(views, channels, side, side, device="meta")

        layout = ViewLayout((views,), (plan.tile_grid,))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            low = torch.empty(views, prefix + patches, vision.hidden_size, device="meta")
            for tap, (_, stage) in enumerate(self.fusion.taps):
                low = self.fusion.fuse(tap, low, squares((stage,)))
            maps = tuple(squares(group) for group in self.fusion.final_stages)
            kept = low if self.config.vision_feature_select == "cls_patch" else low[:, prefix:]
            features = self.fusion.finish(kept, maps, layout)
            self.connector(features, self.fusion.output_grid if grids is None else torch.tensor(grids))
        return int(counter.get_total_flops())


def text_flops(text: Any, tokens: int) -> int | None:
    """Operations of a language model of LLaMA's layout reading so many tokens; None for one of another layout."""
    if not hasattr(text, "intermediate_size"):
        return None
    width, heads = text.hidden_size, text.num_attention_heads
    head = getattr(text, "head_dim", None) or width // heads
    cached = getattr(text, "num_key_value_heads", None) or heads
    linear = 2 * width * head * heads + 2 * width * head * cached + 3 * width * text.intermediate_size
    return int(text.num_hidden_layers * (2 * tokens * linear + 4 * tokens * tokens * heads * head))


def cache_bytes(text: Any, tokens: int) -> int:
    """Bytes of the keys and values of so many tokens, in the config's dtype (bfloat16 where it names none)."""
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    cached = getattr(text, "num_key_value_heads", None) or heads
    dtype = str(getattr(text, "dtype", None) or "bfloat16").removeprefix("torch.")
    return int(2 * text.num_hidden_layers * cached * head * tokens * BYTES.get(dtype, 2))


def as_json(estimates: Iterable[Estimate]) -> str:
    """A JSON list of the estimates."""
    return json.dumps([asdict(each) for each in estimates], indent=2)


def as_rows(estimates: Iterable[Estimate]) -> list[list[str]]:
    """Rows of a table, the first with the names of the columns."""
    rows = [["image", "canvas", "tiles", "views", "tokens", "encoder GFLOP", "text GFLOP", "cache MiB"]]
    for each in estimates:
        grid = "x".join(map(str, each.tile_grid))
        flops = [_told(count, 1e9) for count in (each.encoder_flops, each.text_flops)]
        tokens = "-" if each.num_tokens is None else f"{each.num_tokens:,}"
        counts = [str(each.num_views), tokens, *flops, _told(each.cache_bytes, 2**20)]
        rows.append([each.image, each.canvas, grid, *counts])
    return rows


def _told(count: int | None, unit: float) -> str:
    """A number in a unit, a dash for none."""
    return "-" if count is None else f"{count / unit:,.1f}"
