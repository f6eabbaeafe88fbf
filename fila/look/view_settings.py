# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Processor settings for `fila plan` and `fila view`: a checkpoint's, or ones given on the command line."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoProcessor, PreTrainedTokenizerFast
from transformers.utils import is_torchvision_available

from fila.conversion.damage import naming_damage
from fila.modeling.configuration_fila import FilaConfig
from fila.modeling.connector import Connector, build_connector
from fila.modeling.fusion import Fusion, build_fusion
from fila.modeling.fusion import token_grid as grid_of_tokens
from fila.modeling.pruning import check_cells
from fila.processing.canvas import CANVASES, all_options, build_canvas
from fila.processing.canvas_plan import CanvasPlan, Size
from fila.processing.image_input import ImageInputError
from fila.processing.image_processing_fila import FilaImageProcessor, FilaImageProcessorPil
from fila.processing.layout import Geometry
from fila.processing.processing_fila import DEFAULT_LAYOUT, FilaProcessor
from fila.processing.video_processing_fila import FilaVideoProcessor

# Stride of a ConvNeXt's last stage: with one cell per patch, the high-res canvas is 32 / patch times the canvas.
HIGH_RES_STRIDE = 32
# No layout has it in its text, as MiniCPM-V's have `<image>`.
PLACEHOLDER = "<image-token>"


