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

from fila import FilaConfig, FilaImageProcessorPil, FilaProcessor
from fila.eyes import Eyes, check_checkpoint, placeholder_tokenizer
from fila.modeling.align import map_shapes
from fila.modeling.connector import build_connector
from fila.modeling.fusion import build_fusion
from fila.modeling.fusion_none import NoFusion
from fila.modeling.towers import LOW_RES_TOWERS, high_res_configs
from fila.modeling.view_layout import ViewLayout
from fila.processing.canvas import CANVASES
from fila.processing.canvas_plan import CanvasPlan, Size
from fila.processing.render import scale_geometry

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
        encoder_flops: Operations of both towers, the fusion and the connector; None there, and where the model
            refuses the strategy: views that differ in size, and a fusion.
        text_flops: Operations of the language model reading these tokens; None without them.
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
        """Operations of both towers, the fusion and the connector for one image.

        None where the model refuses it, and for towers whose operations have no formula here.
        """
        high_res = high_res_configs(self.config)
        if len(high_res) > 1 or any(tower.model_type not in ("convnext", "convnextv2") for tower in high_res):
            return None
        equal_views = self.processor.image_processor.plans(canvas=canvas).equal_views
        if not equal_views and not isinstance(self.fusion, NoFusion):
            return None
        has_high_res = self.config.high_res_vision_config is not None
        vision, patch = self.config.vision_config, self.patch_size
        if not hasattr(vision, "intermediate_size"):
            return None
        grids = [(height // patch, width // patch) for height, width in plan.view_sizes]
        longest = max(rows * cols for rows, cols in grids)
        prefix = LOW_RES_TOWERS[vision.model_type].num_prefix(vision)
        low = plan.num_views * _vit_flops(vision, patch, prefix, longest, self.config.num_vision_layers)
        high = _high_res_flops(self.config, self.fusion, plan) if has_high_res else 0
        return low + high + self._joining_flops(plan, None if equal_views else grids, longest)

    def _joining_flops(self, plan: CanvasPlan, grids: list[tuple[int, int]] | None, patches: int) -> int:
        """Operations of the fusion and the connector, counted by torch on tensors without data."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        views, width = plan.num_views, self.config.vision_config.hidden_size

        def squares(stages: tuple[int, ...]) -> torch.Tensor:
            ((channels, side),) = map_shapes(self.config, [stages])
            return torch.empty(views, channels, side, side, device="meta")

        layout = ViewLayout((views,), (plan.tile_grid,))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            low = torch.empty(views, 1 + patches, width, device="meta")
            for tap, (_, stage) in enumerate(self.fusion.taps):
                low = self.fusion.fuse(tap, low, squares((stage,)))
            maps = tuple(squares(group) for group in self.fusion.final_stages)
            features = self.fusion.finish(low[:, 1:], maps, layout)
            self.connector(features, self.fusion.output_grid if grids is None else torch.tensor(grids))
        return int(counter.get_total_flops())


def text_flops(text: Any, tokens: int) -> int:
    """Operations of a language model of LLaMA's layout reading so many tokens."""
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


def _vit_flops(vision: Any, patch: int, prefix: int, patches: int, layers: int) -> int:
    """Operations of a ViT on one view of so many patches, with `prefix` tokens before them."""
    width, tokens = vision.hidden_size, patches + prefix
    embed = 2 * patches * width * getattr(vision, "num_channels", 3) * patch**2
    linear = 2 * tokens * (4 * width * width + 2 * width * vision.intermediate_size)
    return int(embed + layers * (linear + 4 * tokens * tokens * width))


def _high_res_flops(config: Any, fusion: Any, plan: CanvasPlan) -> int:
    """Operations of the high-res tower and of cutting its maps into views."""
    tile, side = config.tile_size, config.high_res_tile_size
    canvas, _ = scale_geometry(plan, low=Size(tile, tile), high=Size(side, side))
    read = [*((stage,) for _, stage in fusion.taps), *fusion.final_stages]
    last = max(max(group) for group in read)
    total = _convnext_flops(config.high_res_vision_config, canvas, last)
    boxes = list(plan.view_boxes)
    if plan.overview_size is not None and config.high_res_overview != "pool":
        whole = tuple(edge * side / tile for edge in boxes.pop(0))
        if config.high_res_overview == "encode":
            total += _resample_flops(whole, canvas, side, 3)
            total += _convnext_flops(config.high_res_vision_config, Size(side, side), last)
    for group in read:
        stride = config.high_res_vision_config.patch_size * 2 ** (group[0] - 1)
        cells = Size(canvas.height // stride, canvas.width // stride)
        width = sum(config.high_res_vision_config.hidden_sizes[stage - 1] for stage in group)
        for box in boxes:
            scaled = tuple(edge * side / (tile * stride) for edge in box)
            total += _resample_flops(scaled, cells, side // stride, width)
    return int(total)


def _resample_flops(box: tuple[float, ...], cells: Size, side: int, width: int) -> int:
    """Operations of averaging a box of a map `(E, h, w)` into `side` x `side` cells; whole cells are cut or pooled."""
    if all(float(edge).is_integer() for edge in box):
        height, breadth = int(box[2]) - int(box[0]), int(box[3]) - int(box[1])
        if height % side == 0 and breadth % side == 0:
            return 0
    return 2 * width * side * cells.width * (cells.height + side)


def _convnext_flops(tower: Any, canvas: Size, stages: int) -> int:
    """Operations of the first stages of a ConvNeXt on a canvas."""
    height, width = canvas.height // tower.patch_size, canvas.width // tower.patch_size
    total = 2 * height * width * tower.hidden_sizes[0] * tower.num_channels * tower.patch_size**2
    for index in range(stages):
        channels = tower.hidden_sizes[index]
        if index > 0:
            height, width = height // 2, width // 2
            total += 2 * height * width * channels * tower.hidden_sizes[index - 1] * 4
        total += tower.depths[index] * 2 * height * width * (49 * channels + 8 * channels * channels)
    return int(total)


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
