# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The hybrid encoder: both towers, run stage by stage, joined at the fusion's taps.

Paper: Zhu et al., "FILA: Fine-Grained Vision Language Models", arXiv:2412.08378; design choices in docs/decisions.md.

The low-res tower encodes views (the overview and the tiles) one by one. The high-res tower encodes each canvas once,
whole, so no tile border cuts an object there; at a tap every view takes from the stage's map the part that its box
covers.

Shapes: I images, V views of the image that has most, T real views of all images, S pixels per side of a view, N prefix
tokens (CLS), P patches of a view, D low-res width, E width of a high-res stage, (h, w) cells of a stage's map, s cells
per side that a view owns.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import CLIPVisionModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .align import MeanConv2d, area_resample, interpolate_box, stack_stages, view_side
from .configuration_fila import FilaConfig
from .fusion import build_fusion
from .fusion_cvfm import CvfmLayer
from .fusion_none import NoFusion
from .tower_convnext import ConvNextBlock, GlobalResponseNorm
from .towers import build_high_res_tower, build_low_res_tower, check_tower_types
from .view_layout import ViewLayout

PerImage = torch.Tensor | Sequence[torch.Tensor]  # a padded tensor, or a list with one entry per image
Box = tuple[int, int, int, int]


class FilaPreTrainedModel(PreTrainedModel):
    """What all fila models share: flags, and the initial values of weights that no checkpoint holds."""

    config_class = FilaConfig
    config: FilaConfig
    base_model_prefix = "model"
    input_modalities: tuple[str, ...] = ("image", "video", "text")
    supports_gradient_checkpointing = True
    _no_split_modules: list[str] | set[str] = [  # noqa: RUF012
        "ConvNextBlock",
        "CrossAttentionLayer",
        "CvfmLayer",
        "PatchInfoMining",
        "QueryLayer",
        "ResolutionAdapter",
    ]
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    def post_init(self) -> None:
        """As in every model of transformers; and names of layers that this config does not have are left out.

        accelerate stops at a class to wrap that it does not find in the model.
        """
        super().post_init()
        present = {type(module).__name__ for module in self.modules()}
        self._no_split_modules = set(self._no_split_modules) & present

    @classmethod
    def is_custom_code(cls) -> bool:
        """Whether transformers may skip the init rules of modules without parameters; CLIP has such rules."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ConvNextBlock):
            if module.layer_scale_parameter is not None:
                init.constant_(module.layer_scale_parameter, module.layer_scale_init_value)
        elif isinstance(module, GlobalResponseNorm):
            init.zeros_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, MeanConv2d):
            init.copy_(module.weight, module.initial_weight())
        elif isinstance(module, CvfmLayer):
            if module.residual == "add":
                init.zeros_(module.fc2.weight)
            if module.gate is not None:
                init.zeros_(module.gate)
        elif isinstance(getattr(module, "image_newline", None), nn.Parameter):
            init.normal_(module.image_newline, std=self.config.initializer_range)
        elif callable(initialise := getattr(module, "set_initial_weights", None)):
            initialise(self.config.initializer_range)


def real_view_boxes(view_boxes: PerImage) -> list[list[Box]]:
    """Boxes of each image's views, without the all-zero boxes that pad the batch.

    Args:
        view_boxes: `(I, V, 4)` int, or one `(V_i, 4)` per image: (top, left, bottom, right) in canvas pixels.

    Returns:
        For each image, its boxes in the order of the views.

    Raises:
        ValueError: If an image has no view.
    """
    boxes = [[tuple(box) for box in rows.tolist() if box[2] > box[0] and box[3] > box[1]] for rows in view_boxes]
    for index, found in enumerate(boxes):
        if not found:
            raise ValueError(
                f"Image {index} has no view: all its `view_boxes` are empty. Pass the processor's output unchanged."
            )
    return boxes


def packed_views(
    pixel_values: PerImage, patch_grids: PerImage, num_views: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The real views of a batch whose views differ in size.

    Args:
        pixel_values: `(I, V, 3, p, L * p)` float, or one `(V_i, 3, p, L_i * p)` per image: a view's patches side by
            side.
        patch_grids: `(I, V, 2)` int, or one `(V_i, 2)` per image: rows and columns of each view's patches.
        num_views: Views of each image.

    Returns:
        `(T, 3, p, L * p)` and `(T, 2)`.

    Raises:
        ValueError: If a view has more patches than pixels, or none.
    """
    grids = [torch.as_tensor(found)[:count] for found, count in zip(patch_grids, num_views, strict=True)]
    pixels = [found[:count] for found, count in zip(pixel_values, num_views, strict=True)]
    length = max(views.shape[-1] for views in pixels)
    for index, (views, found) in enumerate(zip(pixels, grids, strict=True)):
        held = views.shape[-1] // views.shape[-2]
        counts = found.prod(dim=-1)
        if int(counts.min()) < 1 or int(counts.max()) > held:
            raise ValueError(
                f"Image {index} has views of {counts.tolist()} patches by its `patch_grids`, but `pixel_values` holds "
                f"{held} patches per view. Pass the processor's output unchanged."
            )
    padded = [torch.nn.functional.pad(views, (0, length - views.shape[-1])) for views in pixels]
    return torch.cat(padded), torch.cat(grids)


