# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Cost of an image under every canvas strategy: tokens, operations of encoder and language model, cache.

No pixel is read. Sizes come from headers, and tokens from plans. The language model's operations are computed from
the config; those of towers, fusion and connector are counted in a run on meta tensors.
An operation is a multiplication or an addition of a matrix product or convolution, as torch's `FlopCounterMode` counts
them (norms, activations and interpolation are left out); attention counts whole squares, not the causal half. The
language model's operations are those of reading the image tokens alone, without its head. An image is counted alone
and at its own size: its views are padded to its longest one, and the processor's limits of tokens do not shrink it.
"""

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ParamSpec, TypeVar

from transformers import AutoConfig, AutoProcessor, PreTrainedConfig

from fila.conversion.damage import naming_damage
from fila.look.view_settings import Eyes, check_checkpoint, placeholder_tokenizer, pruned
from fila.modeling.configuration_fila import FilaConfig
from fila.modeling.connector import build_connector
from fila.processing.canvas_plan import CanvasPlan, Size
from fila.processing.image_processing_fila import FilaImageProcessorPil
from fila.processing.image_render import scale_geometry
from fila.processing.processing_fila import FilaProcessor

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")


@dataclass(frozen=True)
class Estimate:
    """Cost of one image under one canvas strategy.

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
        at_most: Whether tokens, and what follows from them, are the most that such an image may have (`prune`).
    """

    image: str
    canvas: str
    tile_grid: tuple[int, int]
    num_views: int
    num_tokens: int | None
    encoder_flops: int | None
    text_flops: int | None
    cache_bytes: int | None
    at_most: bool = False


class Estimator:
    """Counter of a model's cost of images.

    Args:
        checkpoint: Folder or Hub id whose config and processor are read; the default sizes of `FilaConfig` without.
        prune: Pruning of image tokens, instead of the checkpoint's.
    """

    def __init__(self, checkpoint: str | None = None, prune: Mapping[str, Any] | None = None) -> None:
        if checkpoint is None:
            config = FilaConfig(**pruned(prune))
            tokens = config.patch_grid[0] * config.patch_grid[1]
            processor = FilaProcessor(
                FilaImageProcessorPil(), placeholder_tokenizer(), tokens_per_tile=tokens, **pruned(prune)
            )
        else:
            check_checkpoint(checkpoint)
            with naming_damage(checkpoint):
                config = AutoConfig.from_pretrained(checkpoint, **pruned(prune))
                processor = AutoProcessor.from_pretrained(checkpoint, **pruned(prune))
            if not isinstance(config, FilaConfig):
                raise ValueError(f"{checkpoint!r} is of model type {config.model_type!r}; this needs 'fila'.")
        self._set(config, processor)

    @classmethod
    def of(cls, config: FilaConfig, processor: FilaProcessor) -> "Estimator":
        """Make an estimator from a loaded config and processor."""
        made = cls.__new__(cls)
        made._set(config, processor)
        return made

    def _set(self, config: FilaConfig, processor: FilaProcessor) -> None:
        self.config, self.processor = config, processor
        self.eyes = Eyes.of(config, processor, "")

    def estimate(self, image: str, size: Size, canvas: dict[str, Any]) -> Estimate:
        """Estimate the cost of an image of a size under the strategy of an option dict."""
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
            at_most=self.eyes.at_most,
        )

    def num_tokens(self, size: Size, canvas: dict[str, Any]) -> int | None:
        """Return an image's tokens as the strategy's processor counts them; None if there is no such processor."""
        plan = self.processor.image_processor.plan(*size, canvas=canvas)
        processor = self.processor_for(canvas)
        unit = processor.token_size or 1
        if any(side % unit for view in plan.view_sizes for side in view):
            return None
        return int(processor._count(plan))

    def processor_for(self, canvas: dict[str, Any]) -> FilaProcessor:
        """Return the processor, with a `token_size` added if a strategy with unequal views needs one."""
        if self.processor.image_processor.plans(canvas=canvas).equal_views or self.processor.token_size is not None:
            return self.processor
        if self.eyes.token_size is None:  # as many tokens for every view
            return self.processor
        processor = copy.copy(self.processor)
        processor.token_size = self.eyes.token_size
        return processor

    def all_canvases(self, image: str, size: Size) -> list[Estimate]:
        """Return estimates under the image processor's own strategy, then under all others with their defaults."""
        own = self.processor.image_processor.canvas
        return [self.estimate(image, size, canvas) for canvas in (own, *self.eyes.other_canvases())]

    @cached_property
    def counter(self) -> "EncoderFlops":
        """Counter of the operations of the model's encoder and connector."""
        return EncoderFlops(self.config)

    def encoder_flops(self, plan: CanvasPlan, canvas: dict[str, Any]) -> int | None:
        """Return the operations of towers, fusion and connector for one image; None if the model rejects it."""
        if self.processor.image_processor.plans(canvas=canvas).equal_views:
            return self.counter.of_equal_views(plan)
        return self.counter.of_unequal_views(plan) if self.counter.takes_unequal_views else None


