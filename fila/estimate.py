# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What an image costs under every canvas strategy: tokens, operations of the encoder and the language model, cache.

Nothing is run and no pixel is read: sizes come from headers, tokens from plans, operations from the config's numbers.
An operation is a multiplication or an addition of a matrix product or convolution, as torch's `FlopCounterMode` counts
them (norms, activations and interpolation are left out); attention counts whole squares, not the causal half. The
language model's operations are those of reading the image tokens alone, without its head. An image is counted alone
and at its own size: its views are padded to its longest one, and the processor's limits of tokens do not shrink it.

Letters: P patches of a view, D low-res width, E width of a high-res stage, M language-model width, (h, w) cells.
"""

import copy
import inspect
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoProcessor, PreTrainedTokenizerFast

from fila import FilaConfig, FilaImageProcessorPil, FilaProcessor
from fila.eyes import check_checkpoint
from fila.modeling.connector import build_connector
from fila.modeling.fusion import build_fusion
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
        num_tokens: Image tokens.
        encoder_flops: Operations of both towers, the fusion and the connector; None where the model refuses the
            strategy: views that differ in size, and a high-res tower.
        text_flops: Operations of the language model reading these tokens.
        cache_bytes: Keys and values of these tokens in the language model.
    """

    image: str
    canvas: str
    tile_grid: tuple[int, int]
    num_views: int
    num_tokens: int
    encoder_flops: int | None
    text_flops: int
    cache_bytes: int


