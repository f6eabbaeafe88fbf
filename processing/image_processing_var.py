# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Image processors of VAR's tokenizer and generator: short side by Lanczos, centre crop, pixels in -1..1.

Code: FoundationVision/VAR @ 78b9539, `utils/data.py`: the short side becomes round(1.125 * resolution).

Two classes with one behaviour, as in `image_processing_fila.py`; torchvision below 0.27 resizes by bicubic instead.

    pixel_values  (B, 3, S, S)  float32, -1..1
"""

from typing import Any

import numpy as np
from PIL import Image
from transformers.image_processing_backends import PilBackend, TorchvisionBackend
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD, ImageInput, PILImageResampling
from transformers.utils import is_torch_available

from .image_input import load_images, to_channels_first

if is_torch_available():
    import torch


class _VarImageProcessing(BaseImageProcessor):
    """Base of both backends, mixed in before a backend of transformers."""

    size = {"shortest_edge": 288}  # noqa: RUF012
    crop_size = {"height": 256, "width": 256}  # noqa: RUF012
    default_to_square = False
    resample = PILImageResampling.LANCZOS
    image_mean = IMAGENET_STANDARD_MEAN
    image_std = IMAGENET_STANDARD_STD
    do_convert_rgb = True
    do_resize = True
    do_center_crop = True
    do_rescale = True
    do_normalize = True
    model_input_names = ["pixel_values"]  # noqa: RUF012

    def fetch_images(self, image_url_or_urls: object) -> object:
        """Load paths, URLs and bytes, turn images upright and check them; the nesting is kept."""
        return load_images(image_url_or_urls)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON; an `auto_map` names the classes of both backends."""
        output: dict[str, Any] = super().to_dict()
        if "AutoImageProcessor" in (output.get("auto_map") or {}):
            module = type(self).__module__.rpartition(".")[2]
            classes = {"torchvision": f"{module}.VarImageProcessor", "pil": f"{module}.VarImageProcessorPil"}
            output["auto_map"] = {**output["auto_map"], "AutoImageProcessor": classes}
        return output

    def post_process(self, images: "torch.Tensor") -> list[Image.Image]:
        """Convert a model's images, in -1..1, to PIL images.

        Args:
            images: `(B, 3, H, W)`.
        """
        pixels = (images.detach().float().cpu().permute(0, 2, 3, 1).numpy() + 1) * 127.5
        return [Image.fromarray(picture) for picture in pixels.round().clip(0, 255).astype(np.uint8)]

    def _prepare_image_like_inputs(self, images: ImageInput, *args: Any, **kwargs: Any) -> list[Any]:
        loaded = load_images(images)
        if not isinstance(loaded, list):
            loaded = [loaded]
        samples = enumerate(loaded) if loaded and isinstance(loaded[0], list) else [(None, loaded)]
        options = {"to_rgb": bool(kwargs.get("do_convert_rgb")), "to_uint8": bool(kwargs.get("do_rescale"))}
        return [
            self._to_backend(  # type: ignore[attr-defined]
                to_channels_first(image, sample, number, data_format=kwargs.get("input_data_format"), **options),
                kwargs.get("device"),
            )
            for sample, items in samples
            for number, image in enumerate(items)
        ]


class VarImageProcessor(_VarImageProcessing, TorchvisionBackend):
    r"""Image processor of VAR on torchvision.

    Args:
        size (`dict[str, int]`, *optional*, defaults to `{"shortest_edge": 288}`):
            Pixels of the short side after resizing.
        crop_size (`dict[str, int]`, *optional*, defaults to `{"height": 256, "width": 256}`):
            The centre that is kept.
        resample (`PILImageResampling`, *optional*, defaults to Lanczos):
            Filter of the resize.
        image_mean, image_std (`list[float]`, *optional*, default to 0.5):
            Bring 0..1 to -1..1.
        do_convert_rgb, do_resize, do_center_crop, do_rescale, do_normalize (`bool`, *optional*, default to `True`):
            Whether each step is done.
    """

    def _to_backend(self, pixels: np.ndarray, device: "str | torch.device | None") -> "torch.Tensor":
        pixels = np.ascontiguousarray(pixels)
        return torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).to(device)


class VarImageProcessorPil(_VarImageProcessing, PilBackend):
    r"""Image processor of VAR on PIL and numpy; settings as `VarImageProcessor`."""

    def _to_backend(self, pixels: np.ndarray, device: "str | torch.device | None") -> np.ndarray:
        return pixels


__all__ = ["VarImageProcessor", "VarImageProcessorPil"]