@dataclass(frozen=True)
class Eyes:
    """A processor and the places of its image tokens.

    Attributes:
        processor: A `FilaProcessor`, which counts the tokens.
        token_grid: Image tokens per axis of a view of the tile's size; None if tokens form no grid, such as a
            resampler's, each of which may show any part of its view.
        patch_size: Pixels of the low-res tower's patches.
        name: Name of the settings.
    """

    processor: Any
    token_grid: tuple[int, int] | None
    patch_size: int
    name: str

    @classmethod
    def of(
        cls,
        config: FilaConfig,
        processor: FilaProcessor,
        name: str,
        parts: tuple[Fusion, Connector] | None = None,
    ) -> "Eyes":
        """Make the eyes of a model's config and processor; `parts` spares building the parts that are asked."""
        if processor.prune is not None and config.prune is None:
            config = copy.deepcopy(config)
            config.prune = dict(processor.prune)
        return cls(processor, token_grid(config, parts), config.patch_size, name)

    @property
    def image_processor(self) -> FilaImageProcessor | FilaImageProcessorPil:
        """The processor's image processor."""
        return self.processor.image_processor

    @property
    def canvas(self) -> str:
        """Name of the canvas strategy."""
        return str(self.image_processor.canvas["type"])

    @property
    def at_most(self) -> bool:
        """Whether counts of sizes are the most that an image may have, because its pixels decide (`prune`)."""
        return self.processor.prune is not None and self.processor.prune["type"] == "pixelprune"

    @property
    def token_size(self) -> int | None:
        """Pixels per side of a token, or None if tokens form no grid of whole pixels."""
        if self.processor.token_size is not None or self.token_grid is None:
            return self.processor.token_size  # type: ignore[no-any-return]
        pixels, rest = divmod(self.image_processor.size["height"], self.token_grid[0])
        return None if rest else pixels

    def fitted(self, size: Size, number: int = 0) -> Size:
        """Return the size at which the processor plans an image: its own, unless a limit of tokens shrinks it.

        Args:
            size: Pixels of the image.
            number: Index of the image, for errors.

        Raises:
            ImageInputError: If the image has more tokens than the processor allows and the policy is not to shrink it.
        """
        try:
            (found,) = self.processor._budgeted_sizes([size], 0, {}, may_drop=False)
        except ImageInputError as error:
            raise ImageInputError(None, number, error.reason, error.fix) from error
        return Size(*found)

    def plan(self, size: Size) -> CanvasPlan:
        """Return the plan of an image of a size returned by `fitted`."""
        plan: CanvasPlan = self.image_processor.plan(*size)
        return plan

    def geometry(self, plan: CanvasPlan) -> Geometry:
        """Return the layout's geometry of an image with this plan.

        Raises:
            ValueError: If a view is not whole tokens.
        """
        geometry: Geometry = self.processor._geometry_of(plan.tile_grid, plan.view_sizes, plan.image_size)
        return geometry

    def num_tokens(self, plan: CanvasPlan) -> int:
        """Return the number of image tokens that the processor writes for an image with this plan."""
        return int(self.processor._count(plan))

    def token_grids(self, plan: CanvasPlan) -> list[tuple[int, int] | None]:
        """Return tokens per axis of each view, overview first; None if tokens form no grid."""
        size = self.processor.token_size
        if self.processor.prune is not None and not self.at_most:
            return [None] * plan.num_views
        if size is None:
            return [self.token_grid] * plan.num_views
        return [(height // size, width // size) for height, width in plan.view_sizes]

    def default_options(self, name: str) -> dict[str, Any]:
        """Return the default options of a canvas strategy, adapted to these eyes' patches and tokens."""
        known = all_options({"type": name})
        ours = {"patch_size": self.patch_size, "multiple": max(1, (self.token_size or 1) // self.patch_size)}
        return {"type": name} | {option: value for option, value in ours.items() if option in known}

    def other_canvases(self) -> list[dict[str, Any]]:
        """Return the default options of every canvas strategy except these eyes' own."""
        return [self.default_options(name) for name in CANVASES if name != self.canvas]

    def with_canvas(self, options: Mapping[str, Any]) -> "Eyes":
        """Return these eyes with another canvas strategy, without a high-res canvas if its views differ in size."""
        processor = copy.copy(self.processor)
        processor.image_processor = copy.copy(self.image_processor)
        processor.image_processor.canvas = dict(options)
        if not processor.image_processor.plans().equal_views:
            processor.image_processor.high_res_size = None
            processor.token_size = self.token_size
        return replace(self, processor=processor)

    def all_canvases(self) -> list["Eyes"]:
        """Return these eyes with every canvas strategy, their own first."""
        return [self, *map(self.with_canvas, self.other_canvases())]


def token_grid(config: FilaConfig, parts: tuple[Fusion, Connector] | None = None) -> tuple[int, int] | None:
    """Return image tokens per axis of a tile, or None if a token does not stand for a block of patches.

    Fusion and connector declare their token grids (`Fusion` and `Connector` in `fila.modeling`).

    Args:
        config: The model's.
        parts: Its fusion and connector, if it is built.

    Raises:
        PruningError: If the config's `prune` leaves out single tokens, and they are no cells.
    """
    import torch

    if parts is None:
        with torch.device("meta"):
            fusion = build_fusion(config)
            parts = fusion, build_connector(config, fusion.output_size)
    fusion, connector = parts
    if config.prune is not None and config.prune["type"] == "visionzip":
        return None
    if config.prune is not None:
        check_cells(config, fusion, connector)
    return None if connector.patch_block is None else grid_of_tokens(fusion, connector)


def placeholder_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer that knows only the placeholder; counting reads no text."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"?": 0}, unk_token="?")),
        extra_special_tokens={"image_token": PLACEHOLDER},
    )


def open_eyes(
    checkpoint: str | None = None,
    *,
    canvas: Mapping[str, Any] | None = None,
    layout: Mapping[str, Any] | None = None,
    tile: int = 336,
    patch: int = 14,
    high_res: bool = True,
    prune: Mapping[str, Any] | None = None,
) -> Eyes:
    """Load the eyes of a checkpoint, or make them from settings.

    Args:
        checkpoint: Folder or Hub id; when given, the settings are ignored.
        canvas: Option dict of the canvas strategy; FILA's by default.
        layout: Option dict of the prompt layout; FILA's by default.
        tile: Pixels of a tile.
        patch: Pixels of a patch; every patch becomes one image token.
        high_res: Whether there is a high-res canvas, where all views are equal.
        prune: Pruning of image tokens, also with a checkpoint, whose own it replaces.

    Raises:
        ValueError: If the checkpoint or a setting is unusable.
    """
    if checkpoint is not None:
        check_checkpoint(checkpoint)
        with naming_damage(checkpoint):
            processor = AutoProcessor.from_pretrained(checkpoint, **pruned(prune))
            config = AutoConfig.from_pretrained(checkpoint, **pruned(prune))
        if not hasattr(processor, "tokens_per_tile"):
            raise ValueError(f"{checkpoint!r} has a {type(processor).__name__}, not a FilaProcessor.")
        return Eyes.of(config, processor, Path(checkpoint).name)
    if tile < 1 or patch < 1 or tile % patch:
        raise ValueError(f"The tile must be a positive multiple of the patch; got tile {tile} and patch {patch}.")
    side, options = tile // patch, dict(canvas or {"type": "fila"})
    # Reject an unknown canvas or option here, before any image is opened.
    equal_views = build_canvas(options, (tile, tile)).equal_views
    for option, value in (("patch_size", patch), ("multiple", 1)):
        if option in all_options(options):
            options.setdefault(option, value)
    high_res_side = side * HIGH_RES_STRIDE
    image_processor = (FilaImageProcessor if is_torchvision_available() else FilaImageProcessorPil)(
        canvas=options,
        size={"height": tile, "width": tile},
        high_res_size={"height": high_res_side, "width": high_res_side} if high_res and equal_views else None,
    )
    processor = FilaProcessor(
        image_processor,
        placeholder_tokenizer(),
        tokens_per_tile=side * side,
        token_size=patch,
        layout=None if layout is None else dict(layout),
        prune=None if prune is None else dict(prune),
    )
    of_layout = "" if layout is None or dict(layout) == DEFAULT_LAYOUT else f", layout {layout['type']}"
    if prune is not None:
        of_layout += f", {prune['type']}"
    return Eyes(processor, (side, side), patch, f"{options['type']} canvas, tile {tile}, patch {patch}{of_layout}")


def pruned(prune: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the argument of `from_pretrained` that sets a pruning; None sets nothing."""
    return {} if prune is None else {"prune": dict(prune)}


def open_video_eyes(checkpoint: str | None = None, *, tile: int = 336) -> FilaVideoProcessor:
    """Load the video processor of a checkpoint, or make one with the default settings.

    Raises:
        ValueError: If the checkpoint takes no videos.
    """
    if checkpoint is None:
        return FilaVideoProcessor(size={"height": tile, "width": tile})
    check_checkpoint(checkpoint)
    with naming_damage(checkpoint):
        found = getattr(AutoProcessor.from_pretrained(checkpoint), "video_processor", None)
    if found is None:
        raise ValueError(f"{checkpoint!r} takes no videos: its processor has no video processor.")
    return found


def check_checkpoint(checkpoint: str) -> None:
    """Reject names that are neither a checkpoint folder nor a Hub id, before transformers tries to open them.

    Raises:
        ValueError: If it is neither; names the checkpoint.
    """
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(f"{checkpoint!r} has no config.json, so it is no checkpoint; `fila assemble` makes one.")
    elif folder.is_absolute() or checkpoint.startswith((".", "~")) or checkpoint.count("/") != 1:
        raise ValueError(f"Checkpoint {checkpoint!r} is neither a folder nor a Hub id of the form owner/name.")
