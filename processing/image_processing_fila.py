# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Image processors of FILA: plan the canvas, render the views and the high-res canvas, normalise, pack.

Two classes with one behaviour: `FilaImageProcessor` (torchvision) and `FilaImageProcessorPil`. Both are in this file,
so that a checkpoint saved with either one can be loaded with or without torchvision.

Tensors, one row per image (`I` images in the batch, `V` the largest number of views of one image, `S` the tile size):

    pixel_values           (I, V, 3, S, S)  float32  overview first, then tiles row-major; zero beyond an image's views
    view_boxes             (I, V, 4)        int64    box of each view on the canvas; the overview's is the content box
    tile_grid              (I, 2)           int64    rows, cols
    high_res_pixel_values  (I, 3, Hmax, Wmax)  float32  the whole canvas, larger; zero at the bottom and right
    high_res_sizes         (I, 2)           int64    height and width of each high-res canvas

A canvas whose views differ in size (`minicpm`, `uhd`, `native`) gives the patches of a view side by side instead, `L`
of the view that has most, and the patches per axis; there is no high-res canvas then:

    pixel_values           (I, V, 3, p, L * p)  float32  patches of p x p pixels, row-major; zero beyond a view's
    patch_grids            (I, V, 2)            int64    rows and columns of patches of each view; zero for padding

`return_image_sizes` adds `image_sizes` (I, 2) int64, the images' height and width as they came. `return_content` adds
what maps coordinates back to the image, for the caller, not for the model:

    content_mask   (I, V, S, S)  bool     where each view shows the image, laid out as `pixel_values`; false on padding
    content_boxes  (I, 4)        int64    the part of the canvas that the image covers
    image_scales   (I, 2)        float64  image pixels per canvas pixel: an edge at canvas pixel y lies at
                                          (y - content top) * scale on the image

With `return_tensors=None` each entry is a list with one array per image, without padding.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, Unpack, cast

import numpy as np
from transformers.image_processing_backends import PilBackend, TorchvisionBackend
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
    ImageInput,
    PILImageResampling,
    SizeDict,
)
from transformers.processing_utils import ImagesKwargs
from transformers.utils import is_torch_available, logging

from .canvas import Canvas, as_options
from .canvas_plan import CanvasPlan, Size
from .image_batch import PIXELS, draw_batch
from .image_drawings import DRAWINGS, check_mode
from .image_fingerprint import fingerprint
from .image_input import load_images, rgb_tensor, to_channels_first
from .image_pixels import is_elsewhere, is_plain_rgb
from .image_settings import NORMALIZE_KWARGS, canvas_of, settings_of_pixels, square
from .processor_needs_fila import from_fila

if is_torch_available():
    import torch

logger = logging.get_logger(__name__)

DEFAULT_CANVAS = {"type": "fila"}
DEFAULT_SIZE = {"height": 336, "width": 336}
DEFAULT_HIGH_RES_SIZE = {"height": 768, "width": 768}
PASSED_BY_TRANSFORMERS = {"auto_map", "feature_extractor_type", "image_processor_type", "processor_class"}


class FilaImageProcessorKwargs(ImagesKwargs, total=False):
    r"""Arguments of a call besides transformers' `ImagesKwargs`: the settings of `FilaImageProcessor`."""

    canvas: dict[str, Any] | str
    mode: str
    high_res_size: int | list[int] | tuple[int, ...] | dict[str, int] | None
    high_res_image_mean: float | list[float] | tuple[float, ...] | None
    high_res_image_std: float | list[float] | tuple[float, ...] | None
    return_image_sizes: bool | None
    return_content: bool | None


