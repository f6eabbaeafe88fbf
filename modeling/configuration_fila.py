# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Configuration of a hybrid-encoder vision-language model.

Paper: Zhu et al., "FILA: Fine-Grained Vision Language Models", arXiv:2412.08378. No code was published;
docs/decisions.md decides what the paper leaves open.
"""

import os
from collections.abc import Callable
from dataclasses import field, fields
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig
from transformers.utils import logging

from .configuration_keys import refuse_misspelt_keys, refuse_unknown_keys, unknown_keys
from .configuration_values import refuse_impossible_values
from .part_options import as_options, find_missing
from .tower_configs import TOWER_CONFIGS

logger = logging.get_logger(__name__)

# CLIP-ViT-L/14-336 and ConvNeXt-L: the towers that fit the paper's sizes (docs/decisions.md).
_VISION_DEFAULTS: dict[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
_HIGH_RES_DEFAULTS: dict[str, Any] = {
    "model_type": "convnext",
    "hidden_sizes": [192, 384, 768, 1536],
    "depths": [3, 3, 27, 3],
}

# `save_pretrained` enters only the class that it saved; a machine without `fila` needs all of them.
AUTO_MAP = {
    "AutoConfig": "configuration_fila.FilaConfig",
    "AutoModel": "modeling_fila.FilaModel",
    "AutoModelForImageTextToText": "modeling_fila.FilaForConditionalGeneration",
    "AutoModelForMultimodalLM": "modeling_fila.FilaForConditionalGeneration",
}


# Limit for settings that count layers; no model has more. Some config classes make a list of that length, and each
# layer takes milliseconds to build before the missing weights are noticed.
MAX_LAYERS = 1024
LAYER_SETTINGS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "depth", "depths", "num_blocks")
MAX_TOKEN_ID = 2**31 - 1  # limit of a vocabulary and of 32-bit tensors

# The Trainer of older transformers writes these next to `text_config`; nothing reads them there.
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def check_layers(name: str, settings: object, most: int = MAX_LAYERS, reason: str = "more than any model has") -> None:
    """Reject a dict of settings that asks for too many layers, at any depth, with a `ValueError`."""
    if isinstance(settings, list | tuple):
        settings = dict(enumerate(settings))
    for key, value in settings.items() if isinstance(settings, dict) else ():
        numbers = value if isinstance(value, list | tuple) else [value]
        if key in LAYER_SETTINGS and any(isinstance(number, int) and number > most for number in numbers):
            raise ValueError(f"`{name}.{key}` is {str(value)[:80]}: {reason}. It must be at most {most}.")
        check_layers(f"{name}.{key}", value, most, reason)


def _build(name: str, value: "dict[str, Any] | PreTrainedConfig", default_type: str) -> PreTrainedConfig:
    """Turn a dict into the config class that its `model_type` names."""
    if isinstance(value, PreTrainedConfig):
        return value
    if not isinstance(value, dict):
        raise TypeError(f"`{name}` must be a dict or a config of transformers; got {type(value).__name__}.")
    check_layers(name, value)
    options = {"model_type": default_type, **value}
    refuse_impossible_values(name, SimpleNamespace(**value))  # some config classes compute with these settings
    model_type = options.pop("model_type")
    if name != "text_config" and model_type not in CONFIG_MAPPING:
        find_missing("tower", model_type, TOWER_CONFIGS)
    if model_type in TOWER_CONFIGS:
        return TOWER_CONFIGS[model_type](**options)
    try:
        config = AutoConfig.for_model(model_type, **options)
    except ValueError as error:
        raise ValueError(f"`{name}.model_type` {model_type!r} is not a model type that transformers knows.") from error
    if strange := options.keys() - {setting.name for setting in fields(config)}:
        # some config classes derive settings that are not fields
        refuse_misspelt_keys(name, [*vars(type(config)()), *config.attribute_map], sorted(strange))
    return config


@strict
class FilaConfig(PreTrainedConfig):
    r"""Configuration of [`FilaModel`] and [`FilaForConditionalGeneration`]; the defaults are FILA's flagship sizes.

    Args:
        vision_config (`dict` or `PreTrainedConfig`, *optional*, defaults to CLIP-ViT-L/14-336):
            The low-res tower, which encodes the views (overview and tiles).
        high_res_vision_config (`dict`, `PreTrainedConfig` or `None`, *optional*, defaults to ConvNeXt-L):
            The high-res tower. A ConvNeXt encodes the whole canvas, unless its `tower_options` say "views"; any other
            encodes the square of each view alone. `None` is a single-tower model.
        extra_vision_configs (`list` of `dict` or `PreTrainedConfig`, *optional*, defaults to `[]`):
            Further high-res towers. Their stages are counted on from the first one's.
        text_config (`dict` or `PreTrainedConfig`, *optional*, defaults to `LlamaConfig()`):
            The language model.
        fusion (`dict` or `str`, *optional*, defaults to `{"type": "cvfm"}`, or `{"type": "none"}` without a high-res
            tower):
            Fusion that joins the towers: `type` and that fusion's options, or its name.
        connector (`dict` or `str`, *optional*, defaults to `{"type": "mlp"}`):
            Connector from vision width to language-model width: `type` and its options, or its name.
        injection (`dict` or `str`, *optional*, defaults to `{"type": "none"}`):
            Streams of image features that are added before layers of the language model: `type` and its options, see
            `injection_streams.py`.
        vision_feature_layer (`int`, *optional*, defaults to -2):
            Layer of the low-res tower that the connector reads: negative counts from the end (-1 is the last),
            positive counts from 1. Later layers are neither run nor kept.
        vision_feature_select (`"patch"` or `"cls_patch"`, *optional*, defaults to `"patch"`):
            Tokens for the connector: the patches alone, or CLS and registers before them (without fusion only).
        tile_size (`int`, *optional*, defaults to `vision_config.image_size`):
            Pixels per side of a view. If it differs from the tower's `image_size`, the tower resamples its position
            table by its own rule.
        high_res_tile_size (`int`, *optional*):
            Pixels per side of the high-res view that belongs to a view of `tile_size` pixels. By default the last
            stage of a ConvNeXt has the low-res tower's patch grid (768 for 336 pixels at patch 14), and another
            tower gets its `image_size`.
        low_res_views (`str`, *optional*, defaults to `"processor"`):
            Source of the low-res tower's views: the processor draws them (`"processor"`), or the model resizes them
            from the high-res canvas, bilinearly without antialiasing, with the corners' centres aligned (`"corners"`,
            LLaVA-HR, EAGLE) or the edges (`"edges"`, Mini-Gemini). For the latter two
            the processor must normalise both alike. `"high_res_map"`: the towers are serial (DeepSeek-OCR). The
            low-res tower has no patch embedding: it reads the last map of the first high-res tower, which encodes the
            processor's views. There is no high-res canvas.
        high_res_views (`dict` or `str`, *optional*, defaults to `{"type": "canvas"}`):
            Source of the views that high-res towers encode. `"canvas"`: the high-res canvas. `"low_res"`: the low-res
            views, each resized alone by the tower's `input_size` and `resize` (Eagle2); there is no high-res canvas
            then, and `high_res_tile_size` is `None`. Where the towers are used to other colours,
            `{"type": "low_res", "image_mean": ..., "image_std": ..., "high_res_image_mean": ...,
            "high_res_image_std": ...}` holds the processor's normalisation and theirs.
        high_res_overview (`"pool"`, `"interpolate"` or `"encode"`, *optional*, defaults to `"pool"`):
            High-res features of the overview: the canvas's map averaged onto the overview, or interpolated bilinearly
            without antialiasing (Mini-Gemini), or a second pass of the tower over the whole image at
            `high_res_tile_size`.
        image_newline (`bool`, *optional*, defaults to `False`):
            Whether the model has a learned newline vector, which layouts with `row_newlines` put after each row of
            image tokens.
        view_separator (`bool`, *optional*, defaults to `False`):
            Whether the model has a learned vector that layouts with `separator` put behind an image's tokens.
        slice_positions (`int`, *optional*, defaults to 0):
            Most rows and columns of tiles that have learned positions; 0 turns the positions off. The processor's
            layout needs `slice_positions` too. With them, frames of videos must be one view each.
        image_token_id (`int`, *optional*, defaults to 128256):
            Id of the placeholder for one image token.
        video_token_id (`int`, *optional*):
            Id of the placeholder for one token of a video. None: the model takes no videos.
        shared_positions (`bool`, *optional*, defaults to `False`):
            Whether all patches of a frame or an image share one rotary position, see `modeling_shared_positions.py`.
        prune (`dict` or `str`, *optional*):
            `{"type": "visionzip", "dominant": n, "contextual": m}`: tokens that are left of every view, see
            `pruning.py`; the processor needs the same. `{"type": "pixelprune"}`, which the processor does alone,
            says that the model must take its prompts. None: nothing is pruned here.
        tie_word_embeddings (`bool`, *optional*, defaults to the text config's):
            Whether `lm_head` shares the input embedding's weight.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of the new weights (fusion, connector).

        preprocessing (`dict`, *optional*):
            Preprocessing of the training images, from `FilaProcessor.preprocessing()`. A processor that is loaded
            with the model is compared with it.
        fila_version (`str`, *optional*):
            Version of `fila` that wrote the code in the checkpoint's folder.
        code_hash (`str`, *optional*):
            Hash of that code.
        own_parts (`dict[str, str]`, *optional*):
            File and class, in the checkpoint's folder, of each part that is not fila's own, by `kind.name`.

    Raises:
        ValueError: If a key is unknown, a size is below 1, an activation is unknown, or the parts do not fit together.
        TypeError: If a sub-config is neither a dict nor a config.
    """

    model_type: ClassVar[str] = "fila"
    sub_configs: ClassVar[dict[str, Any]] = {
        "vision_config": AutoConfig,
        "high_res_vision_config": AutoConfig,
        "text_config": AutoConfig,
    }

    # A dict or a config on the way in, a config after construction; `_build` checks which.
    vision_config: Any = None
    high_res_vision_config: Any = field(default_factory=lambda: dict(_HIGH_RES_DEFAULTS))
    extra_vision_configs: list[Any] = field(default_factory=list)
    text_config: Any = None
    if TYPE_CHECKING:  # as they are after construction
        fusion: Any = None
        connector: Any = None
        injection: Any = None
        prune: Any = None
        tile_size: int = 0
        high_res_tile_size: Any = None
    else:
        fusion: dict[str, Any] | str | None = None
        connector: dict[str, Any] | str | None = None
        injection: dict[str, Any] | str | None = None
        prune: dict[str, Any] | str | None = None
        tile_size: int | None = None
        high_res_tile_size: int | None = None
    vision_feature_layer: int = -2
    vision_feature_select: Literal["patch", "cls_patch"] = "patch"
    high_res_overview: Literal["pool", "interpolate", "encode"] = "pool"
    low_res_views: Literal["processor", "corners", "edges", "high_res_map"] = "processor"
    high_res_views: Any = "canvas"
    image_newline: bool = False
    view_separator: bool = False
    slice_positions: int = 0
    image_token_id: int = 128256
    video_token_id: int | None = None
    shared_positions: bool = False
    tie_word_embeddings: bool | None = None
    initializer_range: float = 0.02
    preprocessing: dict[str, Any] | None = None
    fila_version: str | None = None
    code_hash: str | None = None
    own_parts: dict[str, str] | None = None

    # Functions of the `fila` package for a checkpoint's code: write it, compare it with the package's own, and look
    # for parts that are neither its own nor registered. None if the package is not imported: the files that
    # transformers copies are complete then.
    write_code: ClassVar[Any] = None
    compare_code: ClassVar[Any] = None
    before_listing: ClassVar[Any] = None  # of the `fila` package: PEFT reads `to_dict` before it looks for a default
    require_parts: ClassVar[Any] = None

    def __post_init__(self, **kwargs: object) -> None:
        tokens = {key: kwargs.pop(key) for key in _TOKEN_IDS if key in kwargs}
        refuse_unknown_keys("FilaConfig", [f.name for f in fields(self)], kwargs)

        if self.own_parts and self.require_parts is not None:
            self.require_parts(self.own_parts, kwargs.get("name_or_path"))
        vision = self.vision_config if self.vision_config is not None else dict(_VISION_DEFAULTS)
        self.vision_config = _build("vision_config", vision, "clip_vision_model")
        if self.high_res_vision_config is not None:
            self.high_res_vision_config = _build("high_res_vision_config", self.high_res_vision_config, "convnext")
        self.extra_vision_configs = [
            _build(f"extra_vision_configs[{index}]", extra, "convnext")
            for index, extra in enumerate(self.extra_vision_configs)
        ]
        self.text_config = _build("text_config", self.text_config if self.text_config is not None else {}, "llama")
        extras = {f"extra_vision_configs[{number}]": extra for number, extra in enumerate(self.extra_vision_configs)}
        parts = {"vision_config": self.vision_config, "high_res_vision_config": self.high_res_vision_config, **extras}
        for name, part in {**parts, "text_config": self.text_config}.items():
            refuse_impossible_values(name, part)
        for key, token in tokens.items():
            if token is not None:
                setattr(self.text_config, key, token)
        if self.tie_word_embeddings is None:
            self.tie_word_embeddings = bool(getattr(self.text_config, "tie_word_embeddings", False))

        single_tower = self.high_res_vision_config is None
        self.fusion, self.connector, self.prune = map(as_options, (self.fusion, self.connector, self.prune))
        self.high_res_views = as_options(self.high_res_views)
        if self.fusion is None:
            self.fusion = {"type": "none" if single_tower else "cvfm"}
        self.injection = {"type": "none"} if self.injection is None else as_options(self.injection)
        if self.connector is None:
            self.connector = {"type": "mlp"}
        if not hasattr(self.vision_config, "image_size") or not hasattr(self.vision_config, "patch_size"):
            raise ValueError(
                f"`vision_config.model_type` {self.vision_config.model_type!r} must be a vision tower with an "
                "`image_size` and a `patch_size`, such as 'clip_vision_model'."
            )
        if self.tile_size is None:
            first = self.high_res_vision_config if self.has_serial_towers else None
            self.tile_size = _side(getattr(first, "image_size", self.vision_config.image_size))
        if self.has_high_res_canvas and self.high_res_tile_size is None:
            self.high_res_tile_size = self._default_high_res_tile_size()
        for name in ("fusion", "connector", "injection"):
            check_layers(name, getattr(self, name))
        self._check_parts()
        super().__post_init__(**kwargs)
        if self.fila_version is not None and self.compare_code is not None:
            self.compare_code(self)

    # the package `fila` sets it: recipes are not copied into checkpoints
    recipe_settings: ClassVar[Callable[..., dict[str, Any]] | None] = None

    @classmethod
    def from_recipe(
        cls,
        name: str,
        *,
        low_res: dict[str, Any] | PreTrainedConfig | str | None = None,
        high_res: dict[str, Any] | PreTrainedConfig | str | None = None,
        text: dict[str, Any] | PreTrainedConfig | str | None = None,
        **changes: Any,
    ) -> "FilaConfig":
        """Return the config of a published system, such as `"llava-hr"`; `fila recipes` lists them. Needs `fila`.

        Args:
            name: Name of the recipe.
            low_res: Another low-res tower: sizes that replace the recipe's, a config, or a checkpoint's folder or id.
            high_res: Another high-res tower, likewise.
            text: Another language model, likewise.
            changes: Settings that replace the recipe's.

        Raises:
            ValueError: If there is no such recipe, or it has no such tower.
            ImportError: If this code was loaded from a checkpoint's folder and `fila` is not imported.
        """
        if cls.recipe_settings is None:
            raise ImportError("`from_recipe` needs the package `fila`, which has the recipes. Install and import it.")
        settings = cls.recipe_settings(name, low_res=low_res, high_res=high_res, text=text)
        return cls(**{**settings, **changes})

    # metrics do not need them, and not every batch has images
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "past_key_values",
        "cache",
        "image_hidden_states",
        "image_outputs",
        "video_outputs",
    ]

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON; once a model is saved, the `auto_map` names every class."""
        if self.before_listing is not None:
            self.before_listing()
        output: dict[str, Any] = super().to_dict()
        if strange := unknown_keys([f.name for f in fields(self)], output):
            # scripts set these on any model; a checkpoint with them could not be loaded
            logger.warning_once(f"{strange} of the config are no settings of `FilaConfig`, and are not saved.")
            output = {key: value for key, value in output.items() if key not in strange}
        if self.prune is None:
            output.pop("prune", None)
        if any(name.startswith("AutoModel") for name in output.get("auto_map") or {}):
            output["auto_map"] = dict(AUTO_MAP)
        output["extra_vision_configs"] = [
            {key: value for key, value in extra.to_dict().items() if key != "transformers_version"}
            for extra in self.extra_vision_configs
        ]
        return output

    def to_json_file(self, json_file_path: str | os.PathLike[str], *args: bool, **kwargs: bool) -> None:
        """Write the settings. With `fila`, and where transformers copied code, write the code that they use too."""
        if self.write_code is not None:
            self.write_code(self, json_file_path)
        super().to_json_file(json_file_path, *args, **kwargs)

    def placeholder_ids(self) -> list[int]:
        """Return the placeholder ids of images and of videos."""
        return [token for token in (self.image_token_id, self.video_token_id) if token is not None]

    def _default_high_res_tile_size(self) -> int:
        """Return the default of `high_res_tile_size`."""
        tower = self.high_res_vision_config
        if depths := getattr(tower, "depths", None):
            return self.patch_grid[0] * tower.patch_size * 2 ** (len(depths) - 1)
        if not hasattr(tower, "image_size"):
            raise ValueError(
                f"`high_res_tile_size` must be set: tower {tower.model_type!r} of `high_res_vision_config` has no "
                "size of its own."
            )
        return _side(tower.image_size)

    def _check_parts(self) -> None:
        single_tower = self.high_res_vision_config is None
        if single_tower and self.high_res_tile_size is not None:
            raise ValueError(
                f"`high_res_tile_size` is {self.high_res_tile_size}, but `high_res_vision_config` is None: a "
                "single-tower model has no high-res canvas. Drop the one or set the other."
            )
        if self.extra_vision_configs and single_tower:
            raise ValueError(
                f"`extra_vision_configs` holds {len(self.extra_vision_configs)} towers, but `high_res_vision_config` "
                "is None. Set the first of them there."
            )
        if self.low_res_views != "processor" and single_tower:
            raise ValueError(
                f"`low_res_views` {self.low_res_views!r} draws views out of the high-res canvas, or reads the map of "
                "the high-res tower, but `high_res_vision_config` is None. Use 'processor'."
            )
        if self.has_serial_towers and self.high_res_tile_size is not None:
            raise ValueError(
                f"`high_res_tile_size` is {self.high_res_tile_size}, but with `low_res_views` 'high_res_map' the "
                "high-res tower encodes the views themselves, and there is no high-res canvas. Drop it."
            )
        kind = self.high_res_views.get("type") if isinstance(self.high_res_views, dict) else None
        if kind not in ("canvas", "low_res"):
            raise ValueError(f"`high_res_views` must be of type 'canvas' or 'low_res'; got {self.high_res_views!r}.")
        assert self.tile_size is not None
        for name, least in (("tile_size", 1), ("high_res_tile_size", 1), ("slice_positions", 0)):
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"`{name}` must be at least {least}; got {value}.")
        for name in ("image_token_id", "video_token_id"):
            if (value := getattr(self, name)) is not None and not 0 <= value <= MAX_TOKEN_ID:
                raise ValueError(f"`{name}` must be an id of a token, in 0..{MAX_TOKEN_ID}; got {value}.")
        _ = self.patch_grid  # which the low-res tower must have
        depth = self.vision_config.num_hidden_layers
        if not 1 <= self.num_vision_layers <= depth:
            raise ValueError(
                f"`vision_feature_layer` must name one of the {depth} layers of the low-res tower "
                f"(1..{depth} or -{depth}..-1); got {self.vision_feature_layer}."
            )

    @property
    def has_injection(self) -> bool:
        """Whether streams are added before layers of the language model."""
        return bool(self.injection["type"] != "none")

    @property
    def num_vision_layers(self) -> int:
        """Number of layers of the low-res tower that are kept and run."""
        depth = int(self.vision_config.num_hidden_layers)
        return self.vision_feature_layer if self.vision_feature_layer > 0 else depth + 1 + self.vision_feature_layer

    @property
    def patch_grid(self) -> tuple[int, int]:
        """(rows, cols) of the low-res tower's features of one view; its patches, unless the tower joins some."""
        from .towers import low_res_grid  # which imports this file

        return low_res_grid(self, self.tile_size, self.tile_size)

    @property
    def patch_size(self) -> int:
        """Pixels per side of a patch of the views; views of unequal size come as patches side by side."""
        return _side((self.high_res_vision_config if self.has_serial_towers else self.vision_config).patch_size)

    @property
    def has_serial_towers(self) -> bool:
        """Whether the low-res tower reads the high-res tower's map in place of pixels."""
        return self.low_res_views == "high_res_map" and self.high_res_vision_config is not None

    @property
    def has_high_res_canvas(self) -> bool:
        """Whether the model reads a high-res canvas beside the views."""
        has_tower = self.high_res_vision_config is not None and not self.has_serial_towers
        return has_tower and bool(self.high_res_views["type"] == "canvas")

    @property
    def high_res_side(self) -> int:
        """Pixels per side of the view that a high-res tower gets."""
        return int(self.tile_size if self.high_res_tile_size is None else self.high_res_tile_size)


def _side(value: int | list[int] | tuple[int, ...]) -> int:
    """Return a size that config classes store as one number or as a pair; towers are square."""
    if isinstance(value, list | tuple):
        if len(set(value)) != 1:
            raise ValueError(f"`vision_config.image_size` and `patch_size` must be square; got {tuple(value)}.")
        return int(value[0])
    return int(value)


__all__ = ["FilaConfig"]