class Estimator:
    """Counts what images cost a model.

    Args:
        checkpoint: Folder or Hub id whose config and processor are read; the default sizes of `FilaConfig` without.
    """

    def __init__(self, checkpoint: str | None = None) -> None:
        if checkpoint is None:
            config = FilaConfig()
            tokens = config.patch_grid[0] * config.patch_grid[1]
            processor = FilaProcessor(FilaImageProcessorPil(), _tokenizer(), tokens_per_tile=tokens)
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
        with torch.device("meta"):
            self.fusion = build_fusion(config)
            self.connector = build_connector(config, self.fusion.output_size)

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
            encoder_flops=self.encoder_flops(plan, canvas),
            text_flops=text_flops(self.config.text_config, tokens),
            cache_bytes=cache_bytes(self.config.text_config, tokens),
        )

    def num_tokens(self, size: Size, canvas: dict[str, Any]) -> int:
        """Image tokens of an image of a size: the count of the processor that serves the strategy."""
        plans = self.processor.image_processor.plans(canvas=canvas)
        return int(self.processor_for(canvas)._count(plans(*size)))

    def processor_for(self, canvas: dict[str, Any]) -> Any:
        """The processor, with the `token_size` that a strategy with unequal views needs where it has none."""
        equal_views = self.processor.image_processor.plans(canvas=canvas).equal_views
        rows, cols = self.config.patch_grid
        count = self.connector.tokens_per_tile
        if equal_views or self.processor.token_size is not None or count((rows, cols)) == count((rows, 2 * cols)):
            return self.processor
        processor = copy.copy(self.processor)
        processor.token_size = round(self.config.vision_config.image_size / count((rows, cols)) ** 0.5)
        return processor

    def all_canvases(self, image: str, size: Size) -> list[Estimate]:
        """Count under the image processor's own strategy, first, and every other one with its defaults."""
        own = self.processor.image_processor.canvas
        others = (self.default_options(name) for name in CANVASES if name != own["type"])
        return [self.estimate(image, size, canvas) for canvas in (own, *others)]

    def default_options(self, name: str) -> dict[str, Any]:
        """The options of a strategy that is not the image processor's own: its defaults and the tower's patches."""
        takes_patches = "patch_size" in inspect.signature(CANVASES[name]).parameters
        return {"type": name, **({"patch_size": self.config.vision_config.patch_size} if takes_patches else {})}

    def encoder_flops(self, plan: CanvasPlan, canvas: dict[str, Any]) -> int | None:
        """Operations of both towers, the fusion and the connector for one image; None where the model refuses it."""
        equal_views = self.processor.image_processor.plans(canvas=canvas).equal_views
        has_high_res = self.config.high_res_vision_config is not None
        if has_high_res and not equal_views:
            return None
        vision, patch = self.config.vision_config, self.config.vision_config.patch_size
        grids = [(height // patch, width // patch) for height, width in plan.view_sizes]
        longest = max(rows * cols for rows, cols in grids)
        low = plan.num_views * _vit_flops(vision, longest, self.config.num_vision_layers)
        width, text = self.fusion.output_size, self.config.text_config.hidden_size
        connector = 2 * plan.num_views * longest * (width * text + text * text)
        return low + connector + (_high_res_flops(self.config, self.fusion, plan) if has_high_res else 0)


def _tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that knows the placeholder alone: counting reads no text."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({}, unk_token="")), extra_special_tokens={"image_token": "<image>"}
    )


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


def _vit_flops(vision: Any, patches: int, layers: int) -> int:
    """Operations of a CLIP tower on one view."""
    width, tokens = vision.hidden_size, patches + 1
    embed = 2 * patches * width * getattr(vision, "num_channels", 3) * vision.patch_size**2
    linear = 2 * tokens * (4 * width * width + 2 * width * vision.intermediate_size)
    return int(embed + layers * (linear + 4 * tokens * tokens * width))


def _high_res_flops(config: Any, fusion: Any, plan: CanvasPlan) -> int:
    """Operations of the high-res tower, of bringing its maps to the views, and of the fusion."""
    tile, side = config.vision_config.image_size, config.high_res_tile_size
    canvas, _ = scale_geometry(plan, low=Size(tile, tile), high=Size(side, side))
    stages = [stage for _, stage in fusion.taps]
    read = [*stages, *([fusion.final_stage] if fusion.final_stage else [])]
    total = _convnext_flops(config.high_res_vision_config, canvas, max(read))
    boxes = list(plan.view_boxes)
    if config.high_res_overview == "encode" and plan.overview_size is not None:
        whole = tuple(edge * side / tile for edge in boxes.pop(0))
        total += _resample_flops(whole, canvas, side, 3) + _convnext_flops(
            config.high_res_vision_config, Size(side, side), max(read)
        )
    for stage in read:
        stride = config.high_res_vision_config.patch_size * 2 ** (stage - 1)
        cells = Size(canvas.height // stride, canvas.width // stride)
        width = config.high_res_vision_config.hidden_sizes[stage - 1]
        for box in boxes:
            scaled = tuple(edge * side / (tile * stride) for edge in box)
            total += _resample_flops(scaled, cells, side // stride, width)
    # What the fusion does per view is counted off its own weights: convolutions that halve, and products per patch.
    patches = config.patch_grid[0] * config.patch_grid[1]
    for name, weight in fusion.named_parameters():
        if weight.ndim == 4:
            halvings = [key for key, _ in fusion.named_parameters() if key.startswith(name.rpartition("convs.")[0])]
            chain = sum(key.endswith("weight") and "convs." in key for key in halvings)
            place = int(name.rpartition("convs.")[2].split(".")[0])
            total += plan.num_views * 2 * patches * 4 ** (chain - 1 - place) * weight.numel()
        elif weight.ndim == 2:
            prefix = 1 if getattr(getattr(fusion, "layers", [None])[0], "cls", "") == "mean" else 0
            total += plan.num_views * 2 * (patches + prefix) * weight.numel()
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
        operations = (each.encoder_flops, each.text_flops)
        flops = ["-" if count is None else f"{count / 1e9:,.1f}" for count in operations]
        counts = [str(each.num_views), f"{each.num_tokens:,}", *flops, f"{each.cache_bytes / 2**20:,.1f}"]
        rows.append([each.image, each.canvas, grid, *counts])
    return rows