class _FilaImageProcessing(BaseImageProcessor):
    """Base of both backends, mixed in before a backend of transformers."""

    valid_kwargs = FilaImageProcessorKwargs

    canvas = DEFAULT_CANVAS
    mode = "exact"
    size = DEFAULT_SIZE
    high_res_size = DEFAULT_HIGH_RES_SIZE
    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    high_res_image_mean = IMAGENET_DEFAULT_MEAN
    high_res_image_std = IMAGENET_DEFAULT_STD
    do_convert_rgb = True
    do_resize = True
    do_rescale = True
    do_normalize = True
    return_image_sizes = None
    _cache: Any = None
    write_code: Any = None  # of the `fila` package, where it is imported: see `FilaConfig`
    require_parts: Any = None
    return_content = None

    # of the backend that a class mixes in, and of the class itself
    backend: str
    resize: Callable[..., Any]
    _to_backend: Callable[..., Any]
    _normalized: Callable[..., Any]
    _pixels: Callable[..., Any]
    _array: Callable[..., Any]

    def __init__(self, **kwargs: Unpack[FilaImageProcessorKwargs]) -> None:
        accepted = set(self.valid_kwargs.__annotations__)
        if unknown := sorted(set(kwargs) - accepted - PASSED_BY_TRANSFORMERS - {"fingerprint", "own_parts"}):
            raise ValueError(f"{type(self).__name__} has no setting {unknown}; it accepts {sorted(accepted)}.")
        saved = kwargs.pop("fingerprint", None)  # type: ignore[typeddict-item]
        # File and class, in the checkpoint's folder, of each part that is not fila's own, by `kind.name`.
        self.own_parts: dict[str, str] | None = kwargs.pop("own_parts", None)  # type: ignore[typeddict-item]
        if self.own_parts and self.require_parts is not None:
            self.require_parts(self.own_parts)
        if "canvas" in kwargs:
            kwargs["canvas"] = as_options(kwargs["canvas"])
        super().__init__(**kwargs)  # type: ignore[misc]
        check_mode(self.mode)
        if saved is not None and saved != self.fingerprint:
            logger.warning(
                f"These settings of {type(self).__name__} are not those that were saved (fingerprint {saved}, now "
                f"{self.fingerprint}): they were named in the call, or the file was edited."
            )

    @property
    def fingerprint(self) -> str:
        """Return the hash of `preprocessing()`, which is saved with the settings."""
        return fingerprint(self.preprocessing())

    def preprocessing(self, **overrides: Unpack[FilaImageProcessorKwargs]) -> dict[str, Any]:
        """Return the settings that decide pixels, with defaults, as plain JSON; `overrides` as in a call."""
        given = {name: getattr(self, name, None) for name in self.valid_kwargs.__annotations__}
        named = {name: value for name, value in overrides.items() if value is not None or name == "high_res_size"}
        return settings_of_pixels(given | named)

    @property
    def model_input_names(self) -> list[str]:  # type: ignore[override]
        """Names of the tensors that a call returns."""
        names = ["pixel_values", "view_boxes", "tile_grid"]
        if not self.plans().equal_views:
            names.append("patch_grids")
        return names if self.high_res_size is None else [*names, "high_res_pixel_values", "high_res_sizes"]

    def plans(self, **overrides: Unpack[FilaImageProcessorKwargs]) -> Canvas:
        """Return the canvas strategy of these settings; `overrides` as in `plan`."""
        size, canvas = overrides.get("size"), overrides.get("canvas")
        return canvas_of(
            self.canvas if canvas is None else canvas, square(self.size if size is None else size, "size")
        )

    def plan(self, height: int, width: int, **overrides: Unpack[FilaImageProcessorKwargs]) -> CanvasPlan:
        """Plan the canvas of an image, without pixels.

        Args:
            height: Pixels of the image.
            width: Pixels of the image.
            overrides: `canvas` or `size`, as in a call; other settings do not change the plan and may be present.

        Returns:
            The plan that a call with the same settings uses.
        """
        return self.plans(**overrides)(height, width)

    def get_number_of_image_patches(self, height: int, width: int, images_kwargs: dict[str, Any] | None = None) -> int:
        """Return the number of views of an image of this size: the tiles and the overview, if there is one."""
        return self.plan(height, width, **(images_kwargs or {})).num_views

    def fetch_images(self, image_url_or_urls: object) -> object:
        """Load paths, URLs and bytes, turn images upright and check them; the nesting is kept."""
        if self._cache is not None:
            return self._cache.load(image_url_or_urls)
        return load_images(image_url_or_urls, page_size=self.page_size)

    def page_size(self, height: float, width: float, **overrides: Unpack[FilaImageProcessorKwargs]) -> Size:
        """Return the pixels at which a page of a PDF is drawn; see `image_document.canvas_page_size`."""
        size: Size = from_fila("processing.image_document", "A PDF").canvas_page_size(self, height, width, **overrides)
        return size

    def cache_images(self, max_bytes: int | None) -> Any:
        """Cache processed images up to a number of bytes; see `image_cache.py`.

        Args:
            max_bytes: Most bytes to keep; None, the initial state, keeps nothing.

        Returns:
            The cache, for its counts of hits and bytes.
        """
        cache = None if max_bytes is None else from_fila("processing.image_cache", "A cache of images")
        self._cache = None if cache is None else cache.ImageCache(max_bytes)
        return self._cache

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON; an `auto_map` names the classes of both backends."""
        output: dict[str, Any] = super().to_dict()
        output["fingerprint"] = self.fingerprint
        output.pop("_cache", None)
        if not output.get("own_parts"):
            output.pop("own_parts", None)
        if "AutoImageProcessor" in (output.get("auto_map") or {}):
            module = type(self).__module__.rpartition(".")[2]
            classes = {"torchvision": f"{module}.FilaImageProcessor", "pil": f"{module}.FilaImageProcessorPil"}
            output["auto_map"] = {**output["auto_map"], "AutoImageProcessor": classes}
        return output

    def to_json_file(self, json_file_path: str | os.PathLike[str]) -> None:
        """Write the settings. With `fila`, and where transformers copied code, write the code that they use too."""
        if self.write_code is not None:
            self.write_code(self, json_file_path)
        super().to_json_file(json_file_path)

    def _standardize_kwargs(  # type: ignore[override]
        self,
        canvas: Any = None,
        high_res_size: int | list[int] | tuple[int, ...] | dict[str, int] | SizeDict | None = None,
        high_res_image_mean: float | list[float] | tuple[float, ...] | None = None,
        high_res_image_std: float | list[float] | tuple[float, ...] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        kwargs = super()._standardize_kwargs(**kwargs)
        for name in ("do_center_crop", "do_pad"):
            if kwargs.get(name):
                raise ValueError(f"`{name}` is not supported: the canvas decides what is shown and padded.")
        canvas = as_options(canvas)
        plans = canvas_of(canvas, square(kwargs["size"], "size"))
        if high_res_size is not None and not plans.equal_views:
            raise ValueError(
                f"`high_res_size` must be None for the canvas {dict(canvas or {}).get('type')!r}: its views differ in "
                "size, and a high-res tower needs equal ones."
            )
        if high_res_size is not None:
            high_res_size = square(high_res_size, "high_res_size")._asdict()
        means = {"high_res_image_mean": high_res_image_mean, "high_res_image_std": high_res_image_std}
        means = {name: tuple(value) if isinstance(value, list) else value for name, value in means.items()}
        return {**kwargs, "canvas": canvas, "high_res_size": high_res_size, **means}

    def _validate_preprocess_kwargs(self, **kwargs: Any) -> None:  # type: ignore[override]
        super()._validate_preprocess_kwargs(**kwargs)
        check_mode(kwargs["mode"])
        if kwargs.get("do_resize") is False:
            raise ValueError("`do_resize` must be true: a canvas is drawn by resizing.")
        if kwargs.get("high_res_size") and kwargs.get("do_normalize"):
            for name in ("high_res_image_mean", "high_res_image_std"):
                if kwargs.get(name) is None:
                    raise ValueError(f"`{name}` must be set when there is a high-res canvas to normalise.")

    def _preprocess_image_like_inputs(self, images: ImageInput, *args: Any, **kwargs: Any) -> BatchFeature:
        if self._cache is None:
            return super()._preprocess_image_like_inputs(images, *args, **kwargs)
        kind = kwargs.pop("return_tensors", None)
        others = [kwargs.get(name) for name in ("return_image_sizes", "return_content", "input_data_format", "device")]
        settings = f"{fingerprint(self.preprocessing(**kwargs))} {self.backend} {others}"
        call = functools.partial(super()._preprocess_image_like_inputs, return_tensors=None, **kwargs)
        results = self._cache.made_or_kept(images, settings, call)
        return BatchFeature(data=self._cache.packed(results, stacked=kind is not None), tensor_type=kind)

    def _prepare_image_like_inputs(self, images: ImageInput, *args: Any, **kwargs: Any) -> list[Any]:
        loaded = load_images(images, page_size=functools.partial(self.page_size, **_of_canvas(kwargs)))
        if not isinstance(loaded, list):
            loaded = [loaded]
        samples = enumerate(loaded) if loaded and isinstance(loaded[0], list) else [(None, loaded)]
        drawing = _drawing(kwargs)
        return [
            self._prepared(image, drawing, sample, number, kwargs)
            for sample, items in samples
            for number, image in enumerate(items)
        ]

    def _prepared(self, image: object, drawing: Any, sample: int | None, number: int, kwargs: dict[str, Any]) -> Any:
        """Convert an image to a source of the drawing; unscaled floats and other than 3 channels to `(C, H, W)`."""
        if is_plain_rgb(image):
            return drawing.source(image)
        to_uint8, data_format = bool(kwargs.get("do_rescale")), kwargs.get("input_data_format")
        if drawing.takes_tensors and is_elsewhere(image):
            levels = rgb_tensor(image, sample, number, to_uint8=to_uint8, data_format=data_format)
            if levels is not None:
                return drawing.source(levels)
        to_rgb = bool(kwargs.get("do_convert_rgb"))
        pixels = to_channels_first(image, sample, number, to_rgb=to_rgb, to_uint8=to_uint8, data_format=data_format)
        if pixels.dtype == np.uint8 and len(pixels) == 3:
            return drawing.source(pixels)
        return self._to_backend(pixels, kwargs.get("device"))

    def _preprocess(self, images: list[Any], **kwargs: Any) -> BatchFeature:
        kind, device = kwargs.get("return_tensors"), kwargs.get("device")
        options = [kwargs.get(name) for name in NORMALIZE_KWARGS]

        def resize(image: Any, size: Size) -> Any:
            size_dict = SizeDict(height=size.height, width=size.width)
            return self.resize(image=image, size=size_dict, resample=kwargs["resample"])

        def normalize(pixels: Any, mean: float | tuple[float, ...], std: float | tuple[float, ...]) -> Any:
            return self._normalized(pixels, mean, std, *options)

        data = draw_batch(images, _drawing(kwargs), resize, normalize, kwargs, stacked=kind is not None)
        for name, arrays in data.items():
            convert = functools.partial(self._pixels, kind=kind, device=device) if name in PIXELS else self._array
            data[name] = [convert(array) for array in arrays] if isinstance(arrays, list) else convert(arrays)
        return BatchFeature(data=data, tensor_type=kind)


class FilaImageProcessor(_FilaImageProcessing, TorchvisionBackend):  # type: ignore[misc]
    r"""Image processor of FILA on torchvision.

    Args:
        canvas (`dict` or `str`, *optional*, defaults to `{"type": "fila"}`):
            The canvas strategy and its options, or its name.
        mode (`str`, *optional*, defaults to `"exact"`):
            `"exact"`: pixels bit by bit as the published systems make them. `"fast"`: a gray level differs by at most
            two and hardly ever by more than one, on whatever device the pixels are; see `image_drawing.py`.
        size (`dict[str, int]`, *optional*, defaults to `{"height": 336, "width": 336}`):
            Pixels of one tile; square.
        high_res_size (`dict[str, int]`, *optional*, defaults to `{"height": 768, "width": 768}`):
            Pixels of the high-res view of one tile; square. None: there is no high-res canvas.
        resample (`PILImageResampling`, *optional*, defaults to bicubic):
            Filter of every resize.
        image_mean (`list[float]`, *optional*, defaults to `OPENAI_CLIP_MEAN`):
            Mean of the views.
        image_std (`list[float]`, *optional*, defaults to `OPENAI_CLIP_STD`):
            Standard deviation of the views.
        high_res_image_mean (`list[float]`, *optional*, defaults to `IMAGENET_DEFAULT_MEAN`):
            Mean of the high-res canvas, in the convention of the tower that reads it.
        high_res_image_std (`list[float]`, *optional*, defaults to `IMAGENET_DEFAULT_STD`):
            Standard deviation of the high-res canvas.
        do_convert_rgb (`bool`, *optional*, defaults to `True`):
            Convert to RGB; transparent pixels are drawn on white.
        do_rescale (`bool`, *optional*, defaults to `True`):
            Multiply by `rescale_factor`.
        rescale_factor (`float`, *optional*, defaults to 1/255):
            Brings uint8 to 0..1.
        do_normalize (`bool`, *optional*, defaults to `True`):
            Subtract the mean and divide by the standard deviation.
        return_image_sizes (`bool`, *optional*, defaults to `False`):
            Return the images' height and width too.
        return_content (`bool`, *optional*, defaults to `False`):
            Return the arrays that map coordinates to the image: `content_mask`, `content_boxes` and `image_scales`.
    """

    def _to_backend(self, pixels: np.ndarray, device: "str | torch.device | None") -> "torch.Tensor":
        pixels = np.ascontiguousarray(pixels)
        return torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).to(device)

    def _normalized(
        self, image: "torch.Tensor", mean: float | tuple[float, ...], std: float | tuple[float, ...], *options: Any
    ) -> "torch.Tensor":
        normalized: torch.Tensor = self.rescale_and_normalize(image, *options, mean, std)  # type: ignore[call-arg]
        return normalized.float().cpu()

    def _pixels(
        self, array: "np.ndarray | torch.Tensor", kind: str | None, device: "str | torch.device | None"
    ) -> "torch.Tensor":
        return torch.from_numpy(array).to(device) if isinstance(array, np.ndarray) else array

    def _array(self, array: np.ndarray) -> "torch.Tensor":
        return torch.from_numpy(array)


class FilaImageProcessorPil(_FilaImageProcessing, PilBackend):  # type: ignore[misc]
    r"""Image processor of FILA on PIL and numpy; settings as `FilaImageProcessor`."""

    def _to_backend(self, pixels: np.ndarray, device: "str | torch.device | None") -> np.ndarray:
        return pixels

    def _normalized(
        self,
        image: np.ndarray,
        mean: float | tuple[float, ...],
        std: float | tuple[float, ...],
        do_rescale: bool | None,
        rescale_factor: float | None,
        do_normalize: bool | None,
    ) -> np.ndarray:
        if do_rescale:
            image = self.rescale(image, cast(float, rescale_factor))
        if do_normalize:
            image = self.normalize(image, mean, std)
        return image.astype(np.float32, copy=False)

    def _pixels(
        self, array: "np.ndarray | torch.Tensor", kind: str | None, device: "str | torch.device | None"
    ) -> Any:
        return array if isinstance(array, np.ndarray) or kind == "pt" else array.cpu().numpy()

    def _array(self, array: np.ndarray) -> np.ndarray:
        return array


def _of_canvas(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a call that decide the canvas."""
    return {name: kwargs[name] for name in ("canvas", "size", "high_res_size") if name in kwargs}


def _drawing(kwargs: dict[str, Any]) -> Any:
    return DRAWINGS[kwargs["mode"]](kwargs["resample"], kwargs.get("device"))
