# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Video processor of FILA: choose frames, then plan and render each of them as an image.

Tensors, one row per video (`W` videos in the batch, `F` frames of the video that has most); the rest as the image
processor makes it, frame by frame, see `image_processing_fila.py`:

    pixel_values_videos          (W, F, V, 3, S, S)    float32  zero beyond a video's frames
    video_view_boxes             (W, F, V, 4)          int64    all zero beyond a video's frames
    video_tile_grid              (W, F, 2)             int64
    video_high_res_pixel_values  (W, F, 3, Hmax, Wmax) float32  with a high-res canvas
    video_high_res_sizes         (W, F, 2)             int64
    video_patch_grids            (W, F, V, 2)          int64    where views differ in size

With `return_tensors=None` each entry is a list with one array per video. `return_metadata` adds `video_metadata`,
transformers' `VideoMetadata` per video, and `video_times`, the second of each frame or None.

Frames are drawn with PIL, so torchvision is not needed, although transformers' base class names it.
"""

import os
from typing import Any, Unpack

import numpy as np
from PIL import Image
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
    PILImageResampling,
    SizeDict,
)
from transformers.processing_utils import VideosKwargs
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoInput, VideoMetadata

from .canvas import Canvas, as_options
from .canvas_plan import CanvasPlan
from .image_batch import PIXELS
from .image_error import ImageInputError
from .image_fingerprint import SLIGHT, as_json
from .image_input import to_channels_first
from .image_pixels import has_fractions
from .image_processing_fila import DEFAULT_SIZE, FilaImageProcessorPil
from .video_error import VideoInputError
from .video_frame_crop import center_crop, center_crop_without_antialias
from .video_frame_sampling import DEFAULT_SAMPLING, Clip, all_sampling_options, check_sampling, frame_range, sample
from .video_progress import SlowProgress
from .video_source import Choose, Frames, load_videos

PASSED_BY_TRANSFORMERS = {"auto_map", "processor_class", "video_processor_type"}
RENDERING = (
    "canvas",
    "size",
    "high_res_size",
    "resample",
    "do_convert_rgb",
    "do_resize",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
    "high_res_image_mean",
    "high_res_image_std",
)
OF_IMAGES = {"pixel_values": "pixel_values_videos"}


class FilaVideoProcessorKwargs(VideosKwargs, total=False):
    r"""Arguments of a call besides transformers' `VideosKwargs`: the settings of `FilaVideoProcessor`."""

    canvas: dict[str, Any] | str
    high_res_size: int | list[int] | tuple[int, ...] | dict[str, int] | None
    high_res_image_mean: float | list[float] | tuple[float, ...] | None
    high_res_image_std: float | list[float] | tuple[float, ...] | None
    sampling: dict[str, Any]
    start: int | float | None
    end: int | float | None
    max_frames: int
    antialias: bool


