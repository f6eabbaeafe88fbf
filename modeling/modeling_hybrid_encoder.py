# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Hybrid encoder: runs both towers stage by stage and joins them at the fusion's taps.

Paper: Zhu et al., "FILA: Fine-Grained Vision Language Models", arXiv:2412.08378; design choices in docs/decisions.md.

The low-res tower encodes views (the overview and the tiles) one by one. The high-res tower encodes each whole canvas
once, so that no tile border cuts an object there. At a tap each view takes the part of the stage's map under the
view's box.

Shapes: I images, V views of the image with the most, T real views of all images, S pixels per side of a view, N prefix
tokens (CLS), P patches of a view, D low-res width, E width of a high-res stage, (h, w) cells of a stage's map, s cells
per side of a view's part of it.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

import torch
from torch import nn
from transformers import CLIPVisionModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_fila import FilaConfig
from .configuration_stored_layers import check_stored_layers
from .fusion import build_fusion
from .fusion_align import area_resample, interpolate_box, stack_stages
from .image_plan import ImagePixels, ImagePlan, PerImage
from .model_features import FEATURES
from .module_dtypes import at_entry
from .module_layers import layers_of
from .towers import build_high_res_towers, build_low_res_tower, check_tower_types, locate_stage
from .view_high_res import (
    EncodedViews,
    has_overview,
    high_res_views,
    low_res_views,
    real_canvases,
    scaled_box,
)
from .view_layout import ViewLayout, check_views, chunks_of, packed_views

if TYPE_CHECKING:
    from .towers import CanvasTower