class Canvases:
    """The high-res tower's maps of a batch, advanced stage by stage.

    Canvases of one size run together; a canvas is never padded to its neighbour's size. With
    `high_res_overview="encode"` the whole images, drawn at one view's high-res size, run as one more group. The tower
    gets all groups in one call, so that the number of calls does not depend on the batch.

    Args:
        config: The `FilaConfig`.
        tower: The high-res tower.
        pixels: Canvases, `(I, 3, H, W)` or one `(3, H_i, W_i)` per image.
        sizes: (height, width) of each canvas.
        boxes: Boxes of each image's views.
        layout: Which views are tiles.
        kept_stages: Stages whose maps are needed again after the tower has gone on.
    """

    def __init__(
        self,
        config: Any,
        tower: Any,
        pixels: PerImage,
        sizes: PerImage,
        boxes: list[list[Box]],
        layout: ViewLayout,
        kept_stages: set[int],
    ):
        self.config = config
        self.tower = tower
        self.boxes = boxes
        self.stage = 0
        self.kept_stages = kept_stages
        self.kept: dict[int, dict[tuple[str, tuple[int, int]], torch.Tensor]] = {}
        self.pixels_per_canvas_pixel = config.high_res_tile_size / config.vision_config.image_size
        self.groups: dict[tuple[str, tuple[int, int]], list[int]] = {}
        self.has_overview = [
            views > rows * cols for views, (rows, cols) in zip(layout.num_views, layout.tile_grids, strict=True)
        ]
        inputs: dict[tuple[str, tuple[int, int]], list[torch.Tensor]] = {}
        for index, (canvas, size) in enumerate(zip(pixels, sizes, strict=True)):
            height, width = (int(side) for side in size.tolist())
            self._check(index, (height, width), canvas)
            self._add(inputs, ("canvas", (height, width)), index, canvas[:, :height, :width])
            if config.high_res_overview == "encode" and self.has_overview[index]:
                side = config.high_res_tile_size
                whole = area_resample(canvas, self._scaled(boxes[index][0], 1), (side, side))
                self._add(inputs, ("overview", (side, side)), index, whole)
        self.maps = dict(zip(inputs, tower.embed(tuple(map(torch.stack, inputs.values()))), strict=True))

    def _add(self, inputs: Any, key: tuple[str, tuple[int, int]], index: int, pixels: torch.Tensor) -> None:
        self.groups.setdefault(key, []).append(index)
        inputs.setdefault(key, []).append(pixels)

    def _check(self, index: int, size: tuple[int, int], canvas: torch.Tensor) -> None:
        """Raise unless the canvas is as large as the views' boxes say."""
        expected = tuple(
            round(max(box[edge] for box in self.boxes[index]) * self.pixels_per_canvas_pixel) for edge in (2, 3)
        )
        if size != expected or size[0] > canvas.shape[-2] or size[1] > canvas.shape[-1]:
            raise ValueError(
                f"The high-res canvas of image {index} must be {expected[0]}x{expected[1]} pixels (its views' boxes "
                f"times {self.config.high_res_tile_size}/{self.config.vision_config.image_size}); `high_res_sizes` "
                f"says {size[0]}x{size[1]} and `high_res_pixel_values` holds {canvas.shape[-2]}x{canvas.shape[-1]}. "
                "Processor and model disagree about `high_res_size`; load both from one checkpoint."
            )

    def _scaled(self, box: Box, stride: int) -> tuple[float, float, float, float]:
        scale = self.config.high_res_tile_size, self.config.vision_config.image_size * stride
        top, left, bottom, right = (edge * scale[0] / scale[1] for edge in box)
        return top, left, bottom, right

    def advance(self, stage: int) -> None:
        """Run the tower up to `stage` (counted from 1), keeping the maps of `kept_stages` on the way."""
        for stop in sorted({kept for kept in self.kept_stages if kept < stage} | {stage}):
            if stop > self.stage:
                maps = self.tower.run_stages(tuple(self.maps.values()), self.stage, stop)
                self.maps = dict(zip(self.maps, maps, strict=True))
                self.stage = stop
                if stop in self.kept_stages:
                    self.kept[stop] = self.maps

    def per_view(self, stages: Sequence[int]) -> torch.Tensor:
        """What each view owns of the maps of `stages`, stacked: `(T, E, s, s)`, image by image.

        A tile's box is whole cells and is cut out. The overview's box is the image's content: it is averaged (or
        interpolated) onto s x s cells.
        """
        side = view_side(self.config, stages[0])
        stride = self.tower.stride(stages[0])
        by_stage = [self.kept.get(stage, self.maps) for stage in stages]
        map_of: dict[tuple[str, int], torch.Tensor] = {}
        for key, indices in self.groups.items():
            stacked = stack_stages([maps[key] for maps in by_stage])
            for row, index in enumerate(indices):
                map_of[key[0], index] = stacked[row]
        squares = []
        for index, views in enumerate(self.boxes):
            for view, box in enumerate(views):
                is_overview = view == 0 and self.has_overview[index]
                if is_overview and ("overview", index) in map_of:
                    squares.append(map_of["overview", index])
                    continue
                shrink = is_overview and self.config.high_res_overview == "interpolate"
                resample = interpolate_box if shrink else area_resample
                squares.append(resample(map_of["canvas", index], self._scaled(box, stride), (side, side)))
        return torch.stack(squares)