class FilaVideoProcessor(BaseVideoProcessor):
    r"""Video processor of FILA.

    Args:
        sampling (`dict`, *optional*, defaults to `{"type": "uniform", "num_frames": 8}`):
                Rule that chooses the frames of an encoded video, see `video_frame_sampling.py`.
            canvas (`dict`, *optional*, defaults to `{"type": "single"}`):
            The canvas strategy of each frame. VideoLLaMA 2's "pad" is
            `{"type": "square_pad", "exact": True, "fill": [122, 116, 104]}`, its SigLIP models' is "single".
        do_center_crop (`bool`, *optional*, defaults to `False`):
            First resize the short side to `size` and crop the centre; needs the canvas "single".
        antialias (`bool`, *optional*, defaults to `True`):
            False: crop by plain bilinear interpolation, as CogVLM2-Video.
        max_frames (`int`, *optional*, defaults to 512):
            Most frames of a video; more raise an error.
        do_sample_frames (`bool`, *optional*):
            Whether frames are chosen. By default they are for encoded videos and folders, and for given frames only if
            the call names a rule.
        start, end (`float`, *optional*):
            Seconds between which frames are chosen.
        num_frames, fps (*optional*):
            Arguments of a call: transformers' even sampling in place of `sampling`, also between `start` and `end`.
        size, high_res_size, resample, image_mean, image_std, high_res_image_mean, high_res_image_std, do_convert_rgb,
        do_rescale, rescale_factor, do_normalize:
            As in `FilaImageProcessor`; there is no high-res canvas unless `high_res_size` is set.
    """

    valid_kwargs = FilaVideoProcessorKwargs  # type: ignore[assignment]

    # older transformers declares these as None
    sampling = DEFAULT_SAMPLING
    canvas = {"type": "single"}  # noqa: RUF012
    size = DEFAULT_SIZE  # type: ignore[assignment]
    high_res_size = None
    resample = PILImageResampling.BICUBIC  # type: ignore[assignment]
    image_mean = OPENAI_CLIP_MEAN  # type: ignore[assignment]
    image_std = OPENAI_CLIP_STD  # type: ignore[assignment]
    high_res_image_mean = IMAGENET_DEFAULT_MEAN
    high_res_image_std = IMAGENET_DEFAULT_STD
    do_convert_rgb = True  # type: ignore[assignment]
    do_resize = True  # type: ignore[assignment]
    do_rescale = True  # type: ignore[assignment]
    do_normalize = True  # type: ignore[assignment]
    do_center_crop = False  # type: ignore[assignment]
    antialias = True
    max_frames = 512
    write_code: Any = None  # of the `fila` package, where it is imported: see `FilaConfig`

    def __init__(self, **kwargs: Unpack[FilaVideoProcessorKwargs]) -> None:
        accepted = set(self.valid_kwargs.__annotations__)
        if unknown := sorted(set(kwargs) - accepted - PASSED_BY_TRANSFORMERS):
            raise ValueError(f"{type(self).__name__} has no setting {unknown}; it accepts {sorted(accepted)}.")
        if "canvas" in kwargs:
            kwargs["canvas"] = as_options(kwargs["canvas"])
        super().__init__(**kwargs)  # type: ignore[misc]
        check_sampling(self.sampling)

    @property
    def model_input_names(self) -> list[str]:  # type: ignore[override]
        """Names of the tensors that a call returns."""
        return [name_of(name) for name in self.images().model_input_names]

    def images(self, **overrides: Unpack[FilaVideoProcessorKwargs]) -> FilaImageProcessorPil:
        """Return the image processor that draws the frames; `overrides` as in a call."""
        settings: dict[str, Any] = {name: overrides.get(name, getattr(self, name, None)) for name in RENDERING}
        return FilaImageProcessorPil(**settings)

    def preprocessing(self) -> dict[str, Any]:
        """Return the settings that decide the frames and their pixels, with defaults, as plain JSON."""
        pixels = self.images().preprocessing()
        pixels = {name: value for name, value in pixels.items() if name not in SLIGHT}  # one code draws both
        crop = {"do_center_crop": self.do_center_crop, "antialias": self.antialias}
        return as_json({"sampling": all_sampling_options(self.sampling), **pixels, **crop})

    def plan(self, height: int, width: int, **overrides: Unpack[FilaVideoProcessorKwargs]) -> CanvasPlan:
        """Plan the canvas of a frame, without pixels."""
        return self.plans(**overrides)(height, width)

    def plans(self, **overrides: Unpack[FilaVideoProcessorKwargs]) -> Canvas:
        """Return the canvas strategy of these settings."""
        return self.images(**overrides).plans()

    def sample_frames(  # type: ignore[override]
        self, metadata: VideoMetadata, num_frames: int | None = None, fps: float | None = None, **kwargs: Any
    ) -> list[int]:
        """Return the frames of a video that a call with these arguments chooses.

        Args:
            metadata: `VideoMetadata`, or anything with `total_num_frames` and `fps`.
            num_frames, fps: Transformers' even sampling.
            kwargs: `sampling`, `start`, `end`; the processor's own by default.
        """
        own = {name: getattr(self, name, None) for name in ("start", "end")}
        return self._chosen(Clip(metadata.total_num_frames, metadata.fps), num_frames, fps, **{**own, **kwargs})

    def _chosen(
        self,
        clip: Clip,
        num_frames: int | None,
        fps: float | None,
        *,
        start: int | float | None = None,
        end: int | float | None = None,
        **kwargs: Any,
    ) -> list[int]:
        if num_frames is None and fps is None:
            return sample(kwargs.get("sampling") or self.sampling, clip, start=start, end=end)
        if num_frames is not None and fps is not None:
            raise ValueError("`num_frames` and `fps` are two ways to sample; pass one of them.")
        for name, value in (("num_frames", num_frames), ("fps", fps)):
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` must be positive; got {value!r}.")
        first, last = frame_range(clip, start, end)
        length = last - first + 1
        count = num_frames if fps is None else max(1, int(length / clip.rate() * fps))
        assert count is not None
        if count > length:
            raise ValueError(
                f"{count} frames were asked for, and the video has {length}"
                f"{'' if length == clip.num_frames else ' between `start` and `end`'}. Ask for fewer, or set "
                '`sampling={"type": "uniform", ...}`, which repeats frames.'
            )
        return [first + index * length // count for index in range(count)]

    def preprocess(self, videos: VideoInput, **kwargs: Unpack[FilaVideoProcessorKwargs]) -> BatchFeature:
        """Load videos, choose their frames, draw them and pack the tensors.

        Raises:
            VideoInputError: For the first video that cannot be used.
            ValueError: If an option is unknown or does not fit.
        """
        accepted = set(self.valid_kwargs.__annotations__)
        if unknown := sorted(set(kwargs) - accepted - {"return_tensors"}):
            raise ValueError(f"{type(self).__name__} has no setting {unknown}; it accepts {sorted(accepted)}.")
        if kwargs.get("crop_size", getattr(self, "crop_size", None)):
            raise ValueError("`crop_size` is not supported: `do_center_crop` cuts out a square of `size`.")
        progress = SlowProgress()
        try:
            loaded = load_videos(
                videos, self._chooser(kwargs), metadata=kwargs.get("video_metadata"), progress=progress
            )
        finally:
            progress.close()
        data = self._rendered(loaded, dict(kwargs))
        tensors = kwargs.get("return_tensors")
        batch = BatchFeature(_padded(data) if tensors is not None else data, tensor_type=tensors)
        device = kwargs.get("device", getattr(self, "device", None))
        if tensors == "pt" and device is not None:  # pixels alone, as those of images
            batch.update({name_of(name): batch[name_of(name)].to(device) for name in PIXELS if name_of(name) in batch})
        if kwargs.get("return_metadata", self.return_metadata):
            batch["video_metadata"] = [_metadata(video) for video in loaded]
            batch["video_times"] = [video.times for video in loaded]
        return batch

    def _chooser(self, kwargs: FilaVideoProcessorKwargs) -> Choose:
        """Return the function that chooses a call's frames of a clip."""
        asked = any(kwargs.get(name) is not None for name in ("num_frames", "fps", "sampling"))
        wanted = kwargs.get("do_sample_frames", getattr(self, "do_sample_frames", None))
        most = kwargs.get("max_frames", self.max_frames)
        if not isinstance(most, int) or isinstance(most, bool) or most < 1:
            raise ValueError(f"`max_frames` must be a positive integer; got {most!r}.")

        def choose(clip: Clip, given: bool) -> list[int]:
            samples = (asked or not given) if wanted is None else wanted
            options: dict[str, Any] = {
                name: kwargs.get(name, getattr(self, name, None)) for name in ("start", "end", "sampling")
            }
            indices = list(range(clip.num_frames))
            if samples:
                indices = self._chosen(clip, kwargs.get("num_frames"), kwargs.get("fps"), **options)
            if len(indices) > most:
                raise ValueError(
                    f"{len(indices)} frames of a video would be shown, and `max_frames` is {most}. Sample fewer, for "
                    'instance `sampling={"type": "uniform", "num_frames": 32}`, or raise it.'
                )
            return indices

        return choose

    def _rendered(self, loaded: list[Frames], kwargs: dict[str, Any]) -> dict[str, list[np.ndarray]]:
        """Return the image processor's arrays of each video, frames stacked."""
        crop = kwargs.get("do_center_crop", self.do_center_crop)
        antialias = kwargs.get("antialias", self.antialias)
        processor = self.images(**{name: value for name, value in kwargs.items() if name in RENDERING})
        tile = processor.size["height"], processor.size["width"]
        if crop and processor.plans()(*tile).view_sizes != (tile,):
            raise ValueError(
                "`do_center_crop` cuts frames of one tile, so the canvas must show such a frame in one view of that "
                f'size, as "single" does; got {processor.canvas}.'
            )
        if crop and not antialias and not processor.do_rescale:
            raise ValueError("`antialias=False` gives values of 0..1; it goes with `do_rescale`.")
        data: dict[str, list[np.ndarray]] = {}
        for number, video in enumerate(loaded):
            frames = video.frames
            options: dict[str, Any] = {}
            try:
                if crop:
                    side = _side(processor.size)
                    if not processor.do_rescale:
                        _refuse_fractions(frames)
                    channels = [_rgb(frame, index, to_uint8=antialias) for index, frame in enumerate(frames)]
                    if antialias:
                        frames = [center_crop(_picture(frame), side, processor.resample) for frame in channels]
                    else:
                        frames = [center_crop_without_antialias(frame, side) for frame in channels]
                        options = {"do_rescale": False, "input_data_format": "channels_first"}
                elif kwargs.get("input_data_format") is not None:
                    options = {"input_data_format": kwargs["input_data_format"]}
                batch = processor(images=frames, return_tensors="np", **options)
            except ImageInputError as error:
                raise VideoInputError(
                    number, f"has a frame, number {error.image}, that {error.reason}", error.fix
                ) from error
            for name, array in batch.items():
                data.setdefault(name_of(name), []).append(np.asarray(array))
        return data

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON with the `auto_map`, also inside a processor's file."""
        output: dict[str, Any] = super().to_dict()
        if self._auto_class is not None:
            module = type(self).__module__.rpartition(".")[2]
            output["auto_map"] = {"AutoVideoProcessor": f"{module}.{type(self).__name__}"}
        return output

    def to_json_file(self, json_file_path: str | os.PathLike[str]) -> None:
        """Write the settings. With `fila`, and where transformers copied code, write the code that they use too."""
        if self.write_code is not None:
            self.write_code(self, json_file_path)
        super().to_json_file(json_file_path)


def name_of(image_input: str) -> str:
    """Return the name for videos of a tensor of images."""
    return OF_IMAGES.get(image_input, f"video_{image_input}")


def _padded(data: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Pad with zeros to the largest of each side and stack."""
    padded = {}
    for name, arrays in data.items():
        shape = tuple(max(sides) for sides in zip(*(array.shape for array in arrays), strict=True))
        padded[name] = np.zeros((len(arrays), *shape), arrays[0].dtype)
        for row, array in zip(padded[name], arrays, strict=True):
            row[tuple(slice(side) for side in array.shape)] = array
    return padded


def _rgb(frame: object, number: int, *, to_uint8: bool) -> np.ndarray:
    return np.asarray(to_channels_first(frame, None, number, to_rgb=True, to_uint8=to_uint8, data_format=None))


def _refuse_fractions(frames: list[Any]) -> None:
    """Reject fractions without `do_rescale`: cropped frames are of 0..255 and no longer the given fractions."""
    for number, frame in enumerate(frames):
        if has_fractions(frame):
            reason = "has floats within 0..1, which `do_center_crop` keeps only with `do_rescale`"
            raise ImageInputError(None, number, reason, "Leave `do_rescale` on, or convert it to uint8.")


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _side(size: SizeDict | dict[str, int]) -> int:
    return int((dict(size) if isinstance(size, SizeDict) else size)["height"])


def _metadata(video: Frames) -> VideoMetadata:
    clip = video.clip
    duration = None if clip.fps is None else clip.num_frames / clip.fps
    return VideoMetadata(
        total_num_frames=clip.num_frames, fps=clip.fps, duration=duration, frames_indices=list(video.indices)
    )


__all__ = ["FilaVideoProcessor"]
