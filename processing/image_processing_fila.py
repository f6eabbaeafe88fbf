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
import json
from typing import Any

import numpy as np
from transformers.image_processing_backends import PilBackend, TorchvisionBackend
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature, get_size_dict
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
    PILImageResampling,
    SizeDict,
)
from transformers.processing_utils import ImagesKwargs, Unpack
from transformers.utils import is_torch_available

from .canvas import Canvas, build_canvas
from .canvas_plan import CanvasPlan, Size
from .image_input import load_images, to_channels_first
from .render import content_arrays, cut, render_canvas, render_high_res, render_overview, side_by_side

if is_torch_available():
    import torch

DEFAULT_CANVAS = {"type": "fila"}
DEFAULT_SIZE = {"height": 336, "width": 336}
DEFAULT_HIGH_RES_SIZE = {"height": 768, "width": 768}
PASSED_BY_TRANSFORMERS = {"auto_map", "feature_extractor_type", "image_processor_type", "processor_class"}


class FilaImageProcessorKwargs(ImagesKwargs, total=False):  # type: ignore[call-arg]
    r"""What a call accepts besides transformers' `ImagesKwargs`; the settings of `FilaImageProcessor`."""

    canvas: dict[str, Any]
    high_res_size: int | list[int] | tuple[int, ...] | dict[str, int] | None
    high_res_image_mean: float | list[float] | tuple[float, ...] | None
    high_res_image_std: float | list[float] | tuple[float, ...] | None
    return_image_sizes: bool | None
    return_content: bool | None