class FilaPreTrainedModel(PreTrainedModel):
    """Base class of all fila models: flags, and initial values of weights that no checkpoint holds."""

    config_class = FilaConfig
    config: FilaConfig
    base_model_prefix = "model"
    input_modalities: tuple[str, ...] = ("image", "video", "text")  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    _no_split_modules: list[str] | set[str] = []  # noqa: RUF012  # each part declares its own classes
    _skip_keys_device_placement = ["past_key_values", "cache"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = False  # sizes of images are Python numbers; a text-only step sets the flag on the model

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *args: Any, **kwargs: Any
    ) -> Self:
        """Reject configs with more layers than the files hold tensors, then load as transformers does."""
        if not kwargs.get("subfolder"):
            check_stored_layers(pretrained_model_name_or_path)
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    def post_init(self) -> None:
        """Run transformers' `post_init`, then collect `_no_split_modules` from the parts that this model contains."""
        super().post_init()
        self._no_split_modules = layers_of(self)

    def enable_input_require_grads(self) -> None:
        """Register transformers' hooks, and the same hook on canvas towers.

        Canvas towers are plain `nn.Module`s, so the base method does not find them. Reentrant checkpointing gives a
        block's adapters a gradient only if its input requires one. A frozen tower runs without a graph, see
        `module_gradients.py`.
        """
        super().enable_input_require_grads()
        for tower in self.modules():
            if getattr(type(tower), "encodes_views", None) is False:
                hook = cast(nn.Module, tower.embeddings).register_forward_hook(_want_gradient)
                self._require_grads_hooks.append(hook)

    @classmethod
    def is_custom_code(cls) -> bool:
        """Keep transformers from skipping the init rules of modules without parameters; CLIP has such rules."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(getattr(module, "image_newline", None), nn.Parameter):
            init.normal_(cast(nn.Parameter, module.image_newline), std=self.config.initializer_range)
        elif callable(initialise := getattr(module, "set_initial_weights", None)):
            initialise(self.config.initializer_range)


class Canvases:
    """The maps of a high-res tower that encodes whole canvases, advanced stage by stage.

    Canvases of one size run together; a canvas is never padded to its neighbour's size. With
    `high_res_overview="encode"` the whole images, drawn at one view's high-res size, run as one more group. The tower
    gets all groups in one call, so that the number of calls is the same for every batch.

    Args:
        config: The `FilaConfig`.
        tower: The tower.
        canvases: One `(3, h, w)` per image.
        plan: The plan of the images.
        kept_stages: Stages of this tower whose maps are read again after the tower has run further.
    """

    def __init__(
        self,
        config: FilaConfig,
        tower: "CanvasTower",
        canvases: list[torch.Tensor],
        plan: ImagePlan,
        kept_stages: set[int],
    ):
        self.config = config
        self.tower = tower
        self.boxes = boxes = plan.boxes
        self.stage = 0
        self.kept_stages = kept_stages
        self.kept: dict[int, dict[tuple[str, tuple[int, int]], torch.Tensor]] = {}
        self.stacks: dict[tuple[int, ...], dict[tuple[str, tuple[int, int]], torch.Tensor]] = {}
        self.groups: dict[tuple[str, tuple[int, int]], list[int]] = {}
        self.has_overview = has_overview(plan.layout)
        inputs: dict[tuple[str, tuple[int, int]], list[torch.Tensor]] = {}
        for index, canvas in enumerate(canvases):
            self._add(inputs, ("canvas", (canvas.shape[1], canvas.shape[2])), index, canvas)
            if config.high_res_overview == "encode" and self.has_overview[index]:
                side = config.high_res_tile_size
                whole = area_resample(canvas, scaled_box(config, boxes[index][0]), (side, side))
                self._add(inputs, ("overview", (side, side)), index, whole)
        self.maps = dict(zip(inputs, tower.embed(tuple(map(torch.stack, inputs.values()))), strict=True))

    def _add(
        self,
        inputs: dict[tuple[str, tuple[int, int]], list[torch.Tensor]],
        key: tuple[str, tuple[int, int]],
        index: int,
        pixels: torch.Tensor,
    ) -> None:
        self.groups.setdefault(key, []).append(index)
        inputs.setdefault(key, []).append(pixels)

    def advance(self, stage: int) -> None:
        """Run the tower up to `stage` (counted from 1) and keep the maps of `kept_stages`."""
        for stop in sorted({kept for kept in self.kept_stages if kept < stage} | {stage}):
            if stop > self.stage:
                maps = self.tower.run_stages(tuple(self.maps.values()), self.stage, stop)
                self.maps = dict(zip(self.maps, maps, strict=True))
                self.stage = stop
                if stop in self.kept_stages:
                    self.kept[stop] = self.maps

    def _stacked(self, stages: tuple[int, ...]) -> dict[tuple[str, tuple[int, int]], torch.Tensor]:
        """Return the maps of `stages`, stacked once for all chunks."""
        by_stage = [self.kept.get(stage, self.maps) for stage in stages]
        if len(stages) == 1:
            return by_stage[0]
        if stages not in self.stacks:
            self.stacks[stages] = {key: stack_stages([maps[key] for maps in by_stage]) for key in self.groups}
        return self.stacks[stages]

    def per_view(self, stages: Sequence[int], chunk: slice) -> torch.Tensor:
        """Return each view's part of the stacked maps of `stages`, for the views of `chunk`: `(T, E, s, s)`.

        A tile's box consists of whole cells and is cut out. The overview's box is the content box: it is averaged
        (or interpolated) onto s x s cells.
        """
        stride = self.tower.stride(stages[0])
        side = self.config.high_res_tile_size // stride
        stacked = self._stacked(tuple(stages))
        map_of: dict[tuple[str, int], torch.Tensor] = {}
        for key, indices in self.groups.items():
            for row, index in enumerate(indices):
                map_of[key[0], index] = stacked[key][row]
        squares = []
        views = [(index, view) for index, boxes in enumerate(self.boxes) for view in range(len(boxes))]
        for index, view in views[chunk]:
            is_overview = view == 0 and self.has_overview[index]
            if is_overview and ("overview", index) in map_of:
                squares.append(map_of["overview", index])
                continue
            shrink = is_overview and self.config.high_res_overview == "interpolate"
            resample = interpolate_box if shrink else area_resample
            box = scaled_box(self.config, self.boxes[index][view], stride)
            squares.append(resample(map_of["canvas", index], box, (side, side)))
        if chunk.stop == len(views):  # the last chunk to read them
            self.stacks.pop(tuple(stages), None)
        return torch.stack(squares)


class FilaVisionModel(FilaPreTrainedModel):
    """The hybrid encoder without connector and language model."""

    main_input_name = "pixel_values"
    input_modalities = ("image",)  # type: ignore[assignment]
    _can_record_outputs = CLIPVisionModel._can_record_outputs

    def __init__(self, config: FilaConfig) -> None:
        super().__init__(config)
        check_tower_types(config)
        self.views_from_low_res = None
        if config.high_res_vision_config is not None and not config.has_high_res_canvas:
            check, self.views_from_low_res = FEATURES["views_from_low_res"]
            check(config)
        self.fusion: Any = build_fusion(config)  # a `Fusion` that is a module
        self.low_res_tower: Any = build_low_res_tower(
            config.vision_config, config.num_vision_layers
        )  # a `LowResTower` that is a model
        self.read_stages = [stage for _, stage in self.fusion.taps] + [
            stage for group in self.fusion.final_stages for stage in group
        ]
        towers = build_high_res_towers(config, self.read_stages)
        self.high_res_tower = towers[0] if towers else None
        self.extra_towers = nn.ModuleList(towers[1:])
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the low-res tower's patch embedding."""
        embeddings: nn.Module = self.low_res_tower.get_input_embeddings()
        return embeddings

    @property
    def high_res_towers(self) -> list[Any]:
        """The first high-res tower and the extra ones."""
        return [] if self.high_res_tower is None else [self.high_res_tower, *self.extra_towers]

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: PerImage,
        view_boxes: PerImage,
        tile_grid: PerImage,
        high_res_pixel_values: PerImage | None = None,
        high_res_sizes: PerImage | None = None,
        patch_grids: PerImage | None = None,
        views_per_chunk: int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Encode all views of all images.

        Args:
            pixel_values: `(I, V, 3, S, S)` float, or one `(V_i, 3, S, S)` per image; overview first, then tiles
                row-major.
            view_boxes: `(I, V, 4)` int, or one `(V_i, 4)` per image; see `image_plan.py`.
            tile_grid: `(I, 2)` int, (rows, cols).
            high_res_pixel_values: `(I, 3, H, W)` float, or one `(3, H_i, W_i)` per image; needed with a high-res
                tower.
            high_res_sizes: `(I, 2)` int, (height, width) of each canvas inside `high_res_pixel_values`.
            patch_grids: `(I, V, 2)` int, or one `(V_i, 2)` per image: the patches per axis of views that differ in
                size. `pixel_values` then holds their patches side by side; see `packed_views`.
            views_per_chunk: Views that the view towers and the fusion process at a time; None: all. Requests for
                hidden states or attentions process all too. A high-res canvas is always encoded whole.

        Returns:
            `last_hidden_state` is `(T, P', output_size of the fusion)`, P' the tokens of the fusion's `output_grid`;
            views image by image. With `patch_grids`, P' is the number of patches of the largest view, and rows
            beyond a view's patches are padding. `hidden_states` and `attentions`, if requested, are those of the
            low-res tower.

        Raises:
            ValueError: If an input is missing or the sizes contradict each other.
        """
        plan = ImagePlan.of(view_boxes, tile_grid, high_res_sizes, patch_grids)
        pixels = ImagePixels(pixel_values, high_res_pixel_values)
        encoded = self.encode(plan, pixels, views_per_chunk, **kwargs)
        return BaseModelOutputWithPooling(last_hidden_state=encoded)  # type: ignore[arg-type]

    def encode(
        self,
        plan: ImagePlan,
        pixels: ImagePixels,
        views_per_chunk: int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """Encode all views of a batch, see `forward`.

        1. Take the views out of the padded tensors, or cut them out of the high-res canvases.
        2. Tap by tap: run a group of low-res layers, run a high-res tower up to the tap's stage, and fuse each view's
           part of that stage's map into the view's tokens.
        3. Finish the fusion with the last maps.

        Args:
            plan: The views of each image and their boxes.
            pixels: Their pixels.
            views_per_chunk: As in `forward`.

        Returns:
            `(T, P', output_size of the fusion)`.
        """
        if plan.patch_grids is not None:
            self._check_takes_any_views()
        canvases: list[torch.Tensor] = []
        if self.config.has_high_res_canvas:
            if pixels.high_res is None or plan.high_res_sizes is None:
                raise ValueError(
                    "A model with a high-res tower needs `high_res_pixel_values` and `high_res_sizes`, which are "
                    "missing. Pass everything the processor returns; its `high_res_size` must not be None."
                )
            canvases = real_canvases(self.config, pixels.high_res, plan.high_res_sizes, plan.boxes)
        views, grids = self._low_res_input(pixels.views, canvases, plan)
        records = any(
            kwargs.get(name, getattr(self.config, name)) for name in ("output_hidden_states", "output_attentions")
        )
        chunks = chunks_of(len(views), None if records else views_per_chunk)
        maps_of = self._high_res_maps(canvases, plan, views, self.read_stages if len(chunks) > 1 else None)
        found = []
        for chunk in chunks:
            own = self._encode(chunk, views[chunk], None if grids is None else grids[chunk], maps_of, **kwargs)
            found.append(own if self.fusion.joins_views else (self._finished(own[0], own[1:], plan.layout),))
        low, *maps = (own[0] if len(own) == 1 else torch.cat(own) for own in zip(*found, strict=True))
        if self.fusion.joins_views:
            low = self._finished(low, tuple(maps), plan.layout)
        return low

    def _encode(
        self,
        chunk: slice,
        views: torch.Tensor,
        grids: torch.Tensor | None,
        maps_of: list[Canvases | EncodedViews],
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, ...]:
        """Return the inputs of `fusion.finish` for a chunk of views: `(T, P, D)`, and `(T, E, s, s)` per group."""
        low = self.low_res_tower.embed(views, grids)
        options = {**kwargs, "attention_mask": self.low_res_tower.attention_mask(low, grids)}
        done = 0
        for tap, (layer, stage) in enumerate(self.fusion.taps):
            low = self.low_res_tower.run_layers(low, done, layer, **options)
            done = layer
            high = self._read(maps_of, (stage,), chunk).to(low.device)
            low = self.fusion.fuse(tap, at_entry(self.fusion, low), high).to(low.dtype)
        low = self.low_res_tower.run_layers(low, done, self.low_res_tower.num_layers, **options)
        low = self.low_res_tower.finish(low)
        if self.config.vision_feature_select == "patch":
            low = low[:, self.low_res_tower.num_prefix_tokens :]
        return low, *(self._read(maps_of, group, chunk).to(low.device) for group in self.fusion.final_stages)

    def _finished(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        finished: torch.Tensor = self.fusion.finish(at_entry(self.fusion, low), maps, layout)
        return finished

    def _check_takes_any_views(self) -> None:
        """Check that the model accepts views of different sizes."""
        if not self.fusion.takes_unequal_views or self.config.vision_feature_select != "patch":
            raise ValueError(
                "`patch_grids` says that the views differ in size; a model with a high-res tower takes equal "
                f"views, and so do 'cls_patch' and a fusion, here {self.config.fusion}. Choose another canvas, or "
                '`high_res_vision_config=None` and `fusion={"type": "none"}`.'
            )

    def _low_res_input(
        self,
        pixel_values: PerImage,
        canvases: list[torch.Tensor],
        plan: ImagePlan,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the real views `(T, 3, S, S)`, or `(T, 3, p, L * p)` with their patch grids `(T, 2)`."""
        if self.config.low_res_views != "processor":
            return low_res_views(self.config, canvases, plan.boxes), None
        num_views = list(plan.num_views)
        check_views(self.config, pixel_values, num_views, are_packed=plan.patch_grids is not None)
        if plan.patch_grids is not None:
            return packed_views(pixel_values, plan.patch_grids, num_views)
        return torch.cat([pixels[:count] for pixels, count in zip(pixel_values, num_views, strict=True)]), None

    def _high_res_maps(
        self,
        canvases: list[torch.Tensor],
        plan: ImagePlan,
        low_res: torch.Tensor,
        read_again: Sequence[int] | None,
    ) -> list[Canvases | EncodedViews]:
        """Prepare the maps of each high-res tower; those of the last stages, or of `read_again`, will be kept."""
        towers = self.high_res_towers
        final = [stage for group in self.fusion.final_stages for stage in group]
        kept = [locate_stage(self.config, stage) for stage in (final if read_again is None else read_again)]
        views = None
        if any(tower.encodes_views for tower in towers):
            views = (
                high_res_views(self.config, canvases, plan.boxes, plan.layout)
                if self.config.has_high_res_canvas
                else self.views_from_low_res(self.config, low_res)
            )
        found: list[Canvases | EncodedViews] = []
        for index, tower in enumerate(towers):
            if tower.encodes_views:
                assert views is not None
                found.append(EncodedViews(tower, views))
            else:
                stages = {own for tower_index, own in kept if tower_index == index}
                found.append(Canvases(self.config, tower, canvases, plan, stages))
        return found

    def _read(self, maps_of: list[Canvases | EncodedViews], stages: tuple[int, ...], chunk: slice) -> torch.Tensor:
        """Return the parts `(T, E, s, s)` of the maps of `stages`, all of one tower, for the views of `chunk`."""
        located = [locate_stage(self.config, stage) for stage in stages]
        maps, own = maps_of[located[0][0]], [stage for _, stage in located]
        maps.advance(max(own))
        return maps.per_view(own, chunk)


def _want_gradient(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
    """Mark an output as requiring a gradient while a graph is recorded."""
    if torch.is_grad_enabled():
        output.requires_grad_(True)