class FilaVisionModel(FilaPreTrainedModel):
    """The hybrid encoder alone."""

    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _can_record_outputs = CLIPVisionModel._can_record_outputs

    def __init__(self, config: FilaConfig) -> None:
        super().__init__(config)
        check_tower_types(config)
        self.fusion = build_fusion(config)
        self.low_res_tower = build_low_res_tower(config.vision_config, config.num_vision_layers)
        self.high_res_tower = None
        self.final_stages = {stage for group in self.fusion.final_stages for stage in group}
        stages = self.final_stages | {stage for _, stage in self.fusion.taps}
        if stages:
            self.high_res_tower = build_high_res_tower(config.high_res_vision_config, max(stages))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The low-res tower's patch embedding."""
        embeddings: nn.Module = self.low_res_tower.get_input_embeddings()
        return embeddings

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
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Encode all views of all images.

        Args:
            pixel_values: `(I, V, 3, S, S)` float, or one `(V_i, 3, S, S)` per image; overview first, then tiles
                row-major.
            view_boxes: `(I, V, 4)` int, or one `(V_i, 4)` per image; see `real_view_boxes`.
            tile_grid: `(I, 2)` int, (rows, cols).
            high_res_pixel_values: `(I, 3, H, W)` float, or one `(3, H_i, W_i)` per image; needed with a high-res
                tower.
            high_res_sizes: `(I, 2)` int, (height, width) of each canvas inside `high_res_pixel_values`.
            patch_grids: `(I, V, 2)` int, or one `(V_i, 2)` per image: where views differ in size, and `pixel_values`
                holds their patches side by side; see `packed_views`.

        Returns:
            `last_hidden_state` is `(T, P', output_size of the fusion)`, P' the tokens of the fusion's `output_grid`;
            views image by image. With `patch_grids`, P' is the number of patches of the view that has most, and rows
            beyond a view's patches mean nothing.

        Raises:
            ValueError: If an input is missing or the sizes contradict each other.
        """
        boxes = real_view_boxes(view_boxes)
        grids = None
        if patch_grids is None:
            views = torch.cat([pixels[: len(found)] for pixels, found in zip(pixel_values, boxes, strict=True)])
        elif not isinstance(self.fusion, NoFusion):
            raise ValueError(
                "`patch_grids` says that the views differ in size; a model with a high-res tower takes equal views, "
                f"and so does a fusion, here {self.config.fusion}. Choose another canvas, or "
                '`high_res_vision_config=None` and `fusion={"type": "none"}`.'
            )
        else:
            views, grids = packed_views(pixel_values, patch_grids, [len(found) for found in boxes])
        tile_grids = tuple((int(rows), int(cols)) for rows, cols in (found.tolist() for found in tile_grid))
        layout = ViewLayout(tuple(map(len, boxes)), tile_grids)
        canvases = None
        if self.high_res_tower is not None:
            if high_res_pixel_values is None or high_res_sizes is None:
                raise ValueError(
                    "A model with a high-res tower needs `high_res_pixel_values` and `high_res_sizes`, which are "
                    "missing. Pass everything the processor returns; its `high_res_size` must not be None."
                )
            canvases = Canvases(
                self.config,
                self.high_res_tower,
                high_res_pixel_values,
                high_res_sizes,
                boxes,
                layout,
                self.final_stages,
            )

        low = self.low_res_tower.embed(views, grids)
        kwargs["attention_mask"] = self.low_res_tower.attention_mask(low, grids)  # type: ignore[typeddict-unknown-key]
        done = 0
        for tap, (layer, stage) in enumerate(self.fusion.taps):
            low = self.low_res_tower.run_layers(low, done, layer, **kwargs)
            done = layer
            assert canvases is not None
            canvases.advance(stage)
            low = self.fusion.fuse(tap, low, canvases.per_view((stage,)).to(low.device))
        low = self.low_res_tower.run_layers(low, done, self.low_res_tower.num_layers, **kwargs)
        low = low[:, self.low_res_tower.num_prefix_tokens :]

        maps: list[torch.Tensor] = []
        for group in self.fusion.final_stages:
            assert canvases is not None
            canvases.advance(max(group))
            maps.append(canvases.per_view(group).to(low.device))
        return BaseModelOutputWithPooling(last_hidden_state=self.fusion.finish(low, tuple(maps), layout))
