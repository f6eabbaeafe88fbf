# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The vision half of a model as one graph for `torch.export`: the image processor's output in, image tokens out.

If the canvas makes the same views of every image, they are constants of the graph. If not, the graph reads the boxes
of the views from its input `view_boxes`, so that one graph serves every tile grid: each tile is taken out of the
high-res map by index, and the overview is averaged by two matrices that are made from its box.

Shapes: V views, S pixels per side of a view, t high-res pixels per side of a view, (H, W) pixels of the canvas, N
tokens, M width of the language model, E channels, (h, w) cells of a map, s cells per side of a view's part of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.export import Dim
from transformers.utils import logging

from fila.modeling.configuration_fila import FilaConfig
from fila.modeling.fusion_align import overlap_matrix
from fila.modeling.image_plan import ImagePixels, ImagePlan
from fila.modeling.image_tokens import NEWLINE, SEPARATOR
from fila.modeling.modeling_fila import FilaForConditionalGeneration, FilaModel
from fila.modeling.modeling_hybrid_encoder import Canvases
from fila.modeling.module_dtypes import at_entry
from fila.modeling.towers import locate_stage
from fila.modeling.view_from_low_res import views_from_low_res
from fila.modeling.view_high_res import EncodedViews
from fila.modeling.view_layout import ViewLayout

logger = logging.get_logger(__name__)
# Inputs of the graph, by the processor's names.
INPUTS = ("pixel_values", "high_res_pixel_values", "view_boxes", "view_positions", "image_token_index")
MAX_TILES = 64  # per axis of a tile grid
MAX_TOKENS = 2**20
_PROBES = tuple(2**exponent + 5 for exponent in range(4, 13))


class NotExportableError(ValueError):
    """A model whose vision half cannot be one graph; the message names the setting."""


def cut_views(features: torch.Tensor, boxes: torch.Tensor, side: int, scale: tuple[int, int]) -> torch.Tensor:
    """Return each view's part of a map; as `area_resample` does, with boxes that are known only to the graph.

    Args:
        features: `(E, h, w)` float.
        boxes: `(V, 4)` int64, (top, left, bottom, right) in canvas pixels. The first may be an overview's; the others
            are those of tiles.
        side: s.
        scale: A box times the first and divided by the second is in cells of the map.

    Returns:
        `(V, E, s, s)`, dtype of `features`.
    """
    height, width = features.shape[1:]
    top, left, bottom, right = (boxes[0].double() * scale[0] / scale[1]).unbind()
    wide = torch.promote_types(features.dtype, torch.float32)
    by_row = overlap_matrix(top, bottom, side, height, features).to(wide)
    by_col = overlap_matrix(left, right, side, width, features).to(wide)
    overview = (by_row @ features.to(wide) @ by_col.T).to(features.dtype)
    corners = boxes[:, :2] * scale[0] // scale[1]
    cells = torch.arange(side, device=features.device)
    rows = (corners[:, 0, None] + cells).clamp(max=height - 1)  # an overview's rows and columns may lie outside
    cols = (corners[:, 1, None] + cells).clamp(max=width - 1)
    tiles = features.permute(1, 2, 0)[rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)
    is_first = torch.arange(boxes.shape[0], device=features.device) == 0
    return torch.where(is_first[:, None, None, None], overview, tiles)