class _FilaImageProcessing(BaseImageProcessor):
    """What both backends share; mixed in front of a backend of transformers."""

    valid_kwargs = FilaImageProcessorKwargs

    canvas = DEFAULT_CANVAS
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
    return_content = None

    def __init__(self, **kwargs: Unpack[FilaImageProcessorKwargs]) -> None:
        accepted = set(self.valid_kwargs.__annotations__)
        if unknown := sorted(set(kwargs) - accepted - PASSED_BY_TRANSFORMERS):
            raise ValueError(f"{type(self).__name__} has no setting {unknown}; it accepts {sorted(accepted)}.")
        super().__init__(**kwargs)

    @property
    def model_input_names(self) -> list[str]:
        """Names of the tensors that a call returns."""
        names = ["pixel_values", "view_boxes", "tile_grid"]
        if not self.plans().equal_views:
            names.append("patch_grids")
        return names if self.high_res_size is None else [*names, "high_res_pixel_values", "high_res_sizes"]

    def plans(self, **overrides: Any) -> Canvas:
        """The canvas strategy of these settings; `overrides` as in `plan`."""
        size, canvas = overrides.get("size"), overrides.get("canvas")
        return _canvas(self.canvas if canvas is None else canvas, _square(self.size if size is None else size, "size"))

    def plan(self, height: int, width: int, **overrides: Any) -> CanvasPlan:
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
        """Number of views of an image of this size: the tiles and, where there is one, the overview."""
        return self.plan(height, width, **(images_kwargs or {})).num_views

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Load paths, URLs and bytes, turn images upright and check them; the nesting is kept."""
        return load_images(image_url_or_urls)

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain JSON; an `auto_map` names the classes of both backends."""
        output: dict[str, Any] = super().to_dict()
        if "AutoImageProcessor" in (output.get("auto_map") or {}):
            module = type(self).__module__.rpartition(".")[2]
            classes = {"torchvision": f"{module}.FilaImageProcessor", "pil": f"{module}.FilaImageProcessorPil"}
            output["auto_map"] = {**output["auto_map"], "AutoImageProcessor": classes}
        return output

    def _standardize_kwargs(
        self,
        canvas: dict[str, Any] | None = None,
        high_res_size: Any = None,
        high_res_image_mean: Any = None,
        high_res_image_std: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        kwargs = super()._standardize_kwargs(**kwargs)
        for name in ("do_center_crop", "do_pad"):
            if kwargs.get(name):
                raise ValueError(f"`{name}` is not supported: the canvas decides what is shown and padded.")
        plans = _canvas(canvas, _square(kwargs["size"], "size"))
        if high_res_size is not None and not plans.equal_views:
            raise ValueError(
                f"`high_res_size` must be None for the canvas {dict(canvas or {}).get('type')!r}: its views differ in "
                "size, and a high-res tower needs equal ones."
            )
        if high_res_size is not None:
            high_res_size = _square(high_res_size, "high_res_size")._asdict()
        means = {"high_res_image_mean": high_res_image_mean, "high_res_image_std": high_res_image_std}
        means = {name: tuple(value) if isinstance(value, list) else value for name, value in means.items()}
        return {**kwargs, "canvas": canvas, "high_res_size": high_res_size, **means}

    def _validate_preprocess_kwargs(self, **kwargs: Any) -> None:
        super()._validate_preprocess_kwargs(**kwargs)
        if kwargs.get("do_resize") is False:
            raise ValueError("`do_resize` must be true: a canvas is drawn by resizing.")
        if kwargs.get("high_res_size") and kwargs.get("do_normalize"):
            for name in ("high_res_image_mean", "high_res_image_std"):
                if kwargs.get(name) is None:
                    raise ValueError(f"`{name}` must be set when there is a high-res canvas to normalise.")

    def _prepare_image_like_inputs(self, images: Any, *args: Any, **kwargs: Any) -> list[Any]:
        images = load_images(images)
        if not isinstance(images, list):
            images = [images]
        samples = enumerate(images) if images and isinstance(images[0], list) else [(None, images)]
        return [
            self._to_backend(
                to_channels_first(
                    image,
                    sample,
                    number,
                    to_rgb=bool(kwargs.get("do_convert_rgb")),
                    to_uint8=bool(kwargs.get("do_rescale")),
                    data_format=kwargs.get("input_data_format"),
                ),
                kwargs.get("device"),
            )
            for sample, items in samples
            for number, image in enumerate(items)
        ]

    def _preprocess(
        self,
        images: list[Any],
        *,
        size: SizeDict,
        canvas: dict[str, Any],
        high_res_size: dict[str, int] | None,
        resample: Any,
        image_mean: Any,
        image_std: Any,
        high_res_image_mean: Any,
        high_res_image_std: Any,
        return_tensors: Any,
        return_image_sizes: bool | None = None,
        return_content: bool | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        tile = _square(size, "size")
        plans = _canvas(canvas, tile)
        patch_size = None if plans.equal_views else plans.patch_size  # type: ignore[attr-defined]
        normalize = functools.partial(self._normalized, **{name: kwargs.get(name) for name in NORMALIZE_KWARGS})

        def resize(image: Any, target: Size) -> Any:
            return self.resize(image=image, size=SizeDict(height=target.height, width=target.width), resample=resample)

        data: dict[str, list[Any]] = {"pixel_values": [], "view_boxes": [], "tile_grid": []}
        if patch_size is not None:
            data["patch_grids"] = []
        if high_res_size is not None:
            data |= {"high_res_pixel_values": [], "high_res_sizes": []}
        if return_image_sizes:
            data["image_sizes"] = [self._integers(image.shape[-2:]) for image in images]
        for image in images:
            plan = plans(*image.shape[-2:])
            views = cut(normalize(render_canvas(image, plan, resize), image_mean, image_std), plan.tile_boxes)
            overview = render_overview(image, plan, resize)
            if overview is not None:
                views.insert(0, normalize(overview, image_mean, image_std))
            if patch_size is not None:
                grids = [(view.shape[-2] // patch_size, view.shape[-1] // patch_size) for view in views]
                data["patch_grids"].append(self._integers(grids))
                views = [side_by_side(view, patch_size) for view in views]
                views = [self._padded(view, views) for view in views]
            data["pixel_values"].append(self._stacked(views))
            data["view_boxes"].append(self._integers(plan.view_boxes))
            data["tile_grid"].append(self._integers(plan.tile_grid))
            if return_content:
                for name, array in content_arrays(plan, patch_size).items():
                    data.setdefault(name, []).append(self._array(array))
            if high_res_size is not None:
                pixels = render_high_res(image, plan, resize, low=tile, high=Size(**high_res_size))
                data["high_res_pixel_values"].append(normalize(pixels, high_res_image_mean, high_res_image_std))
                data["high_res_sizes"].append(self._integers(pixels.shape[-2:]))
        if not images:
            return BatchFeature(data={})
        if return_tensors is not None:
            data = {name: [self._padded(array, arrays) for array in arrays] for name, arrays in data.items()}
        return BatchFeature(data=data, tensor_type=return_tensors)

    def _padded(self, array: Any, arrays: list[Any]) -> Any:
        shape = tuple(max(sides) for sides in zip(*(other.shape for other in arrays), strict=True))
        if tuple(array.shape) == shape:
            return array
        padded = np.zeros(shape, array.dtype) if isinstance(array, np.ndarray) else array.new_zeros(shape)
        padded[tuple(slice(side) for side in array.shape)] = array
        return padded


NORMALIZE_KWARGS = ("do_rescale", "rescale_factor", "do_normalize")


class FilaImageProcessor(_FilaImageProcessing, TorchvisionBackend):
    r"""Image processor of FILA on torchvision.

    Args:
        canvas (`dict`, *optional*, defaults to `{"type": "fila"}`):
            The canvas strategy and its options.
        size (`dict[str, int]`, *optional*, defaults to `{"height": 336, "width": 336}`):
            Pixels of one tile; square.
        high_res_size (`dict[str, int]`, *optional*, defaults to `{"height": 768, "width": 768}`):
            Pixels of the high-res canvas that one tile owns; square. None: there is no high-res canvas.
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
            Return what maps coordinates back to the image: `content_mask`, `content_boxes` and `image_scales`.
    """

    def _to_backend(self, pixels: np.ndarray, device: Any) -> "torch.Tensor":
        pixels = np.ascontiguousarray(pixels)
        return torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).to(device)

    def _normalized(self, image: "torch.Tensor", mean: Any, std: Any, **kwargs: Any) -> "torch.Tensor":
        normalized: torch.Tensor = self.rescale_and_normalize(images=image, image_mean=mean, image_std=std, **kwargs)
        return normalized.float()

    def _stacked(self, views: list["torch.Tensor"]) -> "torch.Tensor":
        return torch.stack(views)

    def _integers(self, values: Any) -> "torch.Tensor":
        return torch.tensor(values, dtype=torch.int64)

    def _array(self, array: np.ndarray) -> "torch.Tensor":
        return torch.from_numpy(array)


class FilaImageProcessorPil(_FilaImageProcessing, PilBackend):
    r"""Image processor of FILA on PIL and numpy; settings as `FilaImageProcessor`."""

    def _to_backend(self, pixels: np.ndarray, device: Any) -> np.ndarray:
        return pixels

    def _normalized(
        self,
        image: np.ndarray,
        mean: Any,
        std: Any,
        do_rescale: bool | None,
        rescale_factor: float | None,
        do_normalize: bool | None,
    ) -> np.ndarray:
        if image.dtype == np.uint8 and image.shape[-1] * image.shape[-2] > 256:
            # The 256 gray levels of each channel are computed once and looked up: the same floats, much faster.
            levels = np.tile(np.arange(256, dtype=np.uint8), (len(image), 1, 1))
            table = self._normalized(levels, mean, std, do_rescale, rescale_factor, do_normalize)[:, 0]
            return np.stack([np.take(row, plane) for row, plane in zip(table, image, strict=True)])
        if do_rescale:
            image = self.rescale(image, rescale_factor)
        if do_normalize:
            image = self.normalize(image, mean, std)
        return image.astype(np.float32, copy=False)

    def _stacked(self, views: list[np.ndarray]) -> np.ndarray:
        return np.stack(views)

    def _integers(self, values: Any) -> np.ndarray:
        return np.array(values, dtype=np.int64)

    def _array(self, array: np.ndarray) -> np.ndarray:
        return array


def _square(size: Any, name: str) -> Size:
    """Height and width of a tile setting; both towers' position grids are square."""
    given = dict(size) if isinstance(size, SizeDict) else get_size_dict(size, param_name=name)
    height, width = given.get("height"), given.get("width")
    if not (height and height == width and height > 0):
        raise ValueError(f"`{name}` must have equal, positive 'height' and 'width' (tiles are square); got {given}.")
    return Size(height, width)


def _canvas(options: Any, tile_size: Size) -> Canvas:
    try:
        return _cached_canvas(json.dumps(options), tile_size)
    except TypeError:
        return build_canvas(options, tile_size)


@functools.lru_cache(maxsize=64)
def _cached_canvas(options: str, tile_size: Size) -> Canvas:
    return build_canvas(json.loads(options), tile_size)