class EncoderFlops:
    """Counter of the operations of a hybrid encoder and a connector, which runs them on meta tensors.

    Towers, fusion and connector run once per distinct input shape. Later calls with that shape return the first
    call's result and add its count. The towers encode one view at a time, so that shapes repeat.

    Args:
        config: The `FilaConfig`.
    """

    def __init__(self, config: FilaConfig) -> None:
        import torch

        from fila.modeling.injection import build_injection
        from fila.modeling.modeling_hybrid_encoder import FilaVisionModel

        assert config.tile_size is not None
        self.config, self.tile = config, config.tile_size
        with torch.device("meta"):
            encoder = FilaVisionModel(copy.deepcopy(config)).eval().requires_grad_(False)
            self.injection: Any = None
            if config.has_injection:
                self.injection = build_injection(copy.deepcopy(config), encoder.fusion)
                module: Any = self.injection.input_connector(config, encoder.fusion)
            else:
                module = build_connector(config, encoder.fusion.output_size)
        self.encoder, self.connector, low = encoder, module, encoder.low_res_tower
        connectors = [self.connector, *(() if self.injection is None else self.injection.connectors)]
        for part in connectors:
            part.eval().requires_grad_(False)
        takes_unequal = all(part.takes_unequal_views for part in connectors)
        self.takes_unequal_views = (
            encoder.fusion.takes_unequal_views and takes_unequal and (low.takes_mask or config.has_serial_towers)
        )
        self.counter: Any = None
        self.repeated = 0  # operations of calls that were not run again
        methods = [(low, ("embed", "run_layers", "finish")), (encoder.fusion, ("fuse", "finish"))]
        for tower in encoder.high_res_towers:
            methods.append((tower, ("forward",) if tower.encodes_views else ("embed", "run_stages")))
        for part, names in [*methods, *((connector, ("forward",)) for connector in connectors)]:
            for name in names:
                setattr(part, name, self._run_once_per_shape(getattr(part, name)))

    def of_equal_views(self, plan: CanvasPlan) -> int:
        """Return the operations for an image whose views have the tile's size."""
        import torch

        tile = self.tile
        inputs = {
            "pixel_values": torch.empty(1, plan.num_views, 3, tile, tile, device="meta"),
            "view_boxes": torch.tensor([plan.view_boxes]),
            "tile_grid": torch.tensor([plan.tile_grid]),
        }
        if (side := self.config.high_res_tile_size) is not None:
            canvas, _ = scale_geometry(plan, low=Size(tile, tile), high=Size(side, side))
            inputs["high_res_pixel_values"] = torch.empty(1, 3, *canvas, device="meta")
            inputs["high_res_sizes"] = torch.tensor([canvas])

        def run() -> None:
            self._connect(self.encoder(**inputs, views_per_chunk=1, feature_layers=self._feature_layers), None)

        return self._count(run)

    def of_unequal_views(self, plan: CanvasPlan) -> int:
        """Return the operations for an image whose views differ in size.

        Each is padded to the longest, but for serial towers, which encode views of one size together.
        """
        import torch

        from fila.modeling.modeling_outputs import FilaVisionOutput

        if self.config.has_serial_towers:
            return self._of_serial_towers(plan)
        tower, patch = self.encoder.low_res_tower, self.config.patch_size
        grids = torch.tensor([(height // patch, width // patch) for height, width in plan.view_sizes])
        longest = grids[grids.prod(dim=1).argmax()][None]
        patches = torch.empty(1, 3, patch, int(longest.prod()) * patch, device="meta")
        options = {"patch_grids": longest} if hasattr(tower, "vit_merger") else {}
        joined = self.encoder.grid_of(grids)

        def run() -> None:
            for _ in grids:
                low, done, states = tower.embed(patches, longest), 0, {}
                for layer in sorted(self._feature_layers):
                    low, done = tower.run_layers(low, done, layer, **options), layer
                    states[layer] = all_views(low)
                low = tower.finish(tower.run_layers(low, done, tower.num_layers, **options))
            self._connect(
                FilaVisionOutput(
                    last_hidden_state=all_views(low),
                    layer_features=tuple(states[layer] for layer in self._feature_layers) or None,
                ),
                joined,
            )

        def all_views(low: Any) -> Any:
            return low[:, tower.num_prefix_tokens :].expand(len(grids), -1, -1)

        return self._count(run)

    def _of_serial_towers(self, plan: CanvasPlan) -> int:
        import torch

        patch = self.config.patch_size
        grids = torch.tensor([[(height // patch, width // patch) for height, width in plan.view_sizes]])
        shape = 1, plan.num_views, 3, patch, int(grids.prod(dim=-1).max()) * patch
        inputs = {
            "pixel_values": torch.empty(shape, device="meta"),
            "view_boxes": torch.tensor([plan.view_boxes]),
            "tile_grid": torch.tensor([plan.tile_grid]),
            "patch_grids": grids,
        }

        def run() -> None:
            features = self.encoder(**inputs, views_per_chunk=1).last_hidden_state
            self.connector(features, self.encoder.grid_of(grids[0]))

        return self._count(run)

    @property
    def _feature_layers(self) -> list[int]:
        return [] if self.injection is None else self.injection.feature_layers

    def _connect(self, encoded: Any, grids: Any) -> None:
        """Run the connectors; `grids` are those of views that differ in size."""

        def laid_out(features: Any, connector: Any = None, grid: Any = None) -> list[Any]:
            used = self.connector if connector is None else connector
            default = self.encoder.fusion.output_grid if grid is None else grid
            return [used(features, default if grids is None else grids)]

        if self.injection is None:
            laid_out(encoded.last_hidden_state)
        else:
            self.injection.image_features(encoded, laid_out, None)

    def _count(self, run: Callable[[], None]) -> int:
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        self.repeated = 0
        # as matrix products, attention is counted whole whatever kernel a device has
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as self.counter:
            run()
        return int(self.counter.get_total_flops()) + self.repeated

    def _run_once_per_shape(self, method: Callable[Inputs, Output]) -> Callable[Inputs, Output]:
        known: dict[object, tuple[int, Output]] = {}

        def call(*args: Inputs.args, **kwargs: Inputs.kwargs) -> Output:
            key = shapes_of((*args, *kwargs.items()))
            if key in known:
                self.repeated += known[key][0]
            else:
                before = self.counter.get_total_flops()
                result = method(*args, **kwargs)
                known[key] = self.counter.get_total_flops() - before, result
            return known[key][1]

        return call


def shapes_of(value: object) -> object:
    """Replace each tensor in a value by its shape."""
    if isinstance(value, tuple | list):
        return tuple(map(shapes_of, value))
    return tuple(value.shape) if hasattr(value, "shape") else value


def attention_layers(text: PreTrainedConfig) -> int:
    """Return the number of a language model's layers that keep keys and values; others keep a state of one size."""
    kinds = getattr(text, "layer_types", None) or ()
    return int(text.num_hidden_layers) - sum("attention" not in kind or "linear" in kind for kind in kinds)


def text_flops(text: PreTrainedConfig, tokens: int) -> int | None:
    """Return the operations of a language model of LLaMA's layout reading tokens; None for another layout."""
    if not hasattr(text, "intermediate_size") or attention_layers(text) != text.num_hidden_layers:
        return None
    width, heads = text.hidden_size, text.num_attention_heads
    head = getattr(text, "head_dim", None) or width // heads
    cached = getattr(text, "num_key_value_heads", None) or heads
    linear = 2 * width * head * heads + 2 * width * head * cached + 3 * width * text.intermediate_size
    return int(text.num_hidden_layers * (2 * tokens * linear + 4 * tokens * tokens * heads * head))


def cache_bytes(text: PreTrainedConfig, tokens: int) -> int:
    """Return the bytes of the tokens' keys and values, in the config's dtype (bfloat16 if it names none)."""
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    cached = getattr(text, "num_key_value_heads", None) or heads
    dtype = str(getattr(text, "dtype", None) or "bfloat16").removeprefix("torch.")
    return int(2 * attention_layers(text) * cached * head * tokens * BYTES.get(dtype, 2))


def as_json(estimates: Iterable[Estimate]) -> str:
    """Convert estimates to a JSON list."""
    return json.dumps([asdict(each) for each in estimates], indent=2)


def as_rows(estimates: Iterable[Estimate]) -> list[list[str]]:
    """Convert estimates to rows of a table; the first row has the names of the columns."""
    rows = [["image", "canvas", "tiles", "views", "tokens", "encoder GFLOP", "text GFLOP", "cache MiB"]]
    for each in estimates:
        grid = "x".join(map(str, each.tile_grid))
        flops = [_told(count, 1e9) for count in (each.encoder_flops, each.text_flops)]
        tokens = "-" if each.num_tokens is None else f"{'at most ' * each.at_most}{each.num_tokens:,}"
        counts = [str(each.num_views), tokens, *flops, _told(each.cache_bytes, 2**20)]
        rows.append([each.image, each.canvas, grid, *counts])
    return rows


def _told(count: int | None, unit: float) -> str:
    """Format a number in a unit, or a dash for None."""
    return "-" if count is None else f"{count / unit:,.1f}"