class TracedCanvas(Canvases):
    """The maps of one canvas, whose size and boxes are known only to the graph.

    Args:
        config: The `FilaConfig`.
        tower: The tower.
        canvas: `(1, 3, H, W)`.
        boxes: `(V, 4)` int64.
        kept_stages: As in `Canvases`.
    """

    def __init__(
        self, config: FilaConfig, tower: Any, canvas: torch.Tensor, boxes: torch.Tensor, kept_stages: set[int]
    ) -> None:
        # not the base's: it sorts canvases by sizes, which are symbols here
        self.config, self.tower, self.stage, self.kept_stages = config, tower, 0, kept_stages
        self.view_boxes = boxes
        self.kept, self.stacks = {}, {}
        key = ("canvas", (0, 0))
        self.groups = {key: [0]}
        self.maps = {key: tower.embed(canvas)}

    def per_view(self, stages: Sequence[int], chunk: slice) -> torch.Tensor:
        """Return each view's part of the stacked maps of `stages`, `(V, E, s, s)`."""
        stride = self.tower.stride(stages[0])
        (features,) = self._stacked(tuple(stages)).values()
        scale = self.config.high_res_tile_size, self.config.tile_size * stride
        return cut_views(features[0], self.view_boxes, self.config.high_res_tile_size // stride, scale)


class VisionGraph(nn.Module):
    """The vision half for one image.

    Args:
        model: The model.
        plan: The views of every image; None if they are an input.
    """

    def __init__(self, model: FilaModel, plan: ImagePlan | None = None) -> None:
        super().__init__()
        self.model = model
        self.plan = plan

    def forward(
        self,
        pixel_values: torch.Tensor,
        high_res_pixel_values: torch.Tensor | None = None,
        view_boxes: torch.Tensor | None = None,
        view_positions: torch.Tensor | None = None,
        image_token_index: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Encode one image.

        Args:
            pixel_values: `(1, V, 3, S, S)` float.
            high_res_pixel_values: `(1, 3, H, W)` float, for a model with a high-res tower.
            view_boxes: `(1, V, 4)` int64, for a graph without a plan, of a model with a high-res tower.
            view_positions: `(1, V, 2)` int64, for a model with slice positions.
            image_token_index: `(1, N)` int64; without it the tokens are in the order of the views.

        Returns:
            `(N, M)`: the image tokens in the order of the placeholders.
        """
        model = self.model
        if self.plan is None:
            features = self._of_any_grid(pixel_values, high_res_pixel_values, view_boxes)
            connector = model.multi_modal_projector
            views = connector(at_entry(connector, features), model.vision_tower.fusion.output_grid)
            if model.slice_positions is not None and view_positions is not None:
                views = model.slice_positions(views, view_positions[0])
            tokens = views.flatten(0, 1)
        else:
            features = model.vision_tower.encode(self.plan, ImagePixels(pixel_values, high_res_pixel_values))
            (tokens,) = model.image_tokens(features, self.plan, view_positions)
        if image_token_index is None:
            return tokens
        index = image_token_index[0]
        for number, vector in ((NEWLINE, model.image_newline), (SEPARATOR, model.view_separator)):
            if vector is not None:
                index = torch.where(index == number, tokens.shape[0], index)
                tokens = torch.cat([tokens, vector[None].to(tokens)])
        return tokens[index]

    def _of_any_grid(
        self, pixel_values: torch.Tensor, canvas: torch.Tensor | None, view_boxes: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the encoder's features `(V, P, D)` of an image of any tile grid."""
        vision = self.model.vision_tower
        config, fusion = vision.config, vision.fusion
        maps: list[Canvases | EncodedViews] = []
        if canvas is not None and view_boxes is not None:
            side, boxes = config.high_res_tile_size, view_boxes[0]
            final = [locate_stage(config, stage) for group in fusion.final_stages for stage in group]
            for index, tower in enumerate(vision.high_res_towers):
                if tower.encodes_views:
                    maps.append(EncodedViews(tower, cut_views(canvas[0], boxes, side, (side, config.tile_size))))
                else:
                    kept = {stage for number, stage in final if number == index}
                    maps.append(TracedCanvas(config, tower, canvas, boxes, kept))
        if vision.serial is not None:
            maps = vision.serial.maps_of(vision.high_res_towers, pixel_values[0])
        elif vision.high_res_towers and not config.has_high_res_canvas:
            views = views_from_low_res(config, pixel_values[0])
            maps += [EncodedViews(tower, views) for tower in vision.high_res_towers]
        low, *rest = vision._encode(slice(None), pixel_values[0], None, maps)
        features: torch.Tensor = vision._finished(low, tuple(rest), ViewLayout((), ()))
        # a linear layer asks whether its input is contiguous, which a slice of one view is
        return features.clone(memory_format=torch.contiguous_format)


def export_vision(
    model: FilaForConditionalGeneration, processor: Any, *, like: Image.Image | None = None
) -> torch.export.ExportedProgram:
    """Export the vision half of a model.

    The graph takes those of `INPUTS` that it needs, for one image as the processor returns them, and returns the image
    tokens `(N, M)` in the order of the image's placeholders.

    Args:
        model: The model, in the dtype of the graph.
        processor: Its `FilaProcessor`.
        like: An image whose size fixes the views: the graph takes images of the same views. None: every image.

    Raises:
        NotExportableError: If one graph cannot serve every image; the message names the setting.
    """
    if model.config.has_injection:
        raise NotExportableError(
            "The graph returns the image tokens alone, and so do the files that other programs read; the streams of "
            "`injection` would be lost, and with them most of what the model reads. Use a model without injection."
        )
    if not processor.image_processor.plans().equal_views:
        raise NotExportableError(
            f"The views of canvas {processor.image_processor.canvas['type']!r} differ in size; the vision half of a "
            "canvas of equal views can be exported."
        )
    if processor.prune is not None or model.config.prune is not None:
        prune = processor.prune or model.config.prune
        raise NotExportableError(
            f"A graph reads whole prompts, and `prune` {prune['type']!r} leaves image tokens out. Load the checkpoint "
            "without it."
        )
    if model.config.video_token_id is not None:
        logger.warning("The graph takes images. The model's videos are not exported: they have no graph.")
    like_was_given = like is not None
    sizes = [(height, width) for height in _PROBES for width in _PROBES]
    plans = {processor.image_processor.plan(*size): size for size in sizes}
    fixed = like_was_given or len({(plan.view_boxes, plan.view_sizes) for plan in plans}) == 1
    if like is None:
        height, width = plans[max(plans, key=lambda plan: (min(plan.tile_grid), plan.num_views))]
        like = Image.new("RGB", (width, height))
    inputs = processor(text=processor.image_token, images=like, return_tensors="pt")
    given = {name: inputs[name] for name in INPUTS if name in inputs}
    fixed_plan = None
    if fixed:
        del given["view_boxes"]
        fixed_plan = ImagePlan.of(inputs["view_boxes"], inputs["tile_grid"], inputs.get("high_res_sizes"))
    else:
        _check_any_grid(model.model)
        if not model.config.has_high_res_canvas:
            del given["view_boxes"]
    fewest_views = min(plan.num_views for plan in plans)
    was_training = model.training
    graph = VisionGraph(model.eval().model, fixed_plan).eval()
    given = {name: value.to(model.dtype) if value.is_floating_point() else value for name, value in given.items()}
    shapes = _dynamic_shapes(graph, given, fewest_views)
    sizes_of_one: Any = torch.fx.experimental._config
    try:
        # without this a graph takes either one view or several
        with torch.no_grad(), sizes_of_one.patch(backed_size_oblivious=True):
            return torch.export.export(graph, (), given, dynamic_shapes=shapes, strict=False)
    except RuntimeError as error:  # torch.export's own are of this class
        config = model.config
        parts = f"fusion {config.fusion['type']!r} and connector {config.connector['type']!r}"
        fix = "" if like_was_given else ". Pass `like`, an image: the graph then takes images that get the same views."
        raise NotExportableError(
            f"torch.export found no graph of this model, which has {parts}: {str(error).strip().splitlines()[0]}{fix}"
        ) from error
    finally:
        model.train(was_training)


def _dynamic_shapes(graph: VisionGraph, given: Mapping[str, torch.Tensor], fewest_views: int) -> dict[str, Any]:
    """Return the sizes that differ from image to image, by input and axis."""
    shapes: dict[str, Any] = {name: {} for name in given}
    if "image_token_index" in given:
        shapes["image_token_index"] = {1: Dim("tokens", min=1, max=MAX_TOKENS)}
    if graph.plan is not None:
        return shapes
    views = Dim("views", min=fewest_views, max=MAX_TILES**2 + 1)
    shapes |= {name: {1: views} for name in ("pixel_values", "view_boxes", "view_positions") if name in given}
    if "high_res_pixel_values" in given:
        rows, cols = Dim("rows", min=1, max=MAX_TILES), Dim("cols", min=1, max=MAX_TILES)
        side = graph.model.config.high_res_tile_size
        shapes["high_res_pixel_values"] = {2: side * rows, 3: side * cols}
    return shapes


def _check_any_grid(model: FilaModel) -> None:
    """Check that one graph can serve every image of a canvas that makes different views of different images.

    Raises:
        NotExportableError: If it cannot.
    """
    config = model.config
    cause = ""
    if model.vision_tower.fusion.joins_views:
        cause = f"Its fusion {config.fusion['type']!r} reads the views of an image together"
    elif config.low_res_views != "processor" and not config.has_serial_towers:
        cause = f"`low_res_views` {config.low_res_views!r} resizes parts of the canvas"
    elif config.high_res_overview != "pool" and config.has_high_res_canvas:
        cause = f"`high_res_overview` {config.high_res_overview!r} resizes a part of the canvas"
    if cause:
        raise NotExportableError(
            f"{cause}, so one graph cannot serve all images. Pass `like`, an image: the graph then takes images that "
            "get the same views."
        )
