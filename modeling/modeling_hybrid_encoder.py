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
from transformers.utils import TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_fila import FilaConfig
from .configuration_stored_layers import check_stored_layers
from .fusion import build_fusion
from .fusion_align import area_resample, interpolate_box, stack_stages
from .image_plan import ImagePixels, ImagePlan, PerImage
from .model_features import FEATURES
from .modeling_outputs import FilaVisionOutput
from .module_dtypes import at_entry
from .module_layers import layers_of
from .module_sharding import is_sharded
from .towers import build_high_res_towers, build_low_res_tower, check_tower_types, locate_stage, low_res_grid
from .view_high_res import (
    EncodedViews,
    has_overview,
    high_res_views,
    low_res_views,
    real_canvases,
    scaled_box,
)
from .view_layout import ViewLayout, check_views, chunks_of, packed_views
from .view_patch_grid import Grid

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
        learned = [getattr(module, name, None) for name in ("image_newline", "view_separator")]
        if vectors := [vector for vector in learned if isinstance(vector, nn.Parameter)]:
            for vector in vectors:
                init.normal_(vector, std=self.config.initializer_range)
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
        self.views_from_low_res: Any = None
        if not (config.high_res_vision_config is None or config.has_high_res_canvas or config.has_serial_towers):
            check, self.views_from_low_res = FEATURES["views_from_low_res"]
            check(config)
        self.fusion: Any = build_fusion(config)  # a `Fusion` that is a module
        self.low_res_tower: Any = build_low_res_tower(
            config.vision_config, config.num_vision_layers
        )  # a `LowResTower` that is a model
        merge_after = getattr(getattr(self.low_res_tower, "vit_merger", None), "after", 0)
        if early := [layer for layer, _ in self.fusion.taps if layer < merge_after]:
            raise ValueError(
                f"Fusion {config.fusion['type']!r} reads layers {early} of the low-res tower, whose patches are "
                f"joined behind layer {merge_after}, and all its maps have the grid behind that layer. Choose later "
                "layers, or another fusion, or set `tower_options.merge_after` to null."
            )
        self.serial: Any = None  # the rules of serial towers
        if config.has_serial_towers:
            self.serial = FEATURES["serial_towers"](config, self.low_res_tower)
        self.visionzip: Any = None
        if config.prune is not None and config.prune.get("type") == "visionzip":
            self.visionzip = FEATURES["pruning"].VisionZip(config, self.fusion, self.low_res_tower)
        self.read_stages = [stage for _, stage in self.fusion.taps] + [
            stage for group in self.fusion.final_stages for stage in group
        ]
        self.read_stages += [] if self.serial is None else [self.serial.stage]
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

    def grid_of(self, patch_grids: torch.Tensor | None) -> Grid:
        """Return the grid of the features of all views, or one grid per view, `(T, 2)` int64, for views of any size.

        Args:
            patch_grids: `(T, 2)` int, the patches per axis of each view; None for equal views.
        """
        if patch_grids is None:
            grid: tuple[int, int] = self.fusion.output_grid
            return grid
        config, patch = self.config, self.config.patch_size
        grids = [low_res_grid(config, rows * patch, cols * patch) for rows, cols in patch_grids.tolist()]
        return torch.tensor(grids, device=patch_grids.device)

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
        feature_layers: Sequence[int] = (),
        **kwargs: Unpack[TransformersKwargs],
    ) -> FilaVisionOutput:
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
            feature_layers: Hidden states of the low-res tower to return as `layer_features`: 0 for the output of the
                embeddings, i for that of layer i, after a tap of the fusion there and before any final norm.

        Returns:
            `last_hidden_state` is `(T, P', output_size of the fusion)`, P' the tokens of the fusion's `output_grid`;
            views image by image. With `patch_grids`, P' is the number of cells of the largest view's grid, see
            `grid_of`, and rows beyond a view's cells are padding. `hidden_states` and `attentions`, if requested, are
            those of the low-res tower.

        Raises:
            ValueError: If an input is missing or the sizes contradict each other.
        """
        plan = ImagePlan.of(view_boxes, tile_grid, high_res_sizes, patch_grids)
        pixels = ImagePixels(pixel_values, high_res_pixel_values)
        states: dict[int, list[torch.Tensor]] = {layer: [] for layer in feature_layers}
        received: list[tuple[torch.Tensor, ...]] = []
        encoded = self.encode(plan, pixels, views_per_chunk, states, received, **kwargs)
        joined = {layer: torch.cat(chunks) for layer, chunks in states.items()}
        features = tuple(joined[layer] for layer in feature_layers) or None
        chosen = None
        if self.visionzip is not None:
            encoded, chosen = self.visionzip(encoded, *(torch.cat(parts) for parts in zip(*received, strict=True)))
        return FilaVisionOutput(last_hidden_state=encoded, layer_features=features, chosen=chosen)  # type: ignore[arg-type]

    def encode(
        self,
        plan: ImagePlan,
        pixels: ImagePixels,
        views_per_chunk: int | None = None,
        states: dict[int, list[torch.Tensor]] | None = None,
        received: list[tuple[torch.Tensor, ...]] | None = None,
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
            states: By layer of the low-res tower a list, to which each chunk's hidden state `(T, P, D)` is appended.
            received: Gets, chunk by chunk, what `VisionZip` reads, in a model with it.

        Returns:
            `(T, P', output_size of the fusion)`.
        """
        if plan.patch_grids is not None:
            self._check_takes_any_views()
            if self.visionzip is not None:
                self.visionzip.refuse_unequal_views()
        canvases: list[torch.Tensor] = []
        if self.config.has_high_res_canvas:
            if pixels.high_res is None or plan.high_res_sizes is None:
                raise ValueError(
                    "A model with a high-res tower needs `high_res_pixel_values` and `high_res_sizes`, which are "
                    "missing. Pass everything the processor returns; its `high_res_size` must not be None."
                )
            canvases = real_canvases(self.config, pixels.high_res, plan.high_res_sizes, plan.boxes)
        views, grids = self._low_res_input(pixels.views, canvases, plan)
        if any(kwargs.get(name, getattr(self.config, name)) for name in ("output_hidden_states", "output_attentions")):
            views_per_chunk = None

        def encode(own: torch.Tensor, own_grids: torch.Tensor | None = None) -> torch.Tensor:
            return self._encode_views(own, own_grids, canvases, plan, views_per_chunk, states, received, **kwargs)

        if self.serial is None:
            return encode(views, grids)
        encoded: torch.Tensor = self.serial.encode(views, grids, encode, is_sharded=is_sharded(self))
        return encoded

    def _encode_views(
        self,
        views: torch.Tensor,
        grids: torch.Tensor | None,
        canvases: list[torch.Tensor],
        plan: ImagePlan,
        views_per_chunk: int | None,
        states: dict[int, list[torch.Tensor]] | None,
        received: list[tuple[torch.Tensor, ...]] | None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """Encode views that run together, chunk by chunk: `(T, P', output_size of the fusion)`."""
        chunks = chunks_of(len(views), views_per_chunk)
        maps_of = self._high_res_maps(views, canvases, plan, self.read_stages if len(chunks) > 1 else None)
        found = []
        for chunk in chunks:
            own_grids = None if grids is None else grids[chunk]
            own = self._encode(chunk, views[chunk], own_grids, maps_of, states, received, **kwargs)
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
        states: dict[int, list[torch.Tensor]] | None = None,
        received: list[tuple[torch.Tensor, ...]] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, ...]:
        """Return the inputs of `fusion.finish` for a chunk of views: `(T, P, D)`, and `(T, E, s, s)` per group."""
        if self.serial is None:
            low = self.low_res_tower.embed(views, grids)
        else:
            low = self.low_res_tower.embed(self._read(maps_of, (self.serial.stage,), chunk))
        options = {**kwargs, "attention_mask": self.low_res_tower.attention_mask(low, grids)}
        if grids is not None and hasattr(self.low_res_tower, "vit_merger"):
            options["patch_grids"] = grids
        done, last, read = 0, self.low_res_tower.num_layers, ()
        reads = self.visionzip is not None and received is not None
        # a layer's tap, then who reads it
        stops = [(layer, 0, tap) for tap, (layer, _) in enumerate(self.fusion.taps)]
        stops += [(layer, 1, 0) for layer in states or ()]
        for layer, is_read, tap in [*sorted(stops), (last, 2, 0)]:
            if reads and layer == last and done < last:
                low = self.low_res_tower.run_layers(low, done, last - 1, **options)
                done, read = last - 1, self.visionzip.received(self.low_res_tower.layers[-1], low)
            low = self.low_res_tower.run_layers(low, done, layer, **options)
            done = layer
            if is_read == 1 and states is not None:
                states[layer].append(self._selected(low))
            elif is_read == 0:
                high = self._read(maps_of, (self.fusion.taps[tap][1],), chunk).to(low.device)
                low = self.fusion.fuse(tap, at_entry(self.fusion, low), high).to(low.dtype)
        low = self.low_res_tower.finish(low)
        if reads:
            cast("list[tuple[torch.Tensor, ...]]", received).append((low[:, : self.visionzip.prefix], *read))
        low = self._selected(low)
        return low, *(self._read(maps_of, group, chunk).to(low.device) for group in self.fusion.final_stages)

    def _selected(self, low: torch.Tensor) -> torch.Tensor:
        """Return the tokens `(T, P, D)` that `vision_feature_select` keeps of `(T, N + P, D)`."""
        return low[:, self.low_res_tower.num_prefix_tokens :] if self.config.vision_feature_select == "patch" else low

    def _finished(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        finished: torch.Tensor = self.fusion.finish(at_entry(self.fusion, low), maps, layout)
        return finished

    def _check_takes_any_views(self) -> None:
        """Check that the model accepts views of different sizes."""
        if not self.fusion.takes_unequal_views or self.config.vision_feature_select != "patch":
            raise ValueError(
                "`patch_grids` says that the views differ in size; a model with a high-res canvas takes equal "
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
        if canvases and self.config.low_res_views != "processor":
            return low_res_views(self.config, canvases, plan.boxes), None
        num_views = list(plan.num_views)
        check_views(self.config, pixel_values, num_views, are_packed=plan.patch_grids is not None)
        if plan.patch_grids is not None:
            return packed_views(pixel_values, plan.patch_grids, num_views)
        return torch.cat([pixels[:count] for pixels, count in zip(pixel_values, num_views, strict=True)]), None

    def _high_res_maps(
        self,
        low_res: torch.Tensor,
        canvases: list[torch.Tensor],
        plan: ImagePlan,
        read_again: Sequence[int] | None,
    ) -> list[Canvases | EncodedViews]:
        """Prepare the maps of each high-res tower; those of the last stages, or of `read_again`, will be kept."""
        towers = self.high_res_towers
        if self.serial is not None:
            maps: list[Canvases | EncodedViews] = self.serial.maps_of(towers, low_res)
            return maps
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
